//! What is held, until when, and in how much room.

use gateway_core::gate::{Revocation, SyncResponse};
use gateway_core::wire;
use proptest::prelude::*;
use prost::bytes::Bytes;

use super::*;

mod stale;

fn grant() -> Grant {
    Grant {
        id: vec![7; 16].into(),
        tenant: "acme".into(),
        key_id: "k1".into(),
        method: "POST".into(),
        authority: "api.example".into(),
        path: "/v1/chat/completions".into(),
        lifetime_ms: 65_000,
        hold_ms: 10_000,
        epoch: 5,
        scope_set: "acme/k1".into(),
        terms: Some(AdmissionTerms { body_bytes: 9, ..AdmissionTerms::default() }),
        ..Grant::default()
    }
}

fn signed(grant: &Grant) -> Bytes {
    SignedGrant { grant: grant.encode_to_vec().into(), mac: vec![1; 32].into() }.encode_to_vec().into()
}

fn handle(grant: &Grant) -> Bytes {
    signed(&Grant { terms: None, handle: Bytes::new(), ..grant.clone() })
}

fn received(grant: Grant, received_ms: u64) -> Rc<HeldGrant<u64>> {
    let grant = Grant { handle: handle(&grant), ..grant };
    let held = Held { signed: signed(&grant), grant, received_ms };
    Rc::new(HeldGrant::new(held, |terms| Ok(terms.map_or(0, |terms| terms.body_bytes))).unwrap())
}

fn key(path: &str) -> RequestKey {
    let credential = Some(("authorization", &b"Bearer k"[..]));
    Inputs { method: "POST", authority: "api.example", path, credential, claim: None, certificate: None }.key()
}

/// A worker whose report of `now_ms` was answered.
fn told(known: &mut Revocations, sequence: u64, now_ms: u64, epoch: u64, revocations: Vec<Revocation>) {
    known.sent(sequence, now_ms);
    known.told(&SyncResponse { sequence, epoch, revocations, floor: 0 });
}

fn fresh() -> Revocations {
    let mut known = Revocations::default();
    told(&mut known, 1, 1_000, 5, Vec::new());
    known
}

#[test]
fn a_grant_is_taken_apart() {
    let held = received(grant(), 1_000);
    assert_eq!((held.terms, held.until_ms), (9, 11_000));
    assert_eq!(held.held.signed, handle(&grant()));
    let (_, read) = wire::decode_grant(held.text.as_bytes()).unwrap();
    assert_eq!(read, Grant { terms: None, ..grant() });
    assert_eq!(held.held.grant, Grant { terms: None, ..grant() }, "neither terms nor handle are kept twice");
    assert_eq!(received(Grant { lifetime_ms: 300, ..grant() }, 1_000).until_ms, 1_300, "not past its lifetime");
}

#[test]
fn a_handle_of_another_grant_is_refused() {
    let others = [
        Grant { tenant: "globex".into(), ..grant() },
        Grant { id: vec![8; 16].into(), ..grant() },
        Grant { scope_set: "acme".into(), ..grant() },
    ];
    let bad = others.iter().map(handle).chain([Bytes::from_static(b"\xff"), grant().encode_to_vec().into()]);
    for handle in bad {
        let grant = Grant { handle, ..grant() };
        let held = Held { signed: signed(&grant), grant, received_ms: 0 };
        assert_eq!(HeldGrant::new(held, |_| Ok(())).unwrap_err().code, Code::NotAdmitted);
    }
    let held = Held { signed: signed(&grant()), grant: grant(), received_ms: 0 };
    assert_eq!(HeldGrant::new(held.clone(), |_| Ok(())).unwrap().held.signed, held.signed, "none: a data endpoint");
    let refused = HeldGrant::<()>::new(held, |_| Err(Code::Internal.into()));
    assert_eq!(refused.unwrap_err().code, Code::Internal);
}

#[test]
fn it_is_held_for_its_time_and_its_request() {
    let (mut grants, mut known) = (HeldGrants::default(), fresh());
    grants.insert(key("/a"), received(grant(), 1_000), 1_000);
    assert!(grants.get(&key("/a"), &mut known, 1_000).is_some());
    assert!(grants.get(&key("/b"), &mut known, 1_000).is_none());
    told(&mut known, 2, 10_900, 5, Vec::new());
    assert!(grants.get(&key("/a"), &mut known, 10_999).is_some());
    assert!(grants.get(&key("/a"), &mut known, 11_000).is_none());
    assert!(grants.is_empty(), "and forgotten");
}

