//! Bearer tokens through the real chain: every algorithm opens the door, and every attack of security.md B01 to B14 is
//! answered like every other, so that a stranger learns nothing. The attacks are in `attacks.rs` and `claimed.rs`.

mod attacks;
mod claimed;

use std::collections::BTreeSet;

use bulkhead_tests::books::{Books, text};
use bulkhead_tests::client::{Answer, Shot, volley};
use bulkhead_tests::configuration::patient;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::mint::Alg;
use bulkhead_tests::policies::issuer;

/// A token, what is wrong with it, and the code of its refusal.
struct Forged {
    what: String,
    token: String,
    code: &'static str,
}

impl Forged {
    /// One that proves nobody.
    fn new(what: impl Into<String>, token: impl Into<String>) -> Self {
        Self { what: what.into(), token: token.into(), code: "invalid_credential" }
    }
}

fn shot(token: &str) -> Shot {
    let body = chat_body("[prompt=2] [tokens=1]").to_string();
    Shot::post(CHAT, body).header("authorization", format!("Bearer {token}"))
}

async fn answers(gateway: &Gateway, shots: &[Shot]) -> (Vec<Answer>, Vec<String>) {
    let answers = volley(gateway.addr, shots, 8).await;
    let answers: Vec<Answer> = answers.into_iter().map(|answer| answer.expect("an answer")).collect();
    let ids = answers.iter().map(|answer| answer.header("x-request-id").unwrap_or_default().to_owned()).collect();
    (answers, ids)
}

#[tokio::test]
async fn every_algorithm_opens_the_door() {
    let gateway = Gateway::builder().without_keys().envoy(|text| patient(&text, "5s")).start().await;
    let tenants = ["acme", "globex"];
    let pairs: Vec<(&str, Alg)> = tenants.iter().flat_map(|tenant| Alg::ALL.map(|alg| (*tenant, alg))).collect();
    let shots: Vec<Shot> = pairs.iter().map(|(tenant, alg)| shot(&issuer(tenant).token(*alg))).collect();
    let (answers, ids) = answers(&gateway, &shots).await;
    let books = Books::closed(&gateway, &ids).await;
    for ((tenant, alg), (answer, id)) in pairs.iter().zip(answers.iter().zip(&ids)) {
        assert_eq!(answer.status, 200, "{tenant} {}: {}", alg.name(), answer.text());
        let line = books.line(id);
        let who = format!("user@{tenant}.example");
        assert_eq!((text(line, "tenant"), text(line, "principal")), (*tenant, who.as_str()), "{line}");
        assert_eq!((text(line, "credential"), text(line, "keyId")), ("jwt", ""), "{line}");
        let [seen] = books.seen(id) else { panic!("sent once") };
        assert_eq!(seen.header("x-tenant-id").as_deref(), Some(*tenant));
    }
}

#[tokio::test]
async fn what_is_nearly_wrong_is_right() {
    let gateway = Gateway::builder().without_keys().envoy(|text| patient(&text, "5s")).start().await;
    let tokens = claimed::accepted();
    let shots: Vec<Shot> = tokens.iter().map(|(_, token)| shot(token)).collect();
    for ((what, _), answer) in tokens.iter().zip(answers(&gateway, &shots).await.0) {
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    }
}

#[tokio::test]
async fn no_attack_opens_it_and_all_are_answered_alike() {
    let gateway = Gateway::builder().without_keys().envoy(|text| patient(&text, "5s")).start().await;
    let forged: Vec<Forged> = attacks::all().into_iter().chain(claimed::all()).collect();
    let shots: Vec<Shot> = forged.iter().map(|one| shot(&one.token)).collect();
    let (answers, ids) = answers(&gateway, &shots).await;
    for (Forged { what, code, .. }, answer) in forged.iter().zip(&answers) {
        if answer.code() != *code {
            eprintln!("{what}: {} instead of {code}", answer.text());
        }
    }
    let books = Books::closed(&gateway, &ids).await;
    let mut said = BTreeSet::new();
    for (Forged { what, token, code }, (answer, id)) in forged.iter().zip(answers.iter().zip(&ids)) {
        let status = if *code == "invalid_credential" { 401 } else { 403 };
        books.refused(answer, status, code, what);
        let line = books.line(id);
        assert_eq!((text(line, "tenant"), text(line, "principal")), ("", ""), "{what}: nobody is proved: {line}");
        assert!(!text(line, "detail").is_empty(), "{what}: the log says why: {line}");
        assert!(!line.to_string().contains(token.as_str()), "{what}: the log holds the token");
        assert_eq!(answer.header("www-authenticate"), (status == 401).then_some("Bearer"), "{what}");
        said.insert((*code, answer.text().replace(id.as_str(), "")));
    }
    assert_eq!(said.len(), 2, "one public text for each code: {said:#?}");
    assert_eq!(books.sent(), 0);
    assert!(gateway.is_whole().await);
    assert_eq!(
        gateway.post(CHAT, &[("authorization", &gateway.jwt("acme"))], chat_body("hi").to_string()).await.status,
        200
    );
    eprintln!("jwt: {} forged tokens refused", forged.len());
}

#[tokio::test]
async fn a_token_that_is_too_long_is_not_looked_at() {
    let gateway = Gateway::builder().without_keys().envoy(|text| patient(&text, "5s")).start().await;
    let acme = issuer("acme");
    let mut claims = acme.claims();
    claims["padding"] = "x".repeat(48 * 1024).into();
    let (answers, _) = answers(&gateway, &[shot(&acme.token_with(Alg::Es256, &claims))]).await;
    assert_eq!((answers[0].status, answers[0].code().as_str()), (431, "headers_too_large"));
}
