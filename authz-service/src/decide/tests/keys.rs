//! Security.md C10 and C11: what a key lists, each violated alone and all together, and places that are kept by nobody.

use std::net::IpAddr;

use super::*;

const INSIDE: &str = "10.1.2.3";

/// A key of acme's for one model, one endpoint and one place, valid for a day; and its text.
fn narrow(world: &mut World) -> String {
    let endpoints = Some(BTreeSet::from([EndpointKind::Chat]));
    let permits = Permits { models: Some(BTreeSet::from([name("gpt")])), endpoints, ..Permits::default() };
    world.mint("acme", permits, Vec::new());
    let text = world.credentials.last().unwrap().clone();
    let id = text.get(3..15).unwrap().to_owned();
    let terms = Arc::get_mut(world.registry.keys.get_mut(&id).unwrap()).unwrap();
    terms.sources = Some(vec!["10.1.0.0/16".parse().unwrap(), "2001:db8::/32".parse().unwrap()]);
    text
}

fn code(decision: Decision) -> Option<(Code, Option<String>)> {
    match decision {
        Decision::Allow(_) => None,
        Decision::Deny(deny) => Some((deny.denial.code, deny.denial.detail)),
    }
}

#[test]
fn what_a_key_lists_is_refused_alone_and_together() {
    let mut world = World::new();
    let key = narrow(&mut world);
    for violated in 0..32_u32 {
        let [model, endpoint, source, expiry, tenant] = [0, 1, 2, 3, 4].map(|bit| violated >> bit & 1 == 1);
        let asked = if model { "llama" } else { "gpt" };
        let body = format!(r#"{{"model":"{asked}","messages":[{{"role":"user","content":"x"}}],"max_tokens":1}}"#);
        let mut ask = Ask::chat(&key, &body);
        if endpoint {
            (ask.method, ask.path, ask.body) = ("GET", "/v1/models".into(), Vec::new());
            ask.headers.truncate(1);
        }
        if tenant {
            ask.headers.push(("x-tenant-id", "globex".into()));
        }
        ask.source = Some(if source { "10.2.0.1" } else { INSIDE }.parse().unwrap());
        ask.now = now() + SignedDuration::from_secs(if expiry { 86_400 } else { 86_399 });
        let want = match (expiry || source, tenant, endpoint, model) {
            (true, ..) => Some(Code::InvalidCredential),
            (_, true, ..) => Some(Code::TenantConflict),
            (_, _, true, _) => Some(Code::EndpointNotAllowed),
            (_, _, _, true) => Some(Code::ModelNotAllowed),
            _ => None,
        };
        let told = code(ask.whole(&world));
        assert_eq!(told.as_ref().map(|(code, _)| *code), want, "{violated:05b}");
        if source && !expiry {
            assert_eq!(told.unwrap().1.as_deref(), Some("api key: used from elsewhere"), "for the log");
        }
    }
}

#[test]
fn a_place_is_the_clients_address_as_it_is_and_none_is_no_place() {
    let mut world = World::new();
    let (key, anywhere) = (narrow(&mut world), world.credentials[0].clone());
    let body = r#"{"model":"gpt","messages":[{"role":"user","content":"x"}],"max_tokens":1}"#;
    for (source, good) in [
        ("10.1.0.0", true),
        ("10.1.255.255", true),
        ("::ffff:10.1.2.3", true),
        ("2001:db8:ffff::1", true),
        ("10.0.255.255", false),
        ("10.2.0.0", false),
        ("::10.1.2.3", false),
        ("2001:db9::", false),
        ("::1", false),
    ] {
        let source = Some(source.parse::<IpAddr>().unwrap());
        let ask = Ask { source, ..Ask::chat(&key, body) };
        assert_eq!(code(ask.whole(&world)).is_none(), good, "{source:?}");
        assert!(code(Ask { source, ..Ask::chat(&anywhere, body) }.whole(&world)).is_none());
    }
    assert!(code(Ask::chat(&key, body).whole(&world)).is_some(), "nobody says where it is used");
}

#[test]
fn what_is_decided_for_a_place_is_kept_for_nobody() {
    let mut world = World::new();
    let (key, anywhere) = (narrow(&mut world), world.credentials[0].clone());
    let source = Some(INSIDE.parse().unwrap());
    let hold = |key: &str| match (Ask { source, ..Ask::chat(key, "{}") }).head(&world, 1) {
        Decision::Allow(allow) => allow.grant.hold_ms,
        Decision::Deny(deny) => panic!("{:?}", deny.denial),
    };
    assert_eq!((hold(&key), hold(&anywhere)), (0, 10_000));
}

#[test]
fn a_key_may_be_rotated_where_its_endpoints_say_so() {
    let mut world = World::new();
    let key = narrow(&mut world);
    let source = Some(INSIDE.parse().unwrap());
    let rotate = |key: &str| Ask { source, path: "/bulkhead/v1/keys/rotate".into(), ..Ask::chat(key, "{}") };
    assert_eq!(code(rotate(&key).whole(&world)).unwrap().0, Code::EndpointNotAllowed);
    let Decision::Allow(allow) = rotate(&world.credentials[0]).whole(&world) else { panic!("it lists no endpoints") };
    assert!(allow.grant.data_endpoint && !allow.grant.key_id.is_empty() && allow.grant.hold_ms == 0);
    let get = Ask { method: "GET", ..rotate(&world.credentials[0]) };
    assert_eq!(code(get.whole(&world)).unwrap().0, Code::MethodNotAllowed);
}
