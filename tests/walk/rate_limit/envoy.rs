//! Envoy's own ratelimit filter in front of a model, without a module: it admits, it charges what `json_to_metadata` found in
//! the answer, and where ext_authz stands before it, it settles that grant's reservation.

use std::net::SocketAddr;

use bulkhead_tests::client;
use bulkhead_tests::configuration::{Profile, insert_filter_before, patient};
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{Gateway, chat_body, envoy_minor, start_envoy};
use bulkhead_tests::policies::GPU_POOL_KEY;
use bulkhead_tests::process::{Process, Signal};
use http::Request;
use serde_json::json;

use super::small;

/// Finds the usage of a JSON answer.
const USAGE: &str = r#"name: usage
typed_config:
  "@type": type.googleapis.com/envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata
  response_rules:
    rules:
    - selectors: [{key: usage}, {key: prompt_tokens}]
      on_present: {metadata_namespace: bulkhead.usage, key: input, type: NUMBER}
    - selectors: [{key: usage}, {key: completion_tokens}]
      on_present: {metadata_namespace: bulkhead.usage, key: output, type: NUMBER}"#;

/// Asks us, and lets nothing pass without an answer.
fn ratelimit(rate_limits: &str) -> String {
    let lines: String = rate_limits.trim().lines().map(|line| format!("  {line}\n")).collect();
    format!(
        r#"name: ratelimit
typed_config:
  "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit
  domain: bulkhead
  failure_mode_deny: true
  timeout: 5s
  enable_x_ratelimit_headers: DRAFT_VERSION_03
  rate_limit_service:
    transport_api_version: V3
    grpc_service:
      envoy_grpc: {{cluster_name: bulkhead-service}}
      initial_metadata: [{{key: x-bulkhead-proxy, value: edge-1}}]
  rate_limits:
{lines}"#
    )
}

/// Settles the grant of this request by the usage that was found.
const SETTLE: &str = r#"
- actions:
  - metadata: {descriptor_key: grant, source: DYNAMIC, metadata_key: {key: envoy.filters.http.ext_authz, path: [{key: bulkhead_grant}]}}
  - generic_key: {descriptor_key: cost, descriptor_value: input_tokens}
  hits_addend: {format: "%DYNAMIC_METADATA(bulkhead.usage:input)%"}
  apply_on_stream_done: true
- actions:
  - metadata: {descriptor_key: grant, source: DYNAMIC, metadata_key: {key: envoy.filters.http.ext_authz, path: [{key: bulkhead_grant}]}}
  - generic_key: {descriptor_key: cost, descriptor_value: output_tokens}
  hits_addend: {format: "%DYNAMIC_METADATA(bulkhead.usage:output)%"}
  apply_on_stream_done: true"#;

#[tokio::test]
async fn without_a_module_the_reservation_is_settled_by_what_envoy_found() {
    let gateway = Gateway::builder()
        .profile(Profile::Portable)
        .envoy(|text| {
            let (before, rest) = text.split_once("          - name: gateway\n").unwrap();
            let (_, after) = rest.split_once("          # ---- room 6: to the model.\n").unwrap();
            let text = patient(&format!("{before}{after}"), "5s");
            let text = insert_filter_before(&text, "envoy.filters.http.router", &ratelimit(SETTLE));
            insert_filter_before(&text, "envoy.filters.http.router", USAGE)
        })
        .start()
        .await;
    let answer = gateway.chat("acme", &chat_body("[prompt=10] [tokens=5]")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let line = gateway.service().settled(answer.header("x-request-id").unwrap()).await;
    assert_eq!((&line["charged"]["tokens"], &line["usage"]["output"]), (&json!(15), &json!(5)), "{line}");
    assert_eq!((&line["outcome"], &line["estimated"]), (&json!("answered"), &json!(false)));
    assert_eq!(gateway.service().left("acme", "in-flight").await, 4096);
    // an answer without a usage settles nothing: the whole reservation is charged when the longest stream is over
    let answer = gateway.chat("acme", &chat_body("[status=500]")).await;
    assert_eq!(answer.status, 500);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(gateway.service().left("acme", "in-flight").await, 4095);
}

/// An Envoy of one tenant's own, with nothing in it but the ratelimit filter.
async fn bare(gateway: &Gateway, rate_limits: &str) -> (Process, SocketAddr) {
    let indented =
        |filter: &str| filter.trim_end().lines().map(|line| format!("            {line}\n")).collect::<String>();
    let filters = format!(
        "          - {}          - {}",
        indented(&ratelimit(rate_limits)).trim_start(),
        indented(USAGE).trim_start()
    );
    let text = format!(
        r#"admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
static_resources:
  listeners:
  - name: edge
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge
          route_config:
            virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: model}}}}]}}]
          http_filters:
{filters}          - name: router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: model
    type: STATIC
    load_assignment:
      cluster_name: model
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]
  - name: bulkhead-service
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: bulkhead-service
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{pipe: {{path: {socket}}}}}}}}}]}}]
"#,
        port = gateway.upstream.addr().port(),
        socket = gateway.service().proxies().display(),
    );
    let directory = gateway.directory().join("bare");
    std::fs::create_dir_all(&directory).unwrap();
    let config = directory.join("envoy.yaml");
    std::fs::write(&config, text).unwrap();
    let (envoy, _, addr) = start_envoy(&directory, &config, 1).await;
    (envoy, addr)
}