#[test]
fn what_was_made_for_one_request_is_not_held() {
    let mut grants = HeldGrants::default();
    for bad in [Grant { hold_ms: 0, ..grant() }, Grant { epoch: 0, ..grant() }, Grant { lifetime_ms: 0, ..grant() }] {
        grants.insert(key("/a"), received(grant(), 1_000), 1_000);
        grants.insert(key("/a"), received(bad, 1_000), 1_000);
        assert!(grants.is_empty(), "nor what it replaces");
    }
    grants.insert(key("/a"), received(grant(), 1_001), 1_000);
    assert!(grants.is_empty(), "from the future");
    grants.insert(key("/a"), received(grant(), 0), 10_000);
    assert!(grants.is_empty(), "late");
}

#[test]
fn only_by_a_worker_that_has_lately_synced() {
    let mut grants = HeldGrants::default();
    grants.insert(key("/a"), received(grant(), 1_000), 1_000);
    assert!(grants.get(&key("/a"), &mut Revocations::default(), 1_000).is_none());
    let mut known = fresh();
    assert!(grants.get(&key("/a"), &mut known, 3_000).is_some());
    assert!(grants.get(&key("/a"), &mut known, 3_001).is_none());
    told(&mut known, 2, 3_100, 5, Vec::new());
    assert!(grants.get(&key("/a"), &mut known, 3_200).is_some(), "again, once it knows that nothing voided it");
}

#[test]
fn a_revocation_ends_it_and_what_it_overtook() {
    let revocation = || vec![Revocation { epoch: 6, tenant: "acme".into(), key_id: "k1".into() }];
    let (mut grants, mut known) = (HeldGrants::default(), fresh());
    grants.insert(key("/a"), received(grant(), 1_000), 1_000);
    assert!(grants.get(&key("/a"), &mut known, 1_100).is_some());
    told(&mut known, 2, 1_100, 6, revocation());
    assert!(grants.get(&key("/a"), &mut known, 1_100).is_none());
    assert!(grants.is_empty());
    grants.insert(key("/a"), received(grant(), 1_200), 1_200);
    assert!(grants.get(&key("/a"), &mut known, 1_200).is_none(), "decided before, received after");
    grants.insert(key("/a"), received(Grant { epoch: 6, ..grant() }, 1_200), 1_200);
    assert!(grants.get(&key("/a"), &mut known, 1_200).is_some(), "decided after");
    grants.insert(key("/b"), received(Grant { key_id: "k2".into(), ..grant() }, 1_200), 1_200);
    assert!(grants.get(&key("/b"), &mut known, 1_200).is_some(), "another key");
}

#[test]
fn a_clock_that_went_backwards_forgets_all() {
    let (mut grants, mut known) = (HeldGrants::default(), fresh());
    for after in 0..3 {
        grants.insert(key("/a"), received(grant(), 1_000), 1_500);
        match after {
            0 => assert!(grants.get(&key("/a"), &mut known, 1_499).is_none()),
            1 => grants.expire(1_499),
            _ => grants.insert(key("/b"), received(grant(), 1_000), 1_499),
        }
        assert_eq!(grants.len(), usize::from(after == 2));
        grants.expire(1_500);
        told(&mut known, 2, 1_500, 5, Vec::new());
        assert!(grants.get(&key("/a"), &mut known, 1_500).is_none());
    }
}

#[test]
fn the_expired_go_first_then_the_oldest() {
    let (mut grants, mut known) = (HeldGrants::new(3, MOST_BYTES), fresh());
    let held = |hold_ms| received(Grant { hold_ms, ..grant() }, 1_000);
    grants.insert(key("/1"), held(5_000), 1_000);
    grants.insert(key("/2"), held(100), 1_000);
    grants.insert(key("/3"), held(5_000), 1_000);
    grants.insert(key("/4"), held(5_000), 1_100);
    let mut has = |grants: &mut HeldGrants<u64>| -> String {
        let paths = ["/1", "/2", "/3", "/4", "/5"];
        paths.into_iter().filter(|path| grants.get(&key(path), &mut known, 1_100).is_some()).collect()
    };
    assert_eq!(has(&mut grants), "/1/3/4");
    grants.insert(key("/5"), held(5_000), 1_100);
    assert_eq!(has(&mut grants), "/3/4/5");
    grants.insert(key("/3"), held(5_000), 1_100);
    grants.insert(key("/1"), held(5_000), 1_100);
    assert_eq!(has(&mut grants), "/1/3/5", "what was renewed is young");
    let mut none = HeldGrants::new(0, MOST_BYTES);
    none.insert(key("/1"), held(5_000), 1_000);
    assert!(none.is_empty());
}

