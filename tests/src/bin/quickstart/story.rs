//! The story of the quickstart, in chapters: who is it, one tenant per request, on which terms, whose key, and what happens
//! when the service hangs. Each chapter stands alone but for initech's budget, which ends in the third.

mod bill;
mod outage;
mod terms;

use serde_json::{Value, json};

use crate::stack::PLATFORM_KEYS;
use crate::stage::{Asked, Stage, says};

/// Tells all of it.
pub(crate) async fn tell(stage: &mut Stage<'_>) {
    who_is_it(stage).await;
    one_tenant(stage).await;
    no_credential(stage).await;
    terms::tell(stage).await;
    outage::tell(stage).await;
    bill::tell(stage).await;
}

async fn who_is_it(stage: &mut Stage<'_>) {
    stage.page.chapter("Three customers, one gateway");
    let acme = stage.keys.of("acme").to_owned();
    stage.row("acme, API key", "chat", "200", &Asked::chat(&says("llama", "hello")).bearer(&acme)).await;
    let saw = stage.last();
    stage.page.finding("tenant, as the provider saw it", "acme", &saw.header("x-bulkhead-tenant"));
    let platform = format!("Bearer {}", PLATFORM_KEYS[0].1);
    stage.page.finding("credential, as the provider saw it", &platform, &saw.header("authorization"));

    let token = stage.issuers.token("globex");
    stage.row("globex, JWT", "chat", "200", &Asked::chat(&says("llama", "hello")).bearer(&token)).await;
    stage.page.finding("tenant, as the provider saw it", "globex", &stage.last().header("x-bulkhead-tenant"));

    streaming(stage, &acme).await;

    let path = "/api/v1/tenants/acme/models/llama/predict";
    let body = json!({"messages": [{"role": "user", "content": "hello"}]});
    stage.row("acme, API key", "tenant and model in the path", "200", &Asked::post(path, &body).bearer(&acme)).await;
    stage.page.finding("path, as the provider saw it", "/v1/chat/completions", &stage.last().path);
}

/// A stream of 12 tokens: the usage is asked of the provider, and taken out of what the client gets.
async fn streaming(stage: &mut Stage<'_>, key: &str) {
    let mut body = says("llama", "count to twelve [tokens=12] [prompt=30]");
    body["stream"] = json!(true);
    let answer = stage.row("acme, API key", "chat, streaming", "200", &Asked::chat(&body).bearer(key)).await;
    let events = answer.events();
    let words = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    let words = words.filter(|word| !word.is_empty()).count();
    let with_usage = events.iter().filter(|event| event["usage"].is_object()).count();
    let asked = &stage.last().body["stream_options"]["include_usage"];
    stage.page.finding("chunks with a word, as the client got them", "12", &words.to_string());
    stage.page.finding("usage asked of the provider", "true", &asked.to_string());
    stage.page.finding("chunks with usage, as the client got them", "0", &with_usage.to_string());
    stage.add_tokens(30, 12);
}

async fn one_tenant(stage: &mut Stage<'_>) {
    stage.page.chapter("One tenant per request: every place that names one must agree");
    let acme = stage.keys.of("acme").to_owned();
    let hello = says("llama", "hello");
    let path = "/api/v1/tenants/globex/models/llama/predict";
    let conflict = "403 tenant_conflict";
    stage.row("acme, API key", "globex in the path", conflict, &Asked::post(path, &hello).bearer(&acme)).await;
    let asked = Asked::chat(&hello).bearer(&acme);
    stage.row("acme, API key", "X-Tenant-ID: globex", conflict, &asked.clone().with("x-tenant-id", "globex")).await;

    let forged = asked.with("x-bulkhead-tenant", "globex").with("x-bulkhead-route", "model-upstream-2");
    stage.row("acme, API key", "forged x-bulkhead-tenant: globex", "200", &forged).await;
    let saw = stage.last();
    stage.page.finding("tenant, as the provider saw it", "acme", &saw.header("x-bulkhead-tenant"));
    stage.page.finding("provider, despite a forged route", "gpu-pool", saw.provider);
}

async fn no_credential(stage: &mut Stage<'_>) {
    stage.page.chapter("Exactly one credential, and a good one");
    let hello = Asked::chat(&says("llama", "hello"));
    let (acme, token) = (stage.keys.of("acme").to_owned(), stage.issuers.token("acme"));
    let expired = stage.issuers.expired_token("acme");
    stage.row("a stranger", "no credential", "401 missing_credential", &hello).await;
    let flipped = flipped(&acme);
    stage
        .row("a stranger", "a key that was never made", "401 invalid_credential", &hello.clone().bearer(&flipped))
        .await;
    stage
        .row("acme, old JWT", "a token of an hour ago", "401 invalid_credential", &hello.clone().bearer(&expired))
        .await;
    let both = hello.bearer(&token).with("x-api-key", acme);
    stage.row("acme, both", "a JWT and an API key", "400 ambiguous_credentials", &both).await;
}

/// The key with one character of its secret changed.
fn flipped(key: &str) -> String {
    let at = key.len() / 2;
    let other = if key[at..].starts_with('x') { "y" } else { "x" };
    format!("{}{other}{}", &key[..at], &key[at + 1..])
}

/// Ids of a models list.
fn model_ids(list: &Value) -> String {
    let models = list["data"].as_array().into_iter().flatten();
    models.filter_map(|model| model["id"].as_str()).collect::<Vec<_>>().join(", ")
}
