//! API keys in the state file: one rotation each, whoever races; descendants revoked with their ancestor; last uses.

use super::*;

fn key(id: &str) -> KeyRow {
    KeyRow { id: id.into(), tenant: "acme".into(), hash: [9; 32], created_ms: 5, ..KeyRow::default() }
}

fn rotate(parent: &str, child: &str) -> Command {
    let child = KeyRow { parent: Some(parent.into()), chain: Some(("k1".into(), 5)), created_ms: 50, ..key(child) };
    Command::KeyRotate { child, at_ms: 50, until_ms: 60 }
}

fn revoked(restored: &Restored) -> Vec<(&str, bool)> {
    restored.keys.iter().map(|key| (key.id.as_str(), key.revoked_ms.is_some())).collect()
}

#[test]
fn a_key_is_rotated_once_whoever_races() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    write(&store, Command::KeyCreate(key("k1"))).unwrap();
    bench.fail(Fault::Delay(Duration::from_millis(20)));
    // In one group: what contradicts fails alone, and takes its own audit line with it.
    let racing = ["a", "b", "c", "d"]
        .map(|child| Command::Batch(vec![Command::AdminAudit(Box::new(deny(1, "key.rotate"))), rotate("k1", child)]))
        .map(|command| store.submit(command).unwrap());
    let answers: Vec<_> = racing.into_iter().map(wait).collect();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    assert!(
        answers.iter().flat_map(|answer| answer.as_ref().err()).all(|error| matches!(error, WriteError::Conflict(_)))
    );
    bench.fail(Fault::None);
    write(&store, Command::KeyCreate(key("k9"))).unwrap();
    for (parent, child) in [("k1", "e"), ("k9", "k1"), ("nobody", "f"), ("k9", "k9")] {
        assert!(matches!(write(&store, rotate(parent, child)), Err(WriteError::Conflict(_))), "{parent} {child}");
    }
    write(&store, Command::KeyRevoke { id: "k9".into(), at_ms: 70 }).unwrap();
    assert!(matches!(write(&store, rotate("k9", "g")), Err(WriteError::Conflict(_))), "it is revoked");
    drop(store);
    let (_, restored) = bench.open();
    let child = restored.keys.iter().find(|key| key.parent.is_some()).unwrap();
    assert_eq!((child.parent.as_deref(), &child.chain), (Some("k1"), &Some(("k1".to_owned(), 5))));
    let parent = restored.keys.iter().find(|key| key.id == "k1").unwrap();
    assert_eq!((parent.rotated, parent.chain.as_ref()), (Some((50, 60)), None));
    let last = restored.keys.iter().find(|key| key.id == "k9").unwrap();
    assert_eq!((restored.keys.len(), last.rotated), (3, None), "a refused rotation marks nothing");
}

#[test]
fn what_came_of_a_key_is_revoked_with_it_and_nothing_else_is() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    write(&store, Command::KeyCreate(key("k1"))).unwrap();
    write(&store, Command::KeyCreate(key("other"))).unwrap();
    for (parent, child) in [("k1", "k2"), ("k2", "k3"), ("k3", "k4")] {
        write(&store, rotate(parent, child)).unwrap();
    }
    write(&store, Command::KeyRevoke { id: "k4".into(), at_ms: 70 }).unwrap();
    write(&store, Command::KeyRevoke { id: "k2".into(), at_ms: 80 }).unwrap();
    drop(store);
    let (_, restored) = bench.open();
    assert_eq!(revoked(&restored), [("k1", false), ("k2", true), ("k3", true), ("k4", true), ("other", false)]);
    let first = restored.keys.iter().find(|key| key.id == "k4").unwrap();
    assert_eq!(first.revoked_ms, Some(70), "the first revocation is the one that is kept");
}

#[test]
fn last_uses_come_back_and_never_go_back() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    write(&store, Command::KeyCreate(key("k1"))).unwrap();
    write(&store, Command::KeysUsed(vec![("k1".into(), 900), ("nobody".into(), 1)])).unwrap();
    write(&store, Command::KeysUsed(vec![("k1".into(), 800)])).unwrap();
    drop(store);
    assert_eq!(bench.open().1.keys, [KeyRow { used_ms: Some(900), ..key("k1") }]);
}
