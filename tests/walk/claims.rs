//! Every subset of path, claim header, JWT and API key, each agreeing, disagreeing, malformed or twice: whom a request is
//! for is decided once, and upstream, charge and audit name the same tenant. The model of path and body: `models.rs`.

mod models;
mod sources;

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_tests::books::{Books, text};
use bulkhead_tests::client::{Answer, Shot, volley};
use bulkhead_tests::configuration::{Profile, patient};
use bulkhead_tests::full;
use bulkhead_tests::gateway::{Gateway, chat_body};
use gateway_core::denial::Code;

use sources::{Says, Spelling, State, contradict, verdict};

/// Spellings that a state-by-state combination takes of all those that it has.
const SPELLINGS_EACH: usize = 4;
/// Connections of each protocol.
const LANES: usize = 12;

struct Case {
    spellings: [Spelling; 4],
    shot: Shot,
    prompt: u64,
}

impl Case {
    fn new(number: usize, spellings: [&Spelling; 4]) -> Self {
        let prompt = number as u64 % 97 + 1;
        let body = chat_body(&format!("[prompt={prompt}] [tokens=3]")).to_string();
        let mut shot = Shot::post(spellings[0].path.clone().expect("a path"), body);
        shot.http2 = number % 5 == 4 && spellings.iter().all(|one| !one.only_http1);
        shot.headers.extend(spellings.iter().flat_map(|one| one.headers.clone()));
        // in another order for every other case: nothing may depend on which comes first
        if number % 2 == 1 {
            shot.headers.reverse();
        }
        Self { spellings: spellings.map(Clone::clone), shot, prompt }
    }

    fn expected(&self) -> Result<&'static str, &'static str> {
        let [path, header, jwt, key] = &self.spellings;
        verdict(path.says, header.says, jwt.says, key.says)
    }

    fn what(&self) -> String {
        self.spellings.each_ref().map(|one| one.name).join(" + ")
    }

    fn states(&self) -> [State; 4] {
        self.spellings.each_ref().map(|one| one.state)
    }

    /// Whether any two sources name different tenants: told by the spellings alone.
    fn disagrees(&self) -> bool {
        let named = |one: &Spelling| match one.says {
            Says::Names(name) => Some(name),
            Says::Poses(_) => Some("globex"),
            _ => None,
        };
        self.spellings.iter().filter_map(named).collect::<BTreeSet<_>>().len() > 1
    }
}

/// All combinations of all spellings, or of each combination of states a few that differ from run to run of the counter.
fn cases(gateway: &Gateway) -> Vec<Case> {
    let sources = [sources::paths(), sources::headers(), sources::tokens(gateway), sources::keys(gateway)];
    let mut by_states: BTreeMap<[State; 4], Vec<[&Spelling; 4]>> = BTreeMap::new();
    for path in &sources[0] {
        for header in &sources[1] {
            for jwt in &sources[2] {
                for key in &sources[3] {
                    let chosen = [path, header, jwt, key];
                    by_states.entry(chosen.map(|one| one.state)).or_default().push(chosen);
                }
            }
        }
    }
    assert_eq!(by_states.len(), 625, "five states of four sources");
    let chosen = by_states.into_values().enumerate().flat_map(|(number, all)| {
        let step = if full() { 1 } else { all.len().div_ceil(SPELLINGS_EACH) };
        all.into_iter().skip(if full() { 0 } else { number % step }).step_by(step).collect::<Vec<_>>()
    });
    chosen.enumerate().map(|(number, spellings)| Case::new(number, spellings)).collect()
}

