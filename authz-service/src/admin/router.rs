//! The admin API's routes: reads each request, checks its shape, hands it to [`Operations`], and spells the answer.
//!
//! Errors are `{"error":{"code","message"}}`; a refused set of policies adds `problems`. Decides nothing itself.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Json, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Router, http::StatusCode};
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::messages::{NewAuthorityBody, NewCertificateBody, RevokeCertificateBody};
use super::{
    AdminError, AuditPage, AuthorityMade, CertificateIssued, CreatedKey, IssuedRow, JobRow, KeyRow, NewKeyBody,
    NewSigningKey, Operations, Operator, Reloaded, Usage, messages,
};
use crate::vault::Secret;

/// The greatest JSON body, in bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// The greatest provider key, in bytes.
pub const MAX_SECRET_BYTES: usize = 8 * 1024;
/// The most audit records in one answer.
pub const MAX_AUDIT_RECORDS: u32 = 1000;

/// The admin API over `operations`.
pub fn router<O: Operations>(operations: Arc<O>) -> Router {
    Router::new()
        .route("/v1/keys", post(create_key::<O>).get(list_keys::<O>))
        .route("/v1/keys/{id}/revoke", post(revoke_key::<O>))
        .route("/v1/tenants/{tenant}/keys/revoke", post(revoke_keys::<O>))
        .route("/v1/vault/{tenant}/{provider}", put(put_provider_key::<O>))
        .route("/v1/authorities", post(create_authority::<O>))
        .route("/v1/certificates", post(issue_certificate::<O>).get(list_certificates::<O>))
        .route("/v1/certificates/revoke", post(revoke_certificate::<O>))
        .route("/v1/audit", get(audit::<O>))
        .route("/v1/usage", get(usage::<O>))
        .route("/v1/jobs", get(list_jobs::<O>))
        .route("/v1/jobs/{id}/revoke", post(revoke_job::<O>))
        .route("/v1/signing-key/rotate", post(rotate_signing_key::<O>))
        .route("/v1/reload", post(reload::<O>))
        .fallback(async || problem(404, "not_found", "no such endpoint"))
        .method_not_allowed_fallback(async || {
            problem(405, "method_not_allowed", "this endpoint does not take this method")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(operations)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysQuery {
    tenant: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    after: Option<u64>,
    limit: Option<u32>,
}

async fn create_key<O: Operations>(
    State(operations): State<Arc<O>>,
    ConnectInfo(by): ConnectInfo<Operator>,
    body: Result<Json<NewKeyBody>, JsonRejection>,
) -> Result<(StatusCode, Json<CreatedKey>), AdminError> {
    let Json(body) = body.map_err(|rejection| AdminError::Invalid(rejection.body_text()))?;
    let created = operations.create_key(by, body.try_into()?).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

async fn revoke_key<O: Operations>(
    State(operations): State<Arc<O>>,
    ConnectInfo(by): ConnectInfo<Operator>,
    Path(id): Path<String>,
) -> Result<Json<Vec<KeyRow>>, AdminError> {
    operations.revoke_key(by, id).await.map(Json)
}

async fn revoke_keys<O: Operations>(
    State(operations): State<Arc<O>>,
    ConnectInfo(by): ConnectInfo<Operator>,
    Path(tenant): Path<String>,
) -> Result<Json<Vec<KeyRow>>, AdminError> {
    operations.revoke_keys(by, messages::tenant(&tenant)?).await.map(Json)
}

async fn list_keys<O: Operations>(
    State(operations): State<Arc<O>>,
    query: Result<Query<KeysQuery>, QueryRejection>,
) -> Result<Json<Vec<KeyRow>>, AdminError> {
    let Query(query) = query.map_err(|rejection| AdminError::Invalid(rejection.body_text()))?;
    let tenant = query.tenant.as_deref().map(messages::tenant).transpose()?;
    operations.list_keys(tenant).await.map(Json)
}

async fn put_provider_key<O: Operations>(
    State(operations): State<Arc<O>>,
    ConnectInfo(by): ConnectInfo<Operator>,
    Path((tenant, provider)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, AdminError> {
    let tenant = messages::tenant(&tenant)?;
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/octet-stream") {
        return Err(AdminError::Invalid("send the key as `application/octet-stream`".into()));
    }
    let secret = read_secret(body).await?;
    operations.put_provider_key(by, tenant, provider, secret).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn create_authority<O: Operations>(
    State(operations): State<Arc<O>>,
    ConnectInfo(by): ConnectInfo<Operator>,
    body: Result<Json<NewAuthorityBody>, JsonRejection>,
) -> Result<(StatusCode, Json<AuthorityMade>), AdminError> {
    let Json(body) = body.map_err(|rejection| AdminError::Invalid(rejection.body_text()))?;
    let made = operations.create_authority(by, messages::tenant(&body.tenant)?, body.replace).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

async fn issue_certificate<O: Operations>(
    State(operations): State<Arc<O>>,
    ConnectInfo(by): ConnectInfo<Operator>,
    body: Result<Json<NewCertificateBody>, JsonRejection>,
) -> Result<(StatusCode, Json<CertificateIssued>), AdminError> {
    let Json(body) = body.map_err(|rejection| AdminError::Invalid(rejection.body_text()))?;
    let issued = operations.issue_certificate(by, body.try_into()?).await?;
    Ok((StatusCode::CREATED, Json(issued)))
}

async fn revoke_certificate<O: Operations>(
    State(operations): State<Arc<O>>,
    ConnectInfo(by): ConnectInfo<Operator>,
    body: Result<Json<RevokeCertificateBody>, JsonRejection>,
) -> Result<StatusCode, AdminError> {
    let Json(body) = body.map_err(|rejection| AdminError::Invalid(rejection.body_text()))?;
    let serial = messages::serial(&body.serial)?;
    operations.revoke_certificate(by, messages::tenant(&body.tenant)?, serial).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_certificates<O: Operations>(
    State(operations): State<Arc<O>>,
    query: Result<Query<KeysQuery>, QueryRejection>,
) -> Result<Json<Vec<IssuedRow>>, AdminError> {
    let Query(query) = query.map_err(|rejection| AdminError::Invalid(rejection.body_text()))?;
    let tenant = query.tenant.as_deref().map(messages::tenant).transpose()?;
    operations.list_certificates(tenant).await.map(Json)
}

async fn audit<O: Operations>(
    State(operations): State<Arc<O>>,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<AuditPage>, AdminError> {
    let Query(query) = query.map_err(|rejection| AdminError::Invalid(rejection.body_text()))?;
    let limit = query.limit.unwrap_or(MAX_AUDIT_RECORDS);
    if !(1..=MAX_AUDIT_RECORDS).contains(&limit) {
        return Err(AdminError::Invalid(format!("limit `{limit}` is not from 1 to {MAX_AUDIT_RECORDS}")));
    }
    operations.audit(query.after, limit).await.map(Json)
}

async fn usage<O: Operations>(State(operations): State<Arc<O>>) -> Result<Json<Usage>, AdminError> {
    operations.usage().await.map(Json)
}

async fn list_jobs<O: Operations>(
    State(operations): State<Arc<O>>,
    query: Result<Query<KeysQuery>, QueryRejection>,
) -> Result<Json<Vec<JobRow>>, AdminError> {
    let Query(query) = query.map_err(|rejection| AdminError::Invalid(rejection.body_text()))?;
    let tenant = query.tenant.as_deref().map(messages::tenant).transpose()?;
    operations.list_jobs(tenant).await.map(Json)
}

async fn revoke_job<O: Operations>(
    State(operations): State<Arc<O>>,
    ConnectInfo(by): ConnectInfo<Operator>,
    Path(id): Path<String>,
) -> Result<Json<JobRow>, AdminError> {
    operations.revoke_job(by, id).await.map(Json)
}

async fn rotate_signing_key<O: Operations>(
    State(operations): State<Arc<O>>,
    ConnectInfo(by): ConnectInfo<Operator>,
    body: Result<Json<messages::RotateBody>, JsonRejection>,
) -> Result<(StatusCode, Json<NewSigningKey>), AdminError> {
    let Json(body) = body.map_err(|rejection| AdminError::Invalid(rejection.body_text()))?;
    let made = operations.rotate_signing_key(by, body.at_once).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

async fn reload<O: Operations>(
    State(operations): State<Arc<O>>,
    ConnectInfo(by): ConnectInfo<Operator>,
) -> Result<Json<Reloaded>, AdminError> {
    operations.reload(by).await.map(Json)
}

/// Reads a provider key into memory that is wiped; it must be able to stand in a header as it is.
async fn read_secret(mut body: Body) -> Result<Secret, AdminError> {
    // Its full size at once: growing would leave copies behind.
    let mut secret = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| AdminError::Invalid("the body broke off".into()))?;
        let Ok(data) = frame.into_data() else { continue };
        if secret.len().saturating_add(data.len()) > MAX_SECRET_BYTES {
            return Err(AdminError::TooLarge(MAX_SECRET_BYTES));
        }
        secret.extend_from_slice(&data);
    }
    if secret.is_empty() {
        return Err(AdminError::Invalid("the key is empty".into()));
    }
    if !secret.iter().all(u8::is_ascii_graphic) {
        return Err(AdminError::Invalid("a provider key is printable ASCII without spaces or line ends".into()));
    }
    Ok(Secret::new(std::mem::take(&mut *secret)))
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let (status, code) = self.row();
        let problems = match &self {
            Self::PoliciesRefused { problems, .. } => problems.as_slice(),
            _ => &[],
        };
        answer(status, &ErrorBody { error: ErrorText { code, message: &self.to_string(), problems } })
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorText<'a>,
}

#[derive(Serialize)]
struct ErrorText<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    problems: &'a [String],
}

fn problem(status: u16, code: &str, message: &str) -> Response {
    answer(status, &ErrorBody { error: ErrorText { code, message, problems: &[] } })
}

fn answer(status: u16, body: &ErrorBody<'_>) -> Response {
    (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(body)).into_response()
}

#[cfg(test)]
mod tests;
