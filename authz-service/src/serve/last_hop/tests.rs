//! Who gets a key at the last hop, and everybody who does not.

use std::sync::Arc;

use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::google::protobuf::value::Kind;

use super::*;
use crate::decide::tests::World;

const ISSUED: u64 = 1_795_348_800_000;

/// The handle of a grant of acme's, held for ten seconds.
fn handle() -> Grant {
    Grant {
        id: vec![7; 16].into(),
        tenant: "acme".into(),
        key_id: "k1".into(),
        method: "POST".into(),
        path: "/v1/chat/completions".into(),
        scope_set: "tenant=acme".into(),
        lifetime_ms: 65_000,
        hold_ms: 10_000,
        issued_at_ms: ISSUED,
        ..Grant::default()
    }
}

/// At the gpt provider, right after the grant.
fn ask(grant: &Grant) -> Ask<'_> {
    Ask { grant: Some(grant), route: Some("cluster-open"), method: "POST", now_ms: ISSUED }
}

fn answered(world: &World, ask: &Ask<'_>) -> Result<CheckResponse, Denial> {
    key(&world.registry, world, |key_id| key_id == "revoked", ask)
}

fn code(world: &World, ask: &Ask<'_>) -> Option<Code> {
    answered(world, ask).err().map(|denial| denial.code)
}

#[test]
fn a_request_leaves_with_its_tenants_own_key_and_without_the_grant() {
    let (world, grant) = (World::new(), handle());
    let response = answered(&world, &ask(&grant)).unwrap();
    let Some(HttpResponse::OkResponse(ok)) = response.http_response else { panic!("refused") };
    let set: Vec<_> = ok.headers.iter().filter_map(|one| one.header.as_ref()).collect();
    let set: Vec<_> = set.iter().map(|header| (header.key.as_str(), header.value.as_str())).collect();
    assert_eq!(set, [("authorization", "Bearer sk-own")]);
    assert_eq!(ok.headers_to_remove, ["x-bulkhead-grant"]);
    let words: Vec<_> = response.dynamic_metadata.unwrap().fields.into_iter().collect();
    let [(name, word)] = &words[..] else { panic!("{words:?}") };
    assert_eq!((name.as_str(), &word.kind), ("bulkhead_last_hop", &Some(Kind::StringValue("done-v1".into()))));
    assert_eq!(response.status.unwrap().code, 0);
}

#[test]
fn a_handle_is_good_as_long_as_its_request_can_be_under_way() {
    let (world, grant) = (World::new(), handle());
    let at = |now_ms| code(&world, &Ask { now_ms, ..ask(&grant) });
    assert_eq!((at(ISSUED + 75_000), at(ISSUED + 75_001)), (None, Some(Code::NotAdmitted)));
    assert_eq!(at(ISSUED - 1), Some(Code::NotAdmitted), "from the future");
}

#[test]
fn whatever_is_missing_or_odd_gets_nothing() {
    let (world, grant) = (World::new(), handle());
    assert_eq!(code(&world, &Ask { grant: None, ..ask(&grant) }), Some(Code::NotAdmitted));
    for route in [None, Some(""), Some("cluster-house"), Some("cluster-small"), Some("cluster-open "), Some("nowhere")]
    {
        // The platform's key of `house` is not the last hop's to give.
        assert_eq!(code(&world, &Ask { route, ..ask(&grant) }), Some(Code::NotAdmitted), "{route:?}");
    }
    let get = Ask { method: "GET", ..ask(&grant) };
    assert_eq!(code(&world, &get), Some(Code::NotAdmitted));
    for (other, want) in [
        (Grant { tenant: "globex".into(), ..handle() }, Code::NotAdmitted),
        (Grant { tenant: "nobody".into(), ..handle() }, Code::InvalidCredential),
        (Grant { tenant: "No Name".into(), ..handle() }, Code::NotAdmitted),
        (Grant { key_id: "revoked".into(), ..handle() }, Code::InvalidCredential),
        (Grant { data_endpoint: true, ..handle() }, Code::NotAdmitted),
        // a grant of profile `portable`
        (Grant { scope_set: String::new(), ..handle() }, Code::NotAdmitted),
    ] {
        assert_eq!(code(&world, &ask(&other)), Some(want), "{other:?}");
    }
}

#[test]
fn the_tenant_is_held_against_what_is_in_force_now() {
    let grant = handle();
    let mut world = World::new();
    Arc::get_mut(world.registry.tenants.get_mut("acme").unwrap()).unwrap().state =
        crate::registry::TenantState::Isolated;
    assert_eq!(code(&world, &ask(&grant)), Some(Code::TenantSuspended));
    let mut world = World::new();
    Arc::get_mut(world.registry.tenants.get_mut("acme").unwrap()).unwrap().regions.remove("us");
    assert_eq!(code(&world, &ask(&grant)), Some(Code::NotAdmitted), "no longer in an allowed region");
    let mut world = World::new();
    world.own.clear();
    assert_eq!(code(&world, &ask(&grant)), Some(Code::NotAdmitted), "the key is gone");
}

#[test]
fn two_providers_behind_one_cluster_are_told_apart_or_refused() {
    let grant = handle();
    let mut world = World::new();
    Arc::get_mut(&mut world.registry.providers[0]).unwrap().cluster = "cluster-open".into();
    assert_eq!(code(&world, &ask(&grant)), None, "one of them has a key of acme's");
    world.own.insert(("acme", "house"));
    assert_eq!(code(&world, &ask(&grant)), Some(Code::NotAdmitted));
}

#[test]
fn a_header_that_stands_twice_is_none() {
    let headers: [(&str, &[u8]); 3] = [("a", b"1"), ("b", b"2"), ("B", b"3")];
    assert_eq!((one(&headers, "a"), one(&headers, "b"), one(&headers, "c")), (Some(&b"1"[..]), None, None));
}