async fn chat(addr: SocketAddr, words: &str) -> client::Answer {
    let request = Request::post("/v1/chat/completions").header("host", "ai.example");
    let request = request.header("content-type", "application/json");
    let request = request.header("authorization", format!("Bearer {GPU_POOL_KEY}"));
    client::request(addr, request.body(chat_body(words).to_string().into()).unwrap()).await.unwrap()
}

/// Admits a request of globex, and charges the tokens that were found by the price book.
const ADMIT_AND_CHARGE: &str = r#"
- actions:
  - generic_key: {descriptor_key: tenant, descriptor_value: globex}
- actions:
  - generic_key: {descriptor_key: tenant, descriptor_value: globex}
  - generic_key: {descriptor_key: model, descriptor_value: llama-3.1-8b}
  - generic_key: {descriptor_key: cost, descriptor_value: input_tokens}
  hits_addend: {format: "%DYNAMIC_METADATA(bulkhead.usage:input)%"}
  apply_on_stream_done: true
- actions:
  - generic_key: {descriptor_key: tenant, descriptor_value: globex}
  - generic_key: {descriptor_key: model, descriptor_value: llama-3.1-8b}
  - generic_key: {descriptor_key: cost, descriptor_value: output_tokens}
  hits_addend: {format: "%DYNAMIC_METADATA(bulkhead.usage:output)%"}
  apply_on_stream_done: true"#;

#[tokio::test]
async fn envoys_filter_admits_charges_and_refuses() {
    let gateway = Gateway::builder().policies(small).start().await;
    let (_envoy, addr) = bare(&gateway, ADMIT_AND_CHARGE).await;
    for turn in 1..=4 {
        let answer = chat(addr, "[prompt=10] [tokens=5]").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-ratelimit-remaining"), Some((4 - turn).to_string().as_str()));
        assert!(answer.header("ratelimit").unwrap().contains("requests-per-hour"));
        eventually("the charge", async || {
            (gateway.service().left("globex", "tokens-per-day").await == 1000 - 15 * turn).then_some(())
        })
        .await;
    }
    let answer = chat(addr, "one too many").await;
    assert_eq!((answer.status, answer.code().as_str()), (429, "rate_limit_exceeded"), "{}", answer.text());
    assert!(answer.header("retry-after").is_some() && answer.header("x-bulkhead-limit").is_some());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(gateway.upstream.record().len(), 4);
    // priced, not only counted
    let charged = gateway.service().audit().await;
    let charged = charged.iter().find(|line| line["charged"]["tokens"] == 15).expect("a charge");
    assert_eq!((&charged["usage"]["input"], &charged["proxy"]), (&json!(10), &json!("edge-1")));
    assert!(charged["charged"]["microUsd"].as_u64().unwrap() >= 3 && charged["charged"]["requests"] == 0, "{charged}");

    gateway.service().process().signal(Signal::Kill);
    gateway.service().process().ended().await;
    assert_eq!(chat(addr, "nobody answers").await.status, 500, "failure_mode_deny");
    assert_eq!(gateway.upstream.record().len(), 4);
}

/// `is_negative_hits` is in Envoy since 1.38.
#[tokio::test]
async fn envoys_filter_gives_back_an_estimate() {
    if envoy_minor() < 38 {
        return;
    }
    let gateway = Gateway::builder().policies(small).start().await;
    let estimate = r#"
- actions:
  - generic_key: {descriptor_key: tenant, descriptor_value: globex}
  - generic_key: {descriptor_key: cost, descriptor_value: tokens}
  hits_addend: {number: 300}
- actions:
  - generic_key: {descriptor_key: tenant, descriptor_value: globex}
  - generic_key: {descriptor_key: cost, descriptor_value: tokens}
  hits_addend: {number: 300, is_negative_hits: true}
  apply_on_stream_done: true
- actions:
  - generic_key: {descriptor_key: tenant, descriptor_value: globex}
  - generic_key: {descriptor_key: cost, descriptor_value: tokens}
  hits_addend: {format: "%DYNAMIC_METADATA(bulkhead.usage:output)%"}
  apply_on_stream_done: true"#;
    let (_envoy, addr) = bare(&gateway, estimate).await;
    assert_eq!(chat(addr, "[prompt=10] [tokens=5]").await.status, 200);
    eventually("the actual cost alone", async || {
        (gateway.service().left("globex", "tokens-per-day").await == 995).then_some(())
    })
    .await;
    eventually("the same on the disk", async || {
        (gateway.service().number("SELECT sum(settled) FROM windows") == 5).then_some(())
    })
    .await;
}

/// The shipped configuration gives Envoy's own refusals its shape: ours from the ratelimit filter must be let through.
#[tokio::test]
async fn a_refusal_keeps_its_words_in_the_shipped_configuration() {
    let over = r#"
- actions:
  - generic_key: {descriptor_key: tenant, descriptor_value: nobody}"#;
    let gateway = Gateway::builder()
        .profile(Profile::Portable)
        .envoy(move |text| insert_filter_before(&patient(&text, "5s"), "envoy.filters.http.router", &ratelimit(over)))
        .start()
        .await;
    let answer = gateway.chat_once("acme", &chat_body("[tokens=1]")).await;
    assert_eq!((answer.status, answer.code().as_str()), (429, "invalid_credential"), "{}", answer.text());
    assert!(gateway.upstream.record().is_empty());
}
