//! One arrival that is admitted, each way to differ from it, and garbage.

use gateway_core::gate::{Revocation, SyncResponse};
use proptest::prelude::*;

use super::*;

fn grant() -> Grant {
    Grant {
        id: vec![7; 16].into(),
        tenant: "acme".into(),
        method: "POST".into(),
        authority: "api.example".into(),
        path: "/v1/chat/completions?a=1".into(),
        upstream_path: "/openai/v1/chat/completions".into(),
        lifetime_ms: 500,
        ..Grant::default()
    }
}

fn signed(grant: &Grant) -> SignedGrant {
    SignedGrant { grant: grant.encode_to_vec().into(), mac: vec![1; 32].into() }
}

fn text(grant: &Grant) -> String {
    wire::encode_grant(&signed(grant))
}

fn arrival(text: &str) -> Arrival<'_> {
    Arrival {
        decision: Some(b"allow-v1"),
        grant: Some(text.as_bytes()),
        method: b"POST",
        authority: b"api.example",
        path: b"/v1/chat/completions?a=1",
        claim: Some(b"acme"),
        claims_seen: 1,
        now_ms: 1_000,
    }
}

fn refused(input: &Arrival<'_>) -> (Code, String) {
    let denial = TenantContext::admit(input).unwrap_err();
    (denial.code, denial.detail.unwrap())
}

#[test]
fn the_request_that_was_decided_is_held() {
    let text = text(&grant());
    let held = TenantContext::admit(&arrival(&text)).unwrap();
    assert_eq!(held, Held { grant: grant(), signed: signed(&grant()).encode_to_vec().into(), received_ms: 1_000 });
    assert_eq!(held.text().unwrap(), text);
}

#[test]
fn without_a_grant_the_denial_says_why() {
    let text = text(&grant());
    for missing in [None, Some(&b""[..])] {
        for decision in [None, Some(&b"allow-v1"[..]), Some(b"none")] {
            let (code, detail) = refused(&Arrival { grant: missing, decision, ..arrival(&text) });
            assert_eq!(code, Code::NotAdmitted);
            assert!(detail.contains("is the module placed after ext_authz"), "{detail}");
        }
    }
    for decision in
        [None, Some(&b""[..]), Some(b"none"), Some(b"deny-v1"), Some(b"allow-v1 "), Some(b"allow"), Some(b"\xff")]
    {
        let (code, detail) = refused(&Arrival { decision, ..arrival(&text) });
        assert_eq!(code, Code::NotAdmitted);
        assert!(detail.contains("did not allow"), "{detail}");
    }
}

#[test]
fn a_grant_that_is_not_whole_is_none() {
    let bad = [
        Grant::default(),
        Grant { id: vec![7; 15].into(), ..grant() },
        Grant { tenant: String::new(), ..grant() },
        Grant { tenant: "Acme".into(), ..grant() },
        Grant { tenant: "root".into(), ..grant() },
        Grant { upstream_path: "//evil".into(), ..grant() },
        Grant { upstream_path: "/a\r\nb".into(), ..grant() },
        Grant { lifetime_ms: 0, ..grant() },
        Grant { authority: String::new(), ..grant() },
    ];
    for grant in bad {
        let claim = grant.tenant.clone();
        let input = text(&grant);
        let (code, _) = refused(&Arrival { claim: Some(claim.as_bytes()), ..arrival(&input) });
        assert_eq!(code, Code::NotAdmitted, "{grant:?}");
    }
    let unsigned = wire::encode_grant(&SignedGrant { mac: Bytes::new(), ..signed(&grant()) });
    assert_eq!(refused(&arrival(&unsigned)).0, Code::NotAdmitted);
    let nowhere = Grant { authority: String::new(), ..grant() };
    assert_eq!(
        refused(&Arrival { authority: b"", ..arrival(&text(&nowhere)) }).0,
        Code::NotAdmitted,
        "two blanks do not agree"
    );
}

#[test]
fn another_request_than_the_decided_one_is_refused() {
    let text = text(&grant());
    let others = [
        ("method", Arrival { method: b"GET", ..arrival(&text) }),
        ("method", Arrival { method: b"", ..arrival(&text) }),
        ("authority", Arrival { authority: b"API.example", ..arrival(&text) }),
        ("path", Arrival { path: b"/v1/chat/completions", ..arrival(&text) }),
        ("path", Arrival { path: b"/api/v1/tenants/globex/models/m/predict", ..arrival(&text) }),
        ("path", Arrival { path: b"\xff", ..arrival(&text) }),
    ];
    for (what, input) in others {
        let (code, detail) = refused(&input);
        assert_eq!(code, Code::NotAdmitted);
        assert!(detail.starts_with(&format!("The {what} is not")), "{detail}");
    }
}

