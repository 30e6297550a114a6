//! A case without wasm, Envoy or a network: the decision function and the three filters, driven phase by phase in the order
//! of `filters/module/src/stream.rs`. What Envoy's configuration does in the other ring stands here in a line each.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use authz_service::decide::{self, Allow, Decision, Deny, Grounds, OwnKeys};
use authz_service::identity::api_key::{KeyRecord, Keys, NewKey};
use authz_service::identity::certificate::RevokedSerials;
use authz_service::identity::discovery::KeyRing;
use authz_service::identity::jwt::own::Own;
use authz_service::ledger::{GrantId, Ledger, Now};
use authz_service::registry::{CredentialHeader, Registry};
use authz_service::resource;
use authz_service::sightings::Sightings;
use authz_service::vault::{Secret, system_random};
use gateway_core::denial::{Denial, Words};
use gateway_core::gate::SignedGrant;
use gateway_core::headers::{Head, remove_upstream};
use gateway_core::name::TenantName;
use gateway_core::price::charge;
use gateway_core::wire;
use gpu_accounting::{Accounting, AnswerHead, Passed, ResponseStep, StreamEnd};
use header_hardening::{HeaderEdit, request_plan, response_plan};
use prost::Message as _;
use serde_json::json;
use tenant_context::{Arrival, Held, TenantContext};

use super::observed::Fields;
use super::{AnswerMessage, Case, Charged, Exchange, Observed, Recorded, Sent};
use crate::mint::Alg;
use crate::policies::{Policies, issuer, resource as document};

/// What the answer's body comes in, in bytes: no event is whole.
const PIECE: usize = 7;
const PROXY: &str = "edge-1";

/// One case's state: its keys, its ledger.
pub struct Pure {
    registry: Registry,
    keys: Keys,
    ledger: Ledger,
    credentials: BTreeMap<String, String>,
    exchanges: AtomicU64,
}

impl Pure {
    /// Compiles the case's policies and mints its credentials.
    ///
    /// # Panics
    /// The policies are refused.
    #[must_use]
    pub fn new(case: &Case) -> Self {
        let mut policies = case.policies();
        let mut keys = Keys::new();
        let mint = |name: String| {
            let words: Vec<&str> = name.split(' ').collect();
            let text = match words[..] {
                ["jwt", tenant] => issuer(tenant).token(Alg::Es256),
                ["key", tenant, ref more @ ..] => key(&mut policies, &mut keys, tenant, more),
                _ => panic!("no credential is called `{name}`"),
            };
            (name, text)
        };
        let credentials = case.credentials().into_iter().map(mint).collect();
        let directory = tempfile::tempdir().expect("a directory");
        policies.write(directory.path()).expect("the policies are written");
        let loaded = resource::load(directory.path()).unwrap_or_else(|problems| panic!("{}: {problems:?}", case.name));
        let (ledger, exchanges) = (Ledger::default(), AtomicU64::new(1));
        Self { registry: loaded.registry, keys, ledger, credentials, exchanges }
    }

    /// Runs one exchange.
    ///
    /// # Panics
    /// The module would refuse what the service has just allowed.
    #[must_use]
    pub fn exchange(&self, exchange: &Exchange) -> Observed {
        let number = self.exchanges.fetch_add(1, Ordering::SeqCst);
        let request = &exchange.request;
        let request_id = format!("00000000-0000-4000-8000-{number:012}");
        // room 1: what is stripped early, and Envoy's request id
        let stripped = |name: &str| {
            [wire::RESERVED_PREFIX, "x-envoy-", "x-gateway-inference-"].iter().any(|prefix| name.starts_with(prefix))
        };
        let mut headers = request.signed(&self.credentials);
        headers.retain(|(name, _)| !stripped(name) && name != wire::REQUEST_ID);
        set(&mut headers, wire::REQUEST_ID, &request_id);
        // room 2
        let fields: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let arrival = decide::Arrival {
            head: Head {
                method: &request.method,
                authority: &request.authority,
                path: &request.path,
                headers: &fields,
            },
            body: &request.body,
            request_id: &request_id,
            source: None,
            proxy: PROXY,
            certificate: "",
            now: jiff::Timestamp::now(),
            grant_id: GrantId((u128::from(number)).to_be_bytes()),
        };
        let sightings = Sightings::default();
        let grounds = Grounds {
            registry: &self.registry,
            published: &KeyRing::offline(),
            keys: &self.keys,
            revoked_certificates: &RevokedSerials::new(),
            vault: &NoOwnKeys,
            own: &Own::default(),
            jobs: &HashMap::new(),
            ledger: &self.ledger,
            sightings: &sightings,
            claim_header: wire::CLAIM_HEADER,
        };
        match decide::decide(&grounds, &arrival) {
            Decision::Deny(deny) => denied(&deny, &request_id),
            Decision::Allow(allow) => self.granted(exchange, &allow, headers.clone(), arrival.grant_id),
        }
    }

