//! The four places of a request that name or prove a tenant, each in every state, in every spelling; and what each means,
//! said here a second time and without any of the gateway's code.

use bulkhead_tests::gateway::Gateway;
use bulkhead_tests::mint::Alg;
use bulkhead_tests::policies::issuer;

/// How a source is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It is not.
    Absent,
    /// It names or proves `acme`.
    Agree,
    /// It names another tenant.
    Disagree,
    /// It cannot be read, or proves nobody.
    Malformed,
    /// It stands twice.
    Duplicated,
}

/// What the spelling of one source means by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// Nothing.
    Nothing,
    /// This tenant, or a text that is nobody's name.
    Names(&'static str),
    /// It breaks the syntax of a head: this code, before anything is looked up.
    Broken(&'static str),
    /// The path is no endpoint's.
    NoEndpoint,
    /// A credential that proves nobody.
    Forged,
    /// A genuine token of this tenant's issuer that names another tenant.
    Poses(&'static str),
}

/// One spelling of one source.
#[derive(Clone, Debug)]
pub struct Spelling {
    /// For messages.
    pub name: &'static str,
    /// What is meant by it.
    pub state: State,
    /// Its meaning.
    pub says: Says,
    /// The path, where the source is the path.
    pub path: Option<String>,
    /// The headers, where it is another one.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Only HTTP/1.1 can carry it.
    pub only_http1: bool,
}

/// What the four sources of one request mean together: the tenant that it is admitted for, or the code of its refusal.
/// Precedence: syntax of the head, endpoint, claims against each other, credential, tenant.
pub fn verdict(path: Says, header: Says, jwt: Says, key: Says) -> Result<&'static str, &'static str> {
    for claim in [path, header] {
        if let Says::Broken(code) = claim {
            return Err(code);
        }
    }
    let credential = match (jwt, key) {
        (Says::Nothing, one) | (one, Says::Nothing) => one,
        _ => return Err("ambiguous_credentials"),
    };
    if let Says::Broken(code) = credential {
        return Err(code);
    }
    if path == Says::NoEndpoint {
        return Err("not_found");
    }
    if contradict(path, header) {
        return Err("tenant_conflict");
    }
    let tenant = match credential {
        Says::Names(tenant) => tenant,
        Says::Nothing => return Err("missing_credential"),
        Says::Poses(_) => return Err("tenant_conflict"),
        _ => return Err("invalid_credential"),
    };
    let agrees = |claim| claim == Says::Nothing || claim == Says::Names(tenant);
    if agrees(path) && agrees(header) { Ok(tenant) } else { Err("tenant_conflict") }
}

/// Whether path and claim header name different tenants: refused before the credential is looked at.
pub fn contradict(path: Says, header: Says) -> bool {
    matches!((path, header), (Says::Names(one), Says::Names(other)) if one != other)
}

/// Every spelling of the path claim.
pub fn paths() -> Vec<Spelling> {
    let predict = |tenant: &str| format!("/api/v1/tenants/{tenant}/models/llama/predict");
    let one = |name, state, says, path: String| Spelling { name, state, says, path: Some(path), ..spelling(state) };
    vec![
        one("no claim in the path", State::Absent, Says::Nothing, "/v1/chat/completions".into()),
        one("path", State::Agree, Says::Names("acme"), predict("acme")),
        one("path of another", State::Disagree, Says::Names("globex"), predict("globex")),
        one("path of nobody", State::Disagree, Says::Names("nobody"), predict("nobody")),
        one("path in upper case", State::Malformed, Says::Names("ACME"), predict("ACME")),
        one("path with a percent sign", State::Malformed, Says::Broken("bad_request"), predict("acme%25")),
        one("path with a parameter", State::Malformed, Says::Broken("bad_request"), predict("acme;x=1")),
        one("path with a joined name", State::Malformed, Says::Names("acme,globex"), predict("acme,globex")),
        one("path that says it twice", State::Duplicated, Says::NoEndpoint, predict("acme/tenants/acme")),
        one("path that says two", State::Duplicated, Says::NoEndpoint, predict("acme/tenants/globex")),
    ]
}

/// Every spelling of the claim header.
pub fn headers() -> Vec<Spelling> {
    let one = |name, state, says, headers: &[(&str, &[u8])]| Spelling { name, says, ..with(state, headers) };
    let broken = Says::Broken("malformed_header");
    let twice = Says::Broken("duplicate_header");
    let mut all = vec![
        one("no claim header", State::Absent, Says::Nothing, &[]),
        one("header", State::Agree, Says::Names("acme"), &[("x-tenant-id", b"acme")]),
        one("header of another", State::Disagree, Says::Names("globex"), &[("x-tenant-id", b"globex")]),
        one("header of nobody", State::Disagree, Says::Names("nobody"), &[("x-tenant-id", b"nobody")]),
        one("header in upper case", State::Malformed, broken, &[("x-tenant-id", b"ACME")]),
        one("empty header", State::Malformed, broken, &[("x-tenant-id", b"")]),
        one("reserved name", State::Malformed, broken, &[("x-tenant-id", b"root")]),
        one("header with a blank", State::Malformed, broken, &[("x-tenant-id", b"acme globex")]),
        one("header twice", State::Duplicated, twice, &[("x-tenant-id", b"acme"), ("x-tenant-id", b"acme")]),
        one("two headers", State::Duplicated, twice, &[("x-tenant-id", b"acme"), ("x-tenant-id", b"globex")]),
        one("joined header", State::Duplicated, twice, &[("x-tenant-id", b"acme, acme")]),
    ];
    let http1 = [
        one("header in mixed case", State::Agree, Says::Names("acme"), &[("X-TENANT-iD", b"acme")]),
        one("header with blanks around", State::Agree, Says::Names("acme"), &[("x-tenant-id", b" \tacme \t")]),
        one("header not in UTF-8", State::Malformed, broken, &[("x-tenant-id", b"acm\xe9")]),
        one("two cases", State::Duplicated, twice, &[("X-Tenant-Id", b"acme"), ("x-tenant-id", b"acme")]),
    ];
    all.extend(http1.map(|one| Spelling { only_http1: true, ..one }));
    all
}

/// Every spelling of a JWT.
pub fn tokens(gateway: &Gateway) -> Vec<Spelling> {
    let (acme, globex) = (issuer("acme"), issuer("globex"));
    let good = gateway.jwt("acme");
    let mut claims = acme.claims();
    claims["tenant"] = "globex".into();
    let poser = acme.token_with(Alg::Es256, &claims);
    claims["tenant"] = "acme".into();
    claims["exp"] = 1_000.into();
    let expired = acme.token_with(Alg::Es256, &claims);
    let foreign = globex.sign(Alg::Es256, &serde_json::json!({"alg": "ES256", "kid": "es256-1"}), &acme.claims());
    let unsigned = good.rsplit_once('.').expect("three parts").0;
    let one = |name, state, says, values: &[&str]| {
        let headers: Vec<(&str, &[u8])> = values.iter().map(|value| ("authorization", value.as_bytes())).collect();
        Spelling { name, says, ..with(state, &headers) }
    };
    let twice = Says::Broken("ambiguous_credentials");
    let (ed, other) = (format!("Bearer {}", acme.token(Alg::EdDsa)), gateway.jwt("globex"));
    vec![
        one("no token", State::Absent, Says::Nothing, &[]),
        one("token", State::Agree, Says::Names("acme"), &[&good]),
        one("EdDSA token", State::Agree, Says::Names("acme"), &[&ed]),
        one("token of another", State::Disagree, Says::Names("globex"), &[&other]),
        one("token that poses as another", State::Disagree, Says::Poses("acme"), &[&format!("bearer {poser}")]),
        one("token of another's key", State::Malformed, Says::Forged, &[&format!("Bearer {foreign}")]),
        one("expired token", State::Malformed, Says::Forged, &[&format!("Bearer {expired}")]),
        one("token without its signature", State::Malformed, Says::Forged, &[&format!("{unsigned}.")]),
        one("basic credential", State::Malformed, Says::Broken("invalid_credential"), &["Basic YWNtZTphY21l"]),
        one("token twice", State::Duplicated, twice, &[&good, &good]),
        one("two tokens", State::Duplicated, twice, &[&good, &other]),
        one("joined tokens", State::Duplicated, twice, &[&format!("{good}, {good}")]),
    ]
}

/// Every spelling of an API key.
pub fn keys(gateway: &Gateway) -> Vec<Spelling> {
    let (acme, globex) = (gateway.keys["acme"].as_str(), gateway.keys["globex"].as_str());
    let one = |name, state, says, carriers: &[(&str, &str)]| {
        let headers: Vec<(&str, &[u8])> = carriers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        Spelling { name, says, ..with(state, &headers) }
    };
    let twice = Says::Broken("ambiguous_credentials");
    let bearer = format!("Bearer {acme}");
    let turned: String = acme.chars().rev().collect();
    let flipped = format!("{}{}", &acme[..acme.len() - 1], if acme.ends_with('0') { '1' } else { '0' });
    vec![
        one("no key", State::Absent, Says::Nothing, &[]),
        one("key", State::Agree, Says::Names("acme"), &[("x-api-key", acme)]),
        one("key as Google sends it", State::Agree, Says::Names("acme"), &[("x-goog-api-key", acme)]),
        one("key as a bearer", State::Agree, Says::Names("acme"), &[("authorization", &bearer)]),
        one("key of another", State::Disagree, Says::Names("globex"), &[("x-api-key", globex)]),
        one("key with another end", State::Malformed, Says::Forged, &[("x-api-key", &flipped)]),
        one("key backwards", State::Malformed, Says::Forged, &[("x-api-key", &turned)]),
        one("key in two words", State::Malformed, Says::Broken("malformed_header"), &[("x-api-key", "bh_a b")]),
        one("key in two carriers", State::Duplicated, twice, &[("x-api-key", acme), ("x-goog-api-key", acme)]),
        one("key twice", State::Duplicated, twice, &[("x-api-key", acme), ("x-api-key", acme)]),
        one("two keys", State::Duplicated, twice, &[("authorization", &bearer), ("x-api-key", globex)]),
    ]
}

fn spelling(state: State) -> Spelling {
    let headers = Vec::new();
    Spelling { name: "", state, says: Says::Nothing, path: None, headers, only_http1: false }
}

fn with(state: State, headers: &[(&str, &[u8])]) -> Spelling {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
    Spelling { headers, ..spelling(state) }
}