#[test]
fn the_claim_header_names_the_decided_tenant_once() {
    let text = text(&grant());
    let cases: [(Option<&[u8]>, usize, Code); 9] = [
        (None, 0, Code::NotAdmitted),
        (None, 1, Code::NotAdmitted),
        (None, 2, Code::NotAdmitted),
        (Some(b"acme"), 0, Code::NotAdmitted),
        (Some(b"acme"), 2, Code::TenantConflict),
        (Some(b"globex"), 1, Code::TenantConflict),
        (Some(b"acme,acme"), 1, Code::TenantConflict),
        (Some(b"acme "), 1, Code::TenantConflict),
        (Some(b""), 1, Code::TenantConflict),
    ];
    for (claim, claims_seen, code) in cases {
        assert_eq!(refused(&Arrival { claim, claims_seen, ..arrival(&text) }).0, code, "{claim:?} {claims_seen}");
    }
}

#[test]
fn a_grant_ends() {
    let text = text(&grant());
    let held = TenantContext::admit(&arrival(&text)).unwrap();
    for (now, expired) in [(1_000, false), (1_499, false), (1_500, true), (u64::MAX, true), (999, true), (0, true)] {
        assert_eq!(held.expired(now), expired, "{now}");
    }
}

/// Told `epoch` and these revocations by a report that was sent at `sent_ms`.
fn told(sent_ms: u64, epoch: u64, revocations: Vec<Revocation>) -> Revocations {
    let mut known = Revocations::default();
    for (sequence, epoch, revocations) in [(1, 1, Vec::new()), (2, epoch, revocations)] {
        known.sent(sequence, sent_ms);
        known.told(&SyncResponse { sequence, epoch, revocations, floor: 0 });
    }
    known
}

#[test]
fn a_slow_body_does_not_outlive_its_credential() {
    let grant = Grant { lifetime_ms: 65_000, epoch: 5, ..grant() };
    let held = Held { signed: Bytes::new(), grant, received_ms: 10_000 };
    let code = |known: &mut Revocations, now_ms: u64| {
        held.still_good(known, now_ms - QUICK_MS - 1, now_ms).err().map(|denial| denial.code)
    };
    let revoked = |epoch| vec![Revocation { epoch, tenant: "acme".into(), key_id: String::new() }];
    assert_eq!(code(&mut Revocations::default(), 12_000), None, "the service has said so two seconds ago");
    assert_eq!(code(&mut Revocations::default(), 12_001), Some(Code::ServiceUnavailable));
    assert_eq!(code(&mut told(50_000, 5, Vec::new()), 52_000), None);
    assert_eq!(code(&mut told(50_000, 5, Vec::new()), 52_001), Some(Code::ServiceUnavailable));
    assert_eq!(code(&mut told(50_000, 6, revoked(6)), 50_000), Some(Code::InvalidCredential));
    assert_eq!(code(&mut told(50_000, 6, revoked(5)), 50_000), None);
    let everybody = vec![Revocation { epoch: 6, ..Revocation::default() }];
    assert_eq!(code(&mut told(50_000, 6, everybody), 50_000), Some(Code::ServiceUnavailable), "nobody is accused");
    assert_eq!(held.still_good(&mut told(50_000, 6, revoked(6)), 50_000, 50_000 + QUICK_MS), Ok(()), "it came at once");
    for now_ms in [75_000, 9_999, u64::MAX] {
        assert_eq!(code(&mut told(now_ms, 5, Vec::new()), now_ms), Some(Code::NotAdmitted), "{now_ms}");
    }
}

#[test]
fn an_answer_for_another_tenant_is_a_mismatch() {
    let text = text(&grant());
    let held = TenantContext::admit(&arrival(&text)).unwrap();
    assert_eq!(held.answer_tag(&[]), Ok(()));
    assert_eq!(held.answer_tag(&[b"acme"]), Ok(()));
    let bad: [&[&[u8]]; 7] =
        [&[b"globex"], &[b""], &[b"acme", b"acme"], &[b"acme", b"globex"], &[b"acme,acme"], &[b"ACME"], &[b"\xff"]];
    for values in bad {
        assert_eq!(held.answer_tag(values).unwrap_err().code, Code::TenantMismatch, "{values:?}");
    }
}

fn garbage() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn garbage_is_denied(decision in garbage(), grant in garbage(), path in garbage(), claim in garbage(), seen in 0_usize..3) {
        let path = path.unwrap_or_default();
        let input = Arrival {
            decision: decision.as_deref(),
            grant: grant.as_deref(),
            path: &path,
            claim: claim.as_deref(),
            claims_seen: seen,
            ..Arrival::default()
        };
        prop_assert!(TenantContext::admit(&input).is_err());
    }

    /// One byte of the grant's text changed: refused, or still the same request for the same tenant.
    #[test]
    fn a_damaged_grant_opens_nothing_else(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let mut text = text(&grant()).into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        let input = Arrival { grant: Some(&text), ..arrival("") };
        if let Ok(held) = TenantContext::admit(&input) {
            let want = grant();
            prop_assert_eq!((held.grant.tenant, held.grant.path, held.grant.method), (want.tenant, want.path, want.method));
        }
    }

    /// A grant is for one tenant: with any other tenant's claim it is refused.
    #[test]
    fn no_grant_serves_two_tenants(other in "[a-z0-9][a-z0-9-]{0,5}") {
        let text = text(&grant());
        let admitted = TenantContext::admit(&Arrival { claim: Some(other.as_bytes()), ..arrival(&text) }).is_ok();
        prop_assert_eq!(admitted, other == "acme");
    }
}