    /// Rooms 4 to 8 of a request that the service allowed.
    fn granted(&self, exchange: &Exchange, allow: &Allow, headers: Fields, id: GrantId) -> Observed {
        let request = &exchange.request;
        let (held, mut headers) = arrive(exchange, allow, headers);
        let mut accounting = Accounting::new(&held.grant, 0);
        let names: Vec<String> = headers.iter().map(|(name, _)| name.clone()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        set(&mut headers, ":path", &request.path);
        apply(&mut headers, request_plan(&held.grant, "", &names));
        if let Some(length) = accounting.request_length() {
            set(&mut headers, "content-length", &length.bytes().to_string());
        }
        accounting.sent();
        let edited = if accounting.edits_body() {
            accounting.request_body(&request.body).expect("the edits fit")
        } else {
            accounting.untouched_body(request.body.len()).expect("the body that was checked");
            None
        };
        let body = edited.map_or_else(|| request.body.clone(), |edited| edited.body().to_vec());
        // room 6: the route takes its own header off
        headers.retain(|(name, _)| name != wire::ROUTE);
        let path = headers.iter().position(|(name, _)| name == ":path").map(|at| headers.remove(at).1);
        let sent = Sent { path: path.unwrap_or_default(), headers, body };
        let announced = sent.headers.iter().find(|(name, _)| name == "content-length");
        assert_eq!(announced.map(|(_, length)| length.as_str()), Some(sent.body.len().to_string().as_str()));

        let seen = Observed { sent: Some(sent), recorded: recorded(allow), ..Observed::default() };
        let Some(answer) = &exchange.upstream else { return seen };
        let (mut seen, denial) = answered(answer, &held, &mut accounting, seen);
        if let Some(denial) = &denial {
            denial.code.row().code.clone_into(&mut seen.recorded.code);
        }
        // room 8
        let end = StreamEnd {
            code_details: if denial.is_none() { "via_upstream".into() } else { String::new() },
            response_flags: 0,
            status: Some(seen.status.into()),
            now_ms: 1,
            denial: denial.map(|denial| denial.code.row().code),
            signed: held.signed.clone(),
            cut: false,
        };
        let settlement = accounting.settle(&end);
        let terms = self.ledger.terms(id, PROXY).expect("a reservation");
        let charge = charge(&terms, &settlement);
        let now = Now { unix_ms: u64::try_from(jiff::Timestamp::now().as_millisecond()).expect("after 1970") };
        self.ledger.settle(now, id, charge.cost).expect("an open reservation");
        self.ledger.confirm(id);
        seen.charged = Some(Charged::new(settlement.outcome(), &charge));
        seen
    }
}

/// ext_authz applies the answer; the module compares what it finds with the grant.
fn arrive(exchange: &Exchange, allow: &Allow, mut headers: Fields) -> (Held, Fields) {
    headers.retain(|(name, _)| !remove_upstream(name));
    set(&mut headers, wire::CLAIM_HEADER, &allow.grant.tenant);
    set(&mut headers, wire::ROUTE, &allow.cluster);
    if let Some((carrier, secret)) = &allow.credential {
        let secret = String::from_utf8_lossy(secret.expose());
        match carrier {
            CredentialHeader::Bearer => set(&mut headers, "authorization", &format!("Bearer {secret}")),
            CredentialHeader::XApiKey => set(&mut headers, "x-api-key", &secret),
            CredentialHeader::XGoogApiKey => set(&mut headers, "x-goog-api-key", &secret),
        }
    }
    let signed = SignedGrant { grant: allow.grant.encode_to_vec().into(), mac: vec![1; 32].into() };
    let claims: Vec<&str> =
        headers.iter().filter(|(name, _)| name == wire::CLAIM_HEADER).map(|(_, value)| value.as_str()).collect();
    let held = TenantContext::admit(&Arrival {
        decision: Some(wire::DECISION_ALLOW.as_bytes()),
        grant: Some(wire::encode_grant(&signed).as_bytes()),
        method: exchange.request.method.as_bytes(),
        authority: exchange.request.authority.as_bytes(),
        path: exchange.request.path.as_bytes(),
        claim: claims.first().map(|claim| claim.as_bytes()),
        claims_seen: claims.len(),
        now_ms: 0,
    });
    (held.expect("what the service allowed is admitted"), headers)
}

/// Room 7: the client's answer, and the module's denial of it.
fn answered(
    answer: &AnswerMessage,
    held: &Held,
    accounting: &mut Accounting,
    seen: Observed,
) -> (Observed, Option<Denial>) {
    let values = |wanted: &str| -> Vec<&[u8]> {
        answer.headers.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_bytes()).collect()
    };
    let first = |wanted: &str| values(wanted).first().copied();
    let step = held.answer_tag(&values(wire::TENANT)).and_then(|()| {
        let head = AnswerHead {
            status: answer.status,
            content_type: first("content-type"),
            content_encoding: first("content-encoding"),
            content_length: first("content-length"),
        };
        match accounting.response_head(head) {
            ResponseStep::Deny(denial) => Err(denial),
            ResponseStep::Continue { .. } => Ok(()),
        }
    });
    if let Err(denial) = step {
        let mut headers = own_fields();
        set(&mut headers, wire::REQUEST_ID, &held.grant.request_id);
        let body = Words::from(held.grant.words.as_ref()).body(&denial, &held.grant.request_id);
        return (Observed { status: denial.code.row().status, headers, body, ..seen }, Some(denial));
    }
    let mut headers = answer.headers.clone();
    let names: Vec<&str> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    apply(&mut headers, response_plan(&(&held.grant).into(), &names));
    let mut body = Vec::new();
    for (chunk, end) in answer.body.chunks(PIECE).map(|chunk| (chunk, false)).chain([(&[][..], true)]) {
        match accounting.response_body(chunk, end) {
            Passed::Unchanged => body.extend_from_slice(chunk),
            Passed::Replaced(other) => body.extend_from_slice(&other),
        }
    }
    (Observed { status: answer.status, headers, body, ..seen }, None)
}

