//! What a tenant may use, and how much: models, regions, caps, sizes, budgets, and whose key pays the provider.

use std::time::Duration;

use serde_json::json;

use super::model_ids;
use crate::stack::PLATFORM_KEYS;
use crate::stage::{Asked, Stage, says};

/// globex's own key at its provider.
const OWN_KEY: &str = "sk-globex-own";
/// A `Retry-After` up to this many seconds is waited for.
const SOON: u64 = 5;

/// Four chapters.
pub(super) async fn tell(stage: &mut Stage<'_>) {
    models(stage).await;
    bodies(stage).await;
    own_key(stage).await;
    budget(stage).await;
}

async fn models(stage: &mut Stage<'_>) {
    stage.page.chapter("Only the models, regions and endpoints that were sold");
    let (acme, initech) = (stage.keys.of("acme").to_owned(), stage.keys.of("initech").to_owned());
    let small = stage.keys.small.clone();
    let answer = stage.row("acme, API key", "list of models", "200", &Asked::get("/v1/models").bearer(&acme)).await;
    stage.page.finding("models that acme sees", "llama-3.1-70b, llama-3.1-8b", &model_ids(&answer.json()));
    let answer =
        stage.row("initech, API key", "list of models", "200", &Asked::get("/v1/models").bearer(&initech)).await;
    stage.page.finding("models that initech sees", "gpt-4o-mini, llama-3.1-8b", &model_ids(&answer.json()));

    let large = Asked::chat(&says("llama-3.1-70b", "hello"));
    let token = stage.issuers.token("globex");
    stage.row("globex, JWT", "a model of another plan", "404 model_not_found", &large.clone().bearer(&token)).await;
    stage.row("acme, small key", "a model beyond the key's role", "403 model_not_allowed", &large.bearer(&small)).await;

    stage
        .row(
            "initech, API key",
            "chat: its region is us-east",
            "200",
            &Asked::chat(&says("llama", "hi")).bearer(&initech),
        )
        .await;
    let saw = stage.last();
    stage.page.finding("provider", "hosted", saw.provider);
    let name = saw.body["model"].as_str().unwrap_or_default();
    stage.page.finding("model, as that provider knows it", "llama-3.1-8b-instruct", name);
    stage.row("acme, API key", "GET /v1/unknown", "404 not_found", &Asked::get("/v1/unknown").bearer(&acme)).await;
}

async fn bodies(stage: &mut Stage<'_>) {
    stage.page.chapter("Bodies are read once, and bounded");
    let (token, initech) = (stage.issuers.token("globex"), stage.keys.of("initech").to_owned());
    let mut body = says("llama", "hello");
    body["max_tokens"] = json!(100_000);
    stage.row("globex, JWT", "max_tokens: 100000", "200", &Asked::chat(&body).bearer(&token)).await;
    let asked = stage.last().body["max_completion_tokens"].to_string();
    stage.page.finding("output limit, as the provider saw it", "1024", &asked);

    let mut body = says("llama", "hello");
    body["max_tokenz"] = json!(5);
    stage.row("globex, JWT", "an unknown field", "400 unknown_field", &Asked::chat(&body).bearer(&token)).await;
    let large = says("llama", &"x".repeat(80 * 1024));
    stage
        .row(
            "initech, API key",
            "80 KiB; its plan takes 64",
            "413 body_too_large",
            &Asked::chat(&large).bearer(&initech),
        )
        .await;
}

async fn own_key(stage: &mut Stage<'_>) {
    stage.page.chapter("Provider keys: a tenant's own from the vault, else the platform's");
    let arguments = ["vault", "put", "--tenant", "globex", "--provider", "gpu-pool"];
    let said = stage.service.cli(&arguments, OWN_KEY).await;
    assert_eq!(said.code, Some(0), "bulkhead vault put: {}", said.err);
    let hello = Asked::chat(&says("llama", "hello"));
    let (token, acme) = (stage.issuers.token("globex"), stage.keys.of("acme").to_owned());
    stage.row("globex, JWT", "chat, after `bulkhead vault put`", "200", &hello.clone().bearer(&token)).await;
    let saw = stage.last().header("authorization");
    stage.page.finding("credential, as the provider saw it", &format!("Bearer {OWN_KEY}"), &saw);
    stage.row("acme, API key", "chat, at the same provider", "200", &hello.bearer(&acme)).await;
    let saw = stage.last().header("authorization");
    stage.page.finding("credential, as the provider saw it", &format!("Bearer {}", PLATFORM_KEYS[0].1), &saw);
}

/// initech's plan sells 200 µ$ a day: a handful of requests. While reservations are open the refusal says to come back in a
/// second, when they are settled; at the end it says tomorrow.
async fn budget(stage: &mut Stage<'_>) {
    stage.page.chapter("Budgets: the worst case is reserved before, the true cost is charged after");
    let initech = stage.keys.of("initech").to_owned();
    let asked = Asked::chat(&says("gpt-4o-mini", "as long as you can [tokens=64]")).bearer(&initech);
    let mut sent = 0;
    let (answer, wait) = loop {
        let answer = stage.send(&asked).await;
        let wait = answer.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
        sent += 1;
        match wait {
            Some(soon @ 0..=SOON) if sent < 24 => tokio::time::sleep(Duration::from_secs(soon)).await,
            None if answer.status == 200 && sent < 24 => {}
            wait => break (answer, wait.unwrap_or_default()),
        }
    };
    let got = stage.outcome(&asked, &answer);
    stage.page.row("initech, API key", "chat until the day's $0.000200 are used", "429 insufficient_quota", &got);
    stage.page.finding("limit that refused", "spend-per-day", answer.header("x-bulkhead-limit").unwrap_or_default());
    let got = if wait > SOON && wait <= 25 * 3600 { "told" } else { "not told" };
    stage.page.finding(&format!("Retry-After: {wait} s, midnight there"), "told", got);
}
