//! `GET /v1/models`, which the service answers itself behind the gateway: it believes a grant of its own and nothing else.
//! Asked on the proxies' socket, past Envoy: without a grant, with an old one, with another request's, with a changed one.

use bulkhead_tests::client::{Answer, request_unix};
use bulkhead_tests::configuration::patient;
use bulkhead_tests::gateway::Gateway;
use gateway_core::gate::{Grant, SignedGrant};
use gateway_core::wire;
use http::Request;
use prost::Message as _;
use serde_json::Value;

use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request as Asked};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use envoy_types::pb::google::protobuf::value::Kind;

const MODELS: &str = "/v1/models";

/// The models that an answer lists.
fn listed(answer: &Answer) -> Vec<String> {
    let body = answer.json();
    assert_eq!((answer.status, &body["object"]), (200, &Value::from("list")), "{body}");
    body["data"].as_array().expect("a list").iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
}

/// Asks the service's socket directly, as Envoy does behind the gate.
async fn direct(gateway: &Gateway, path: &str, grants: &[&str]) -> Answer {
    let mut request = Request::get(path).header("host", "ai.example").header("x-bulkhead-tenant", "acme");
    for grant in grants {
        request = request.header(wire::GRANT_HEADER, *grant);
    }
    let request = request.body(Default::default()).expect("a request");
    request_unix(&gateway.service().proxies(), request).await.expect("an answer")
}

/// A real grant for this request: the service is asked as Envoy's ext_authz asks it.
async fn granted(gateway: &Gateway, tenant: &str, method: &str, path: &str, body: &str) -> String {
    let header = |name: &str, value: &str| envoy_types::pb::envoy::config::core::v3::HeaderValue {
        key: name.into(),
        raw_value: value.as_bytes().to_vec(),
        ..Default::default()
    };
    let http = HttpRequest {
        method: method.into(),
        path: path.into(),
        host: "ai.example".into(),
        header_map: Some(envoy_types::pb::envoy::config::core::v3::HeaderMap {
            headers: vec![
                header("authorization", &gateway.bearer(tenant)),
                header("content-type", "application/json"),
                header("content-length", &body.len().to_string()),
                header("x-request-id", "r-1"),
            ],
        }),
        raw_body: body.as_bytes().to_vec(),
        ..Default::default()
    };
    let attributes =
        AttributeContext { request: Some(Asked { http: Some(http), ..Default::default() }), ..Default::default() };
    let socket = gateway.service().proxies().display().to_string();
    let channel = tonic::transport::Endpoint::try_from(format!("unix:{socket}")).expect("an address").connect().await;
    let mut client = AuthorizationClient::new(channel.expect("the service"));
    let mut asked = tonic::Request::new(CheckRequest { attributes: Some(attributes) });
    asked.metadata_mut().insert(wire::PROXY, "edge-1".parse().expect("metadata"));
    let said = client.check(asked).await.expect("an answer").into_inner();
    let metadata = said.dynamic_metadata.expect("metadata").fields;
    let text = |key: &str| match metadata.get(key).and_then(|value| value.kind.clone()) {
        Some(Kind::StringValue(text)) => text,
        other => panic!("no `{key}`: {other:?} in {metadata:?}"),
    };
    assert_eq!(text(wire::DECISION), wire::DECISION_ALLOW);
    text(wire::GRANT)
}

fn changed(grant: &str, change: impl FnOnce(&mut Grant)) -> String {
    let (signed, mut grant) = wire::decode_grant(grant.as_bytes()).expect("a grant");
    change(&mut grant);
    wire::encode_grant(&SignedGrant { grant: grant.encode_to_vec().into(), mac: signed.mac })
}

fn refused(answer: &Answer, why: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (403, "not_admitted"), "{why}: {}", answer.text());
    assert!(!answer.text().contains("llama"), "{why}");
}

#[tokio::test]
async fn the_service_believes_its_own_grant_and_nothing_else() {
    let gateway = Gateway::builder().envoy(|text| patient(&text, "5s")).start().await;
    let own = granted(&gateway, "acme", "GET", MODELS, "").await;
    assert_eq!(listed(&direct(&gateway, MODELS, &[&own]).await), ["llama-3.1-70b", "llama-3.1-8b"]);

    refused(&direct(&gateway, MODELS, &[]).await, "no grant");
    refused(&direct(&gateway, MODELS, &[""]).await, "an empty one");
    refused(&direct(&gateway, MODELS, &["AAAA"]).await, "garbage");
    refused(&direct(&gateway, MODELS, &[&own, &own]).await, "two");
    refused(&direct(&gateway, "/v1/models?x=1", &[&own]).await, "another path");
    refused(&direct(&gateway, MODELS, &[&changed(&own, |grant| grant.tenant = "globex".into())]).await, "tenant");
    refused(
        &direct(&gateway, MODELS, &[&changed(&own, |grant| grant.models.push("gpt-4o-mini".into()))]).await,
        "more",
    );
    refused(&direct(&gateway, MODELS, &[&changed(&own, |grant| grant.lifetime_ms = u32::MAX)]).await, "a longer life");
    let body = r#"{"model":"llama-3.1-8b","messages":[{"role":"user","content":"x"}]}"#;
    let chat = granted(&gateway, "acme", "POST", "/v1/chat/completions", body).await;
    refused(&direct(&gateway, MODELS, &[&chat]).await, "a grant of a chat");
    // what it lists is the grant's tenant's, whatever else the request says
    let theirs = granted(&gateway, "initech", "GET", MODELS, "").await;
    assert_eq!(listed(&direct(&gateway, MODELS, &[&theirs]).await), ["gpt-4o-mini", "llama-3.1-8b"]);

    tokio::time::sleep(std::time::Duration::from_millis(5_100)).await;
    refused(&direct(&gateway, MODELS, &[&own]).await, "an old one");
}

#[tokio::test]
async fn a_clients_own_grant_is_not_read() {
    let gateway = Gateway::builder().envoy(|text| patient(&text, "5s")).start().await;
    let theirs = granted(&gateway, "initech", "GET", MODELS, "").await;
    let acme = gateway.bearer("acme");
    let answer = gateway.get(MODELS, &[("authorization", &acme), (wire::GRANT_HEADER, &theirs)]).await;
    assert_eq!(listed(&answer), ["llama-3.1-70b", "llama-3.1-8b"]);
    let nobody = gateway.get(MODELS, &[(wire::GRANT_HEADER, &theirs)]).await;
    assert_eq!((nobody.status, nobody.code().as_str()), (401, "missing_credential"));

    let chat = r#"{"model":"llama-3.1-8b","messages":[{"role":"user","content":"x"}]}"#;
    let headers = [("authorization", acme.as_str()), (wire::GRANT_HEADER, theirs.as_str())];
    assert_eq!(gateway.post("/v1/chat/completions", &headers, chat).await.status, 200);
    assert_eq!(gateway.upstream.record()[0].header(wire::GRANT_HEADER), None);
    assert!(gateway.is_whole().await);
}
