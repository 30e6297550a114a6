//! Rotations over a real state file and a real directory of resources, with a clock of the test's.

use std::collections::BTreeSet;
use std::fs;

use super::*;
use crate::admin::operations::tests::{BY, House, actions, asked, create, house};
use crate::admin::{CreatedKey, KeyState, NewKeyBody, Operations as _};

fn rotation(key: &str) -> RotateKey {
    let tenant = TenantName::parse("acme").unwrap();
    RotateKey { key_id: key.into(), tenant, overlap: Duration::from_secs(600), request_id: "r-1".into() }
}

async fn rotate(house: &Arc<House>, key: &str, now: Timestamp) -> Result<RotatedKey, RotateError> {
    rotate_key(house.clone(), rotation(key), now).await
}

fn later(created: &CreatedKey, seconds: i64) -> Timestamp {
    // A key of a day.
    created.expires_at - SignedDuration::from_hours(24) + SignedDuration::from_secs(seconds)
}

fn is_good(house: &House, key: &str, now: Timestamp) -> Result<(), &'static str> {
    let parsed = api_key::ApiKeyText::parse(key).unwrap();
    let (records, registry) = (house.keys(), house.registry());
    let terms = registry.keys.get(&parsed.id).map(AsRef::as_ref);
    api_key::check(&parsed, records.get(&parsed.id), || terms, None, now).map(drop).map_err(|error| error.reason())
}