#[test]
fn keys_and_terms_count_in_bytes() {
    let long = |n: usize| format!("/{n}{}", "x".repeat(4_000));
    let (mut grants, mut known) = (HeldGrants::new(MOST, 64 * 1024), fresh());
    for n in 0..100 {
        grants.insert(key(&long(n)), received(grant(), 1_000), 1_000);
        assert!(grants.bytes <= 64 * 1024);
    }
    assert!((8..=15).contains(&grants.len()), "{}", grants.len());
    assert!(grants.get(&key(&long(99)), &mut known, 1_000).is_some());
    let extra_fields = (0..10_000).map(|n| format!("field-{n}")).collect();
    let terms = AdmissionTerms { extra_fields, ..AdmissionTerms::default() };
    grants.insert(key("/large"), received(Grant { terms: Some(terms), ..grant() }, 1_000), 1_000);
    assert!(grants.get(&key("/large"), &mut known, 1_000).is_none(), "larger than all the room");
    assert!(!grants.is_empty(), "and nothing makes way for it");
}

#[test]
fn the_last_look_up_is_wiped_at_the_tick() {
    let (mut grants, mut known) = (HeldGrants::<u64>::default(), fresh());
    let credential = Some(("authorization", &b"Bearer canary"[..]));
    let inputs = Inputs { method: "GET", authority: "a", path: "/", credential, claim: None, certificate: None };
    assert!(grants.find(&inputs, &mut known, 1_000).is_none());
    assert!(!grants.scratch.is_empty());
    grants.expire(1_000);
    assert!(grants.scratch.is_empty());
}

#[derive(Clone, Debug)]
enum Act {
    Insert { path: u8, hold_ms: u32, epoch: u64 },
    Get { path: u8 },
    Expire,
}

fn act() -> impl Strategy<Value = (Act, u64)> {
    let act = prop_oneof![
        4 => (0_u8..12, 0_u32..400, 0_u64..9).prop_map(|(path, hold_ms, epoch)| Act::Insert { path, hold_ms, epoch }),
        4 => (0_u8..12).prop_map(|path| Act::Get { path }),
        1 => Just(Act::Expire),
    ];
    (act, 0_u64..60)
}

proptest! {
    /// Against a plain list: the same answers, and the three indexes and the sum of bytes never drift apart.
    #[test]
    fn it_answers_as_a_list_would(acts in proptest::collection::vec(act(), 1..120)) {
        let (mut grants, mut known, mut list) = (HeldGrants::new(6, MOST_BYTES), Revocations::default(), Vec::new());
        let mut now_ms = 1_000;
        for (at, (act, later)) in acts.into_iter().enumerate() {
            now_ms += later;
            told(&mut known, at as u64, now_ms, 1, Vec::new());
            match act {
                Act::Insert { path, hold_ms, epoch } => {
                    let held = received(Grant { hold_ms, epoch, ..grant() }, now_ms);
                    grants.insert(key(&path.to_string()), Rc::clone(&held), now_ms);
                    list.retain(|(other, _, until)| *other != path && *until > now_ms);
                    if hold_ms > 0 && epoch > 0 {
                        if list.len() == 6 {
                            list.remove(0);
                        }
                        list.push((path, held, now_ms + u64::from(hold_ms)));
                    }
                }
                Act::Get { path } => {
                    let found = grants.get(&key(&path.to_string()), &mut known, now_ms);
                    let want = list.iter().find(|(other, _, until)| *other == path && *until > now_ms);
                    prop_assert_eq!(found.is_some(), want.is_some());
                    if let (Some(found), Some((_, want, _))) = (found, want) {
                        prop_assert!(Rc::ptr_eq(&found, want));
                    }
                }
                Act::Expire => grants.expire(now_ms),
            }
            prop_assert!(grants.len() <= 6);
            prop_assert_eq!(grants.by_key.len(), grants.len());
            prop_assert_eq!(grants.ends.len(), grants.len());
            prop_assert_eq!(grants.bytes, grants.entries.values().map(Entry::size).sum::<usize>());
        }
    }
}
