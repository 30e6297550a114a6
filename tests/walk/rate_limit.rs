//! `ShouldRateLimit` for data planes that run no module: asked directly, and by Envoy's own ratelimit filter.

mod envoy;

use bulkhead_tests::gateway::Gateway;
use bulkhead_tests::policies::Policies;
use bulkhead_tests::process::Signal;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::google::protobuf::UInt64Value;
use hyper_util::rt::TokioIo;
use serde_json::json;

/// Plan `standard` (globex) with a rate of four requests an hour, a daily budget of a thousand tokens, and what it has in
/// flight.
fn small(set: &mut Policies) {
    set.spec("Plan", "standard")["limits"] = json!([
        {"name": "requests-per-hour", "counts": "requests", "scope": "tenant", "amount": 4, "rate": "1h"},
        {"name": "tokens-per-day", "counts": "tokens", "scope": "tenant", "amount": 1000, "window": "day"},
        {"name": "in-flight", "counts": "requests", "scope": "tenant", "amount": 2, "inFlight": true},
    ]);
}

fn descriptor(entries: &[(&str, &str)], hits: i64) -> RateLimitDescriptor {
    let entries = entries.iter().map(|(key, value)| Entry { key: (*key).into(), value: (*value).into() }).collect();
    let hits_addend = Some(UInt64Value { value: hits.unsigned_abs() });
    RateLimitDescriptor { entries, hits_addend, is_negative_hits: hits < 0, ..RateLimitDescriptor::default() }
}

async fn ask_as(
    gateway: &Gateway,
    proxy: &str,
    domain: &str,
    descriptors: Vec<RateLimitDescriptor>,
) -> RateLimitResponse {
    let path = gateway.service().proxies();
    let connect = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel =
        tonic::transport::Endpoint::from_static("http://proxies").connect_with_connector(connect).await.unwrap();
    let mut request = tonic::Request::new(RateLimitRequest { domain: domain.into(), descriptors, hits_addend: 0 });
    if !proxy.is_empty() {
        request.metadata_mut().insert("x-bulkhead-proxy", proxy.parse().unwrap());
    }
    RateLimitServiceClient::new(channel).should_rate_limit(request).await.unwrap().into_inner()
}

async fn ask(gateway: &Gateway, entries: &[(&str, &str)], hits: i64) -> RateLimitResponse {
    ask_as(gateway, "edge-1", "bulkhead", vec![descriptor(entries, hits)]).await
}

fn header(answer: &RateLimitResponse, name: &str) -> String {
    let found = answer.response_headers_to_add.iter().find(|header| header.key == name);
    found.map(|header| header.value.clone()).unwrap_or_default()
}

/// Code, limit, what is left of it.
fn told(answer: &RateLimitResponse) -> (Code, String, u32) {
    let status = &answer.statuses[0];
    assert_eq!(status.code(), answer.overall_code());
    let name = status.current_limit.as_ref().map(|limit| limit.name.clone()).unwrap_or_default();
    (status.code(), name, status.limit_remaining)
}

const GLOBEX: (&str, &str) = ("tenant", "globex");
const TOKENS: (&str, &str) = ("cost", "tokens");

#[tokio::test]
async fn requests_are_admitted_while_they_fit_and_costs_are_debt() {
    let mut gateway = Gateway::builder().policies(small).start().await;
    let rate = "requests-per-hour".to_owned();
    assert_eq!(told(&ask(&gateway, &[GLOBEX], 0).await), (Code::Ok, rate.clone(), 4), "asking counts nothing");
    assert_eq!(told(&ask(&gateway, &[GLOBEX], 3).await), (Code::Ok, rate.clone(), 1));
    assert_eq!(told(&ask(&gateway, &[GLOBEX], 2).await), (Code::OverLimit, rate.clone(), 1), "all or nothing");
    let last = ask(&gateway, &[GLOBEX], 1).await;
    assert_eq!(told(&last), (Code::Ok, rate.clone(), 0), "none stays in flight");
    assert!(header(&last, "ratelimit").contains("\"requests-per-hour\";r=0"), "{last:?}");
    let over = ask(&gateway, &[GLOBEX], 1).await;
    assert_eq!(told(&over), (Code::OverLimit, rate.clone(), 0));
    assert!(over.statuses[0].duration_until_reset.as_ref().unwrap().seconds > 800);
    assert!((800..=900).contains(&header(&over, "retry-after").parse::<u64>().unwrap()), "{over:?}");
    assert_eq!(header(&over, "x-bulkhead-limit"), rate);
    assert!(String::from_utf8_lossy(&over.raw_body).contains("\"rate_limit_exceeded\""));

    // a charge is never refused, and what passes the budget is debt
    assert_eq!(told(&ask(&gateway, &[GLOBEX, TOKENS], 990).await).0, Code::Ok);
    assert_eq!(gateway.service().left("globex", "tokens-per-day").await, 10);
    assert_eq!(told(&ask(&gateway, &[GLOBEX, TOKENS], 40).await).0, Code::Ok);
    assert_eq!(gateway.service().left("globex", "tokens-per-day").await, 0);

    // durable before the answer
    gateway.service().process().signal(Signal::Kill);
    gateway.service().process().ended().await;
    gateway.service_mut().restart().await;
    assert_eq!(gateway.service().left("globex", "requests-per-hour").await, 0);
    assert_eq!(gateway.service().number("SELECT settled FROM windows WHERE settled > 0"), 1_030);
    let usage = gateway.service().usage("globex").await;
    assert_eq!((&usage["admitted"], &usage["denied"]["rate_limit_exceeded"]), (&json!(4), &json!(2)), "{usage}");
}