fn files(house: &House) -> BTreeSet<String> {
    let names = fs::read_dir(house.policies().join("api-keys")).unwrap();
    names.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn the_key_that_takes_over_is_the_same_again_and_the_old_one_ends_with_the_overlap() {
    let (admin, house) = house();
    let body = NewKeyBody { models: Some(vec!["llama".into()]), ..asked("acme") };
    let old = create(&admin, body).await.unwrap();
    let now = later(&old, 3_600);
    let new = rotate(&house, &old.id, now).await.unwrap();
    assert_eq!((new.parent.as_str(), new.overlap_until), (old.id.as_str(), now + SignedDuration::from_mins(10)));
    assert_eq!(new.expires_at, now + SignedDuration::from_hours(24), "as long as the first one lived");
    let (registry, second) = (house.registry(), SignedDuration::from_secs(1));
    let (first, next) = (&registry.keys[&old.id], &registry.keys[&new.id]);
    assert_eq!((&next.permits, &next.limits, &next.sources), (&first.permits, &first.limits, &first.sources));
    assert_eq!(next.written, first.written);
    for (key, at, want) in [
        (old.key.expose(), now, Ok(())),
        (new.key.expose(), now, Ok(())),
        (old.key.expose(), new.overlap_until - second, Ok(())),
        (old.key.expose(), new.overlap_until, Err("api key: expired")),
        (new.key.expose(), new.overlap_until, Ok(())),
        (new.key.expose(), new.expires_at - second, Ok(())),
        (new.key.expose(), new.expires_at, Err("api key: expired")),
    ] {
        assert_eq!(is_good(&house, key, at), want, "{at}");
    }
    let page = admin.audit(None, 1).await.unwrap();
    let line: serde_json::Value = serde_json::from_str(page.records[0].get()).unwrap();
    assert_eq!(
        (&line["code"], &line["principal"], &line["keyId"], &line["tenant"], &line["requestId"]),
        (
            &"key.rotate".into(),
            &format!("key:{}", old.id).into(),
            &old.id.clone().into(),
            &"acme".into(),
            &"r-1".into()
        )
    );
    let detail = line["detail"].as_str().unwrap();
    assert!(detail.contains(&new.id) && !detail.contains(new.key.expose()), "{detail}");
    let rows = admin.list_keys(None).await.unwrap();
    let row = |id: &str| rows.iter().find(|row| row.id == id).unwrap();
    assert_eq!((row(&old.id).child.as_ref(), &row(&old.id).parent), (Some(&new.id), &None));
    assert_eq!((row(&new.id).parent.as_ref(), &row(&new.id).child), (Some(&old.id), &None));
    assert_eq!(row(&old.id).expires_at, Some(new.overlap_until));
}

#[tokio::test]
async fn a_key_is_rotated_once_and_racing_calls_make_one_child() {
    let (admin, house) = house();
    let old = create(&admin, asked("acme")).await.unwrap();
    let now = later(&old, 60);
    let racing: Vec<_> = (0..8).map(|_| tokio::spawn(rotate_key(house.clone(), rotation(&old.id), now))).collect();
    let mut made = Vec::new();
    for one in racing {
        match one.await.unwrap() {
            Ok(new) => made.push(new.id),
            Err(error) => assert_eq!(error, RotateError::RotatedBefore),
        }
    }
    assert_eq!((made.len(), house.keys().len(), files(&house).len()), (1, 2, 2));
    assert_eq!(rotate(&house, &old.id, now).await.unwrap_err(), RotateError::RotatedBefore);
    let second = rotate(&house, &made[0], now).await.unwrap();
    let chain: BTreeSet<String> = house.keys().values().map(|record| record.chain.id.clone()).collect();
    assert_eq!(chain, BTreeSet::from([old.id.clone()]));
    assert_eq!(house.keys()[&second.id].chain.began_at, house.keys()[&old.id].created_at);
    assert_eq!(actions(&admin).await.iter().filter(|line| line.starts_with("key.rotate")).count(), 2);
}

#[tokio::test]
async fn what_breaks_off_leaves_no_key_and_the_old_one_as_it_was() {
    let (admin, house) = house();
    let old = create(&admin, asked("acme")).await.unwrap();
    let (now, before) = (later(&old, 60), files(&house));
    house.fail_disk(true);
    assert!(matches!(rotate(&house, &old.id, now).await, Err(RotateError::Failed(_))));
    house.fail_disk(false);
    assert_eq!((files(&house), house.keys().len(), house.registry().keys.len()), (before.clone(), 1, 1));
    // A bad set on the disk: nothing can be put in force.
    let bad = house.policies().join("bad.yaml");
    fs::write(&bad, "nonsense: 1").unwrap();
    assert!(matches!(rotate(&house, &old.id, now).await, Err(RotateError::Failed(AdminError::PoliciesRefused { .. }))));
    fs::remove_file(bad).unwrap();
    assert_eq!((files(&house), is_good(&house, old.key.expose(), now)), (before, Ok(())));
    // What a crash between the file and the commit leaves: a file without a hash. It opens nothing and stops nobody.
    let left = fs::read_to_string(&old.file).unwrap().replace(&old.id, "leftover0000");
    fs::write(house.policies().join("api-keys/leftover0000.yaml"), left).unwrap();
    let new = rotate(&house, &old.id, now).await.unwrap();
    assert_eq!(is_good(&house, new.key.expose(), now), Ok(()));
    let rows = admin.list_keys(None).await.unwrap();
    let state = rows.iter().find(|row| row.id == "leftover0000").unwrap().state;
    assert_eq!(state, KeyState::NoHash);
}

#[tokio::test]
async fn a_chain_and_its_keys_get_no_older_than_the_tenant_says() {
    let (admin, house) = house();
    house.edit("namespaces: [acme]}", "namespaces: [acme], keys: {maxAge: 24h, maxChainAge: 48h}}").await;
    let long = create(&admin, NewKeyBody { ttl: Some("25h".into()), ..asked("acme") }).await.unwrap_err();
    assert_eq!(long.to_string(), "keys of tenant `acme` live at most 24h");
    let first = create(&admin, asked("acme")).await.unwrap();
    let (began, minute) = (later(&first, 0), SignedDuration::from_mins(1));
    let second = rotate(&house, &first.id, began + SignedDuration::from_hours(23)).await.unwrap();
    assert_eq!(second.expires_at, began + SignedDuration::from_hours(47));
    let third = rotate(&house, &second.id, began + SignedDuration::from_hours(46)).await.unwrap();
    let chain_ends = began + SignedDuration::from_hours(48);
    assert_eq!(third.expires_at, chain_ends, "and not a day later");
    let late = chain_ends - minute + SignedDuration::from_secs(1);
    assert_eq!(rotate(&house, &third.id, late).await.unwrap_err(), RotateError::ChainEnds);
    let fourth = rotate(&house, &third.id, chain_ends - minute).await.unwrap();
    assert_eq!(fourth.expires_at, chain_ends);
    assert_eq!(fourth.overlap_until, chain_ends, "the overlap ends with the key itself");
    assert_eq!(rotate(&house, &fourth.id, chain_ends).await.unwrap_err(), RotateError::NotInForce("api key: expired"));
    // A tenant that says less ends what is there.
    let other = create(&admin, NewKeyBody { ttl: Some("24h".into()), ..asked("acme") }).await.unwrap();
    house.edit("maxChainAge: 48h", "maxChainAge: 24h").await;
    assert_eq!(is_good(&house, fourth.key.expose(), began + SignedDuration::from_hours(24)), Err("api key: expired"));
    assert_eq!(is_good(&house, other.key.expose(), later(&other, 86_399)), Ok(()));
}

#[tokio::test]
async fn only_a_key_in_force_of_that_tenant_is_rotated() {
    let (admin, house) = house();
    let old = create(&admin, asked("acme")).await.unwrap();
    let now = later(&old, 60);
    let theirs = RotateKey { tenant: TenantName::parse("globex").unwrap(), ..rotation(&old.id) };
    let stranger = rotate_key(house.clone(), theirs, now).await.unwrap_err();
    assert_eq!(stranger, RotateError::NotInForce("api key: another tenant's"));
    assert_eq!(rotate(&house, "nobody", now).await.unwrap_err(), RotateError::NotInForce("unknown"));
    admin.revoke_key(BY, old.id.clone()).await.unwrap();
    assert_eq!(rotate(&house, &old.id, now).await.unwrap_err(), RotateError::NotInForce("api key: revoked"));
    assert_eq!(house.keys().len(), 1);
}

#[tokio::test]
async fn a_chain_gets_a_dozen_keys_an_hour() {
    let (admin, house) = house();
    let first = create(&admin, asked("acme")).await.unwrap();
    let (mut newest, now) = (first.id.clone(), later(&first, 0));
    for n in 0..11 {
        newest = rotate(&house, &newest, now + SignedDuration::from_mins(n)).await.unwrap().id;
    }
    let at = |minutes| now + SignedDuration::from_mins(minutes);
    let refused = rotate(&house, &newest, at(20)).await.unwrap_err();
    assert_eq!(refused, RotateError::TooOften(Duration::from_secs(40 * 60)), "until the first is an hour old");
    assert!(rotate(&house, &newest, at(60)).await.is_ok());
    let other = create(&admin, asked("acme")).await.unwrap();
    assert!(rotate(&house, &other.id, later(&other, 1)).await.is_ok(), "another chain");
}

#[tokio::test]
async fn a_revoked_key_takes_what_came_of_it_along() {
    let (admin, house) = house();
    let (first, other) = (create(&admin, asked("acme")).await.unwrap(), create(&admin, asked("acme")).await.unwrap());
    let now = later(&first, 60);
    let second = rotate(&house, &first.id, now).await.unwrap();
    let third = rotate(&house, &second.id, now).await.unwrap();
    // The child alone: its parent goes on.
    let rows = admin.revoke_key(BY, second.id.clone()).await.unwrap();
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, [second.id.as_str(), &third.id]);
    let good = |key: &str| is_good(&house, key, now);
    assert_eq!(good(first.key.expose()), Ok(()));
    assert_eq!(
        (good(second.key.expose()), good(third.key.expose())),
        (Err("api key: revoked"), Err("api key: revoked"))
    );
    let said = actions(&admin).await;
    assert_eq!(said.iter().filter(|line| line.starts_with("key.revoke ")).count(), 2, "{said:?}");
    // A key whose child is revoked was rotated all the same.
    assert_eq!(rotate(&house, &first.id, now).await.unwrap_err(), RotateError::RotatedBefore);
    // Everything of the tenant, those that are there twice.
    let acme = TenantName::parse("acme").unwrap();
    for _ in 0..2 {
        assert_eq!(admin.revoke_keys(BY, acme.clone()).await.unwrap().len(), 4);
        assert_eq!(
            (good(first.key.expose()), good(other.key.expose())),
            (Err("api key: revoked"), Err("api key: revoked"))
        );
    }
    let said = actions(&admin).await;
    assert_eq!(said.iter().filter(|line| line.starts_with("key.revoke ")).count(), 4, "each key once: {said:?}");
    assert_eq!(said.iter().filter(|line| line.starts_with("key.revoke-all acme")).count(), 2);
    let unknown = admin.revoke_keys(BY, TenantName::parse("acne").unwrap()).await.unwrap_err();
    assert_eq!(unknown.to_string(), "unknown tenant `acne`, did you mean `acme`?");
    assert!(house.revoked_on_disk().iter().all(|(_, revoked)| *revoked), "on the disk too");
}

/// A revocation and rotations of the same key, at once and over and over: once it is answered nothing of the chain works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_rotation_outruns_a_revocation() {
    for round in 0..20_u32 {
        let (admin, house) = house();
        let first = create(&admin, asked("acme")).await.unwrap();
        let now = later(&first, 60);
        let racing = tokio::spawn(rotate_key(house.clone(), rotation(&first.id), now));
        if round % 4 > 0 {
            tokio::time::sleep(Duration::from_millis(u64::from(round % 4))).await;
        }
        admin.revoke_key(BY, first.id.clone()).await.unwrap();
        let made = racing.await.unwrap();
        for record in house.keys().values() {
            assert!(record.revoked_at.is_some(), "round {round}: {record:?} {made:?}");
        }
        assert!(house.revoked_on_disk().iter().all(|(_, revoked)| *revoked), "round {round}");
    }
}