#[tokio::test]
async fn every_combination_of_claims_and_credentials() {
    let gateway = Gateway::builder()
        .policies(|set| {
            set.spec("Tenant", "globex")["plan"] = "premium".into(); // room for thousands
        })
        .envoy(|text| patient(&text, "5s"))
        .start()
        .await;
    for tenant in ["acme", "globex"] {
        let put = ["vault", "put", "--tenant", tenant, "--provider", "gpu-pool"];
        let said = gateway.service().cli(&put, &own_key(tenant)).await;
        assert_eq!(said.code, Some(0), "{}", said.err);
    }
    let cases = cases(&gateway);
    let shots: Vec<Shot> = cases.iter().map(|case| case.shot.clone()).collect();
    let answers = volley(gateway.addr, &shots, LANES).await;
    let answers: Vec<Answer> = answers.into_iter().map(|answer| answer.expect("an answer")).collect();
    let ids: Vec<String> = answers.iter().map(|one| one.header("x-request-id").unwrap_or_default().into()).collect();
    let books = Books::closed(&gateway, &ids).await;

    let mut charged: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (case, (answer, id)) in cases.iter().zip(answers.iter().zip(&ids)) {
        let two = [2, 3].iter().all(|at| case.states()[*at] != State::Absent);
        let twice = [2, 3].iter().any(|at| case.states()[*at] == State::Duplicated);
        match case.expected() {
            // in `inline` words that contradict each other are refused before anybody has verified the token among them
            Err("invalid_credential" | "missing_credential" | "not_found") if by_the_front(&gateway, case, answer) => {
                refused(case, answer, "tenant_conflict", &books);
            }
            Err(code) => refused(case, answer, code, &books),
            Ok(tenant) => {
                assert!(!case.disagrees() && !two && !twice, "the model lets {} pass", case.what());
                admitted(&gateway, case, answer, tenant, id, &books);
                let (requests, tokens) = charged.entry(tenant).or_default();
                (*requests, *tokens) = (*requests + 1, *tokens + case.prompt);
            }
        }
    }
    for (tenant, (requests, tokens)) in &charged {
        let usage = gateway.service().usage(tenant).await;
        assert_eq!((&usage["admitted"], &usage["inputTokens"]), (&(*requests).into(), &(*tokens).into()), "{usage}");
        assert_eq!(usage["outputTokens"], requests * 3);
    }
    let admitted: u64 = charged.values().map(|(requests, _)| requests).sum();
    assert_eq!(books.sent() as u64, admitted, "what reached the upstreams");
    assert_eq!(charged.keys().copied().collect::<Vec<_>>(), ["acme", "globex"], "both ways are walked");
    assert!(gateway.is_whole().await);
    eprintln!("claims: {} requests, {admitted} admitted, 625 combinations of states", cases.len());
}

fn by_the_front(gateway: &Gateway, case: &Case, answer: &Answer) -> bool {
    let claimed = case.states()[..2].iter().any(|state| *state != State::Absent);
    gateway.profile == Profile::Inline && claimed && answer.code() == "tenant_conflict"
}

fn refused(case: &Case, answer: &Answer, code: &str, books: &Books) {
    let row = Code::named(code).expect("a code of the table").row();
    let what = case.what();
    books.refused(answer, row.status, code, &what);
    let line = books.line(answer.header("x-request-id").unwrap_or_default());
    // the log names a tenant once a credential has proved it, and never the one that was only claimed
    let looked_at = code == "tenant_conflict" && !contradict(case.spellings[0].says, case.spellings[1].says);
    let proved = case.spellings[2..].iter().find_map(|one| match one.says {
        Says::Names(tenant) if looked_at && text(line, "decision") == "deny" => Some(tenant),
        _ => None,
    });
    assert_eq!(text(line, "tenant"), proved.unwrap_or_default(), "{what}: {line}");
    assert!(!answer.text().contains("globex") && !answer.text().contains("nobody"), "{what}: {}", answer.text());
}

fn admitted(gateway: &Gateway, case: &Case, answer: &Answer, tenant: &str, id: &str, books: &Books) {
    let what = case.what();
    assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    let line = books.line(id);
    assert_eq!((text(line, "decision"), text(line, "tenant")), ("allow", tenant), "{what}: {line}");
    assert_eq!((&line["usage"]["input"], &line["usage"]["output"]), (&case.prompt.into(), &3.into()), "{what}: {line}");
    assert_eq!(line["charged"]["tokens"], case.prompt + 3, "{what}: {line}");
    let [seen] = books.seen(id) else { panic!("{what}: upstream saw it {} times", books.seen(id).len()) };
    for name in ["x-tenant-id", "x-bulkhead-tenant", "x-gateway-inference-fairness-id"] {
        assert_eq!(seen.header(name).as_deref(), Some(tenant), "{what}: {name}");
    }
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {}", own_key(tenant))), "{what}");
    let everything = format!("{} {}", seen.shown(), String::from_utf8_lossy(&seen.body));
    let public = |name: &str| ["content-type", "x-tenant-id"].iter().any(|one| name.eq_ignore_ascii_case(one));
    for (name, value) in case.shot.headers.iter().filter(|(name, _)| !public(name)) {
        let value = String::from_utf8_lossy(value);
        let secret = value.split(' ').next_back().unwrap_or_default();
        assert!(!everything.contains(secret), "{what}: upstream saw the client's {name}");
    }
    assert!(gateway.keys.values().all(|key| !everything.contains(key.as_str())), "{what}: upstream saw a key");
}

/// A tenant's own key of the provider: whose key is used is whose request it is.
fn own_key(tenant: &str) -> String {
    format!("sk-own-{tenant}-5c1e")
}
