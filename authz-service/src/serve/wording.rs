//! The words of ext_authz: headers, metadata, refusals. Each is spelled so that no default of a message is one of them.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{CheckResponse, DeniedHttpResponse, OkHttpResponse};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use envoy_types::pb::google::rpc;
use gateway_core::denial::{Denial, Words};
use gateway_core::limits::Field;
use gateway_core::wire;

use crate::registry::CredentialHeader;

/// gRPC codes of the answers.
const OK: i32 = 0;
const PERMISSION_DENIED: i32 = 7;

/// An answer that lets a request go on, with our word in its metadata.
pub(super) fn passed(set: Vec<HeaderValueOption>, remove: Vec<String>, words: BTreeMap<&str, &str>) -> CheckResponse {
    let ok = OkHttpResponse { headers: set, headers_to_remove: remove, ..OkHttpResponse::default() };
    CheckResponse {
        status: Some(rpc::Status { code: OK, ..rpc::Status::default() }),
        dynamic_metadata: Some(metadata(words)),
        http_response: Some(HttpResponse::OkResponse(ok)),
    }
}

/// A refusal of a stranger on the wire. Status at least 400 and a body, always; without `DENIAL` the module reports it to
/// the audit.
pub(super) fn refused(denial: &Denial, fields: &[Field], request_id: &str) -> CheckResponse {
    refused_with(denial, fields, denial.body(request_id), None)
}

/// The same for a caller of this tenant, in its words.
pub(super) fn refused_own(
    denial: &Denial,
    fields: &[Field],
    request_id: &str,
    tenant: &str,
    words: &Words,
) -> CheckResponse {
    refused_with(denial, fields, words.body(denial, request_id), Some(tenant))
}

fn refused_with(denial: &Denial, fields: &[Field], body: Vec<u8>, tenant: Option<&str>) -> CheckResponse {
    let row = denial.code.row();
    let mut headers = vec![header("content-type", "application/json"), header("cache-control", "no-store")];
    headers.extend(fields.iter().map(|field| header(field.name, &field.value)));
    let body = String::from_utf8(body).unwrap_or_default();
    let words = BTreeMap::from([
        (wire::DECISION, wire::DECISION_DENY),
        (wire::LOG_TENANT, tenant.unwrap_or_default()),
        (wire::LOG_CODE, row.code),
    ]);
    let status = Some(HttpStatus { code: i32::from(row.status) });
    CheckResponse {
        status: Some(rpc::Status { code: PERMISSION_DENIED, ..rpc::Status::default() }),
        dynamic_metadata: Some(metadata(words)),
        http_response: Some(HttpResponse::DeniedResponse(DeniedHttpResponse { status, headers, body })),
    }
}

/// A provider's credential as a header: its name and value.
pub(super) fn carried(carrier: CredentialHeader, secret: &[u8]) -> (&'static str, String) {
    let secret = String::from_utf8_lossy(secret);
    match carrier {
        CredentialHeader::Bearer => ("authorization", format!("Bearer {secret}")),
        CredentialHeader::XApiKey => ("x-api-key", secret.into_owned()),
        CredentialHeader::XGoogApiKey => ("x-goog-api-key", secret.into_owned()),
    }
}

/// A header that replaces what was there: `append` is never set (`mesh.md` §0.2 fact 3).
pub(super) fn header(name: &str, value: &str) -> HeaderValueOption {
    let header = HeaderValue { key: name.to_owned(), value: value.to_owned(), ..HeaderValue::default() };
    HeaderValueOption { header: Some(header), ..HeaderValueOption::default() }
}

fn metadata(words: BTreeMap<&str, &str>) -> Struct {
    Struct { fields: words.into_iter().map(|(key, word)| (key.to_owned(), text(word))).collect() }
}

/// A word in metadata.
pub(super) fn text(word: &str) -> Value {
    Value { kind: Some(Kind::StringValue(word.to_owned())) }
}