#[tokio::test]
async fn a_proxy_gives_back_what_it_charged_and_no_more() {
    let gateway = Gateway::builder().policies(small).start().await;
    let left = async || gateway.service().left("globex", "tokens-per-day").await;
    ask(&gateway, &[GLOBEX, TOKENS], 600).await;
    assert_eq!(told(&ask(&gateway, &[GLOBEX, TOKENS], -200).await).0, Code::Ok);
    assert_eq!(left().await, 600);
    for (proxy, entries) in [("edge-2", vec![GLOBEX, TOKENS]), ("edge-1", vec![GLOBEX, TOKENS, ("principal", "eve")])] {
        let answer = ask_as(&gateway, proxy, "bulkhead", vec![descriptor(&entries, -1)]).await;
        assert_eq!((answer.overall_code(), left().await), (Code::OverLimit, 600), "{proxy} {entries:?}");
    }
    assert_eq!(ask(&gateway, &[GLOBEX, TOKENS], -401).await.overall_code(), Code::OverLimit);
    assert_eq!(ask(&gateway, &[GLOBEX, TOKENS], -400).await.overall_code(), Code::Ok);
    assert_eq!((left().await, gateway.service().number("SELECT sum(settled) FROM windows")), (1000, 0));
    assert_eq!(ask(&gateway, &[GLOBEX, TOKENS], -1).await.overall_code(), Code::OverLimit);
}

#[tokio::test]
async fn what_cannot_be_decided_is_over_the_limit() {
    let gateway = Gateway::builder()
        .policies(|set| {
            small(set);
            set.spec("Tenant", "initech")["state"] = json!("Isolated");
            let per_model =
                json!({"name": "per-model", "counts": "requests", "scope": "model", "amount": 9, "window": "day"});
            set.spec("Plan", "premium")["limits"].as_array_mut().unwrap().push(per_model);
        })
        .start()
        .await;
    let key = gateway.keys["globex"].split('_').nth(1).unwrap()[..12].to_owned();
    for entries in [
        vec![("tenant", "nobody")],
        vec![("tenant", "initech")],
        vec![("tenant", "Globex")],
        vec![GLOBEX, GLOBEX],
        vec![],
        vec![GLOBEX, ("colour", "red")],
        vec![GLOBEX, ("cost", "euros")],
        vec![GLOBEX, ("model", "llama-3.1-70b")],
        vec![GLOBEX, ("key", "nosuchkey123")],
        vec![("tenant", "acme"), ("key", &key)],
        vec![("tenant", "acme")],
        vec![GLOBEX, ("cost", "input_tokens")],
        vec![("grant", "bm90IG91cnM"), ("cost", "input_tokens")],
    ] {
        let answer = ask(&gateway, &entries, 1).await;
        assert_eq!(answer.overall_code(), Code::OverLimit, "{entries:?}");
        assert!(answer.statuses[0].current_limit.is_none() && !answer.raw_body.is_empty(), "{entries:?}");
    }
    let good = || vec![descriptor(&[GLOBEX], 1)];
    for (proxy, domain, descriptors) in
        [("", "bulkhead", good()), ("edge-1", "other", good()), ("edge-1", "bulkhead", Vec::new())]
    {
        let answer = ask_as(&gateway, proxy, domain, descriptors).await;
        assert_eq!(answer.overall_code(), Code::OverLimit, "{proxy} {domain}");
    }
    assert_eq!(gateway.service().left("globex", "requests-per-hour").await, 4, "nothing of it counted");
    let named = [("tenant", "acme"), ("model", "llama")];
    assert_eq!(ask(&gateway, &named, 1).await.overall_code(), Code::Ok, "by its alias");
    assert_eq!(ask(&gateway, &[GLOBEX, ("key", &key)], 1).await.overall_code(), Code::Ok);
}