fn denied(deny: &Deny, request_id: &str) -> Observed {
    let mut headers = own_fields();
    headers.extend(deny.headers.iter().map(|field| (field.name.to_owned(), field.value.clone())));
    set(&mut headers, wire::REQUEST_ID, request_id);
    let name = |name: Option<String>| name.unwrap_or_default();
    let recorded = Recorded {
        decision: "deny".into(),
        code: deny.denial.code.row().code.into(),
        tenant: name(deny.facts.tenant.as_ref().map(ToString::to_string)),
        model: name(deny.facts.model.as_ref().map(ToString::to_string)),
        provider: deny.facts.provider.clone(),
    };
    let body = if deny.facts.tenant.is_some() {
        Words::default().body(&deny.denial, request_id)
    } else {
        deny.denial.body(request_id)
    };
    Observed { status: deny.denial.code.row().status, headers, body, recorded, ..Observed::default() }
}

fn recorded(allow: &Allow) -> Recorded {
    Recorded {
        decision: "allow".into(),
        code: String::new(),
        tenant: allow.grant.tenant.clone(),
        model: allow.grant.model.clone(),
        provider: allow.grant.provider.clone(),
    }
}

/// What every refusal of ours carries.
fn own_fields() -> Fields {
    [("content-type", "application/json"), ("cache-control", "no-store")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn apply(headers: &mut Fields, edits: Vec<HeaderEdit<'_>>) {
    for edit in edits {
        match edit {
            HeaderEdit::Set(name, value) => set(headers, name, &value),
            HeaderEdit::Remove(name) => headers.retain(|(have, _)| *have != name),
        }
    }
}

fn set(headers: &mut Fields, name: &str, value: &str) {
    headers.retain(|(have, _)| have != name);
    headers.push((name.to_owned(), value.to_owned()));
}

/// A key as `bulkhead key create --tenant TENANT` makes it, with `--model` and `--endpoint` understood.
fn key(policies: &mut Policies, keys: &mut Keys, tenant: &str, more: &[&str]) -> String {
    let made = NewKey::generate(&mut system_random).expect("random bytes");
    let now = jiff::Timestamp::now();
    let mut spec = json!({"tenant": tenant, "createdAt": now, "expiresAt": now + jiff::SignedDuration::from_hours(24)});
    for option in more.chunks(2) {
        match option {
            ["--model", model] => spec["models"] = json!([model]),
            ["--endpoint", endpoint] => spec["endpoints"] = json!([endpoint]),
            _ => panic!("no key has {option:?}"),
        }
    }
    let mut document = document("ApiKey", &made.id, &spec);
    document["metadata"]["namespace"] = json!(tenant);
    policies.add(document);
    let tenant = TenantName::parse(tenant).expect("a tenant's name");
    let record = KeyRecord::first(&made.id, tenant, made.hash, now);
    keys.insert(made.id, record);
    made.text.expose().to_owned()
}

/// Every provider key is the platform's.
struct NoOwnKeys;

impl OwnKeys for NoOwnKeys {
    fn own_key(&self, _tenant: &TenantName, _provider: &str) -> Result<Option<Secret>, Denial> {
        Ok(None)
    }

    fn has_own_key(&self, _tenant: &TenantName, _provider: &str) -> bool {
        false
    }
}
