//! Two heads, the second an edit of the first: one worker holds the first one's grant, and the second goes on with it only
//! where it is alike in every input that the decision read. Input: three bytes of edit, then a head as `head` reads it.
#![no_main]

use bulkhead_fuzz::head;
use gateway_core::claims::PathTemplate;
use gateway_core::gate::{Grant, SignedGrant, SyncResponse};
use gateway_core::headers::{CREDENTIAL_CARRIERS, Head};
use gateway_core::wire::CLAIM_HEADER;
use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use tenant_context::Held;
use tenant_context::front::{Front, FrontStep, Rules};
use tenant_context::held::{HeldGrant, HeldGrants};
use tenant_context::revocations::Revocations;

const NOW_MS: u64 = 1_000;

fuzz_target!(|data: &[u8]| {
    let [at, byte, what, first @ ..] = data else { return };
    let second = edited(first, usize::from(*at), *byte, *what);
    head(first, |known| {
        let (mut held, mut revocations) = (HeldGrants::default(), Revocations::default());
        revocations.sent(1, NOW_MS);
        revocations.told(&SyncResponse { sequence: 1, epoch: 5, ..SyncResponse::default() });
        let mut arrive = |head: &Head<'_>, held: &mut HeldGrants<()>| {
            Front::arrive(&rules(), head, false, held, &mut revocations, NOW_MS)
        };
        let FrontStep::Ask(key) = arrive(known, &mut held) else { return };
        held.insert(key, grant(known).into(), NOW_MS);
        head(&second, |other| {
            let goes_on = matches!(arrive(other, &mut held), FrontStep::Held(_));
            assert!(!goes_on || inputs(known) == inputs(other), "another's grant");
        });
        // nor does its own request go on with a grant for a tenant that it does not claim
        if let FrontStep::Held(found) = arrive(known, &mut held) {
            let claim = known.headers.iter().find(|(name, _)| *name == CLAIM_HEADER);
            assert!(claim.is_none_or(|(_, claim)| *claim == found.held.grant.tenant.as_bytes()));
        }
    });
});

/// Everything that a decision reads of a head.
fn inputs<'a>(head: &Head<'a>) -> (&'a str, &'a str, &'a str, Vec<(&'a str, &'a [u8])>) {
    let read =
        |name: &str| CREDENTIAL_CARRIERS.contains(&name) || [CLAIM_HEADER, "x-forwarded-client-cert"].contains(&name);
    let mut headers: Vec<_> = head.headers.iter().filter(|(name, _)| read(name)).copied().collect();
    headers.sort_unstable();
    (head.method, head.authority, head.path, headers)
}

/// One edit: a byte put in, taken out or changed; the end cut off; or two halves in another order.
fn edited(text: &[u8], at: usize, byte: u8, what: u8) -> Vec<u8> {
    let at = at.min(text.len());
    let (left, right) = text.split_at(at);
    match what % 6 {
        0 => [left, &[byte], right].concat(),
        1 => [left, right.get(1..).unwrap_or_default()].concat(),
        2 => [left, &[byte], right.get(1..).unwrap_or_default()].concat(),
        3 => left.to_vec(),
        4 => [left, text].concat(),
        _ => text.to_vec(),
    }
}

fn rules() -> Rules {
    let templates = ["/v1/chat/completions", "/api/v1/tenants/{tenant}/models/{model}/predict"];
    Rules {
        claim_header: CLAIM_HEADER.into(),
        path_templates: templates.iter().map(|text| PathTemplate::parse(text).unwrap()).collect(),
        tenant_claims: vec!["tenant".into()],
    }
}

/// As the service would answer for a holder of `acme`'s.
fn grant(head: &Head<'_>) -> HeldGrant<()> {
    let grant = Grant {
        id: vec![1; 16].into(),
        tenant: "acme".into(),
        method: head.method.into(),
        authority: head.authority.into(),
        path: head.path.into(),
        lifetime_ms: 65_000,
        hold_ms: 10_000,
        epoch: 5,
        ..Grant::default()
    };
    let signed = SignedGrant { grant: grant.encode_to_vec().into(), mac: vec![0; 32].into() };
    let held = Held { grant, signed: signed.encode_to_vec().into(), received_ms: NOW_MS };
    HeldGrant::new(held, |_| Ok(())).unwrap()
}
