//! `POST /bulkhead/v1/keys/rotate`: an API key is exchanged for the one that takes over, by whoever holds it.
//!
//! Which key it is says the grant. The new key is in the answer and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router, routing};
use gateway_core::denial::{Code, Denial};
use gateway_core::gate::Grant;
use gateway_core::name::TenantName;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Granted, Refused, Service};
use crate::admin::KeyText;
use crate::admin::operations::{RotateError, RotateKey, RotatedKey, rotate_key};
use crate::registry::EndpointKind;

/// How long both keys are good unless asked otherwise.
const OVERLAP: Duration = Duration::from_secs(10 * 60);
/// The longest overlap; the old key's own end may come before it.
const LONGEST_OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn route() -> Router<Arc<Service>> {
    let path = EndpointKind::Rotate.own_path().unwrap_or_default();
    Router::new().route(path, routing::post(rotate))
}

/// What may be asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// How long both keys are good, `0s` to `24h`.
    overlap: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    id: String,
    key: KeyText,
    expires_at: Timestamp,
    parent: String,
    overlap_until: Timestamp,
}

async fn rotate(
    State(service): State<Arc<Service>>,
    Granted(grant): Granted,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let refused = |(denial, wait)| Refused { wait, ..Refused::told(&service, &grant, denial) };
    let asked = body.map_err(|_| Denial::new(Code::BodyTooLarge)).and_then(|body| read(&body));
    let asked = asked.and_then(|asked| of_key(&grant, &asked)).map_err(|denial| refused((denial, None)))?;
    let now = service.time();
    let rotated = rotate_key(Arc::clone(&service), asked, now).await.map_err(|error| refused(denial(&error)))?;
    let RotatedKey { id, key, expires_at, parent, overlap_until } = rotated;
    let answer = Json(Answer { id, key, expires_at, parent, overlap_until });
    Ok(([(header::CACHE_CONTROL, "no-store")], answer).into_response())
}

/// A body without a byte asks for nothing in particular.
fn read(body: &[u8]) -> Result<Asked, Denial> {
    if body.is_empty() {
        return Ok(Asked::default());
    }
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            Denial::new(Code::InvalidBody).detail("It takes `overlap` and nothing else.")
        }
        _ => Denial::new(Code::InvalidJson),
    })
}

fn of_key(grant: &Grant, asked: &Asked) -> Result<RotateKey, Denial> {
    let tenant = TenantName::parse(&grant.tenant).map_err(|_| Denial::new(Code::NotAdmitted))?;
    if grant.key_id.is_empty() {
        return Err(Denial::new(Code::EndpointNotAllowed));
    }
    let overlap = asked.overlap.as_deref().map_or(Some(OVERLAP), |text| {
        let span = text.parse::<SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
        span.filter(|span| *span <= LONGEST_OVERLAP)
    });
    let overlap = overlap.ok_or_else(|| {
        Denial::new(Code::InvalidBody).param("overlap").detail("It is a duration from `0s` to `24h`, as `10m`.")
    })?;
    Ok(RotateKey { key_id: grant.key_id.clone(), tenant, overlap, request_id: grant.request_id.clone() })
}

/// What the holder is told, and how long to wait.
fn denial(error: &RotateError) -> (Denial, Option<Duration>) {
    let (code, wait) = match error {
        RotateError::NotInForce(_) => (Code::InvalidCredential, None),
        RotateError::RotatedBefore => (Code::KeyRotated, None),
        RotateError::ChainEnds => (Code::KeyChainEnds, None),
        RotateError::TooOften(wait) => (Code::RateLimited, Some(*wait)),
        RotateError::Failed(_) => (Code::ServiceUnavailable, Some(Duration::from_secs(1))),
    };
    tracing::warn!(%error, "a key was not rotated");
    (Denial::new(code), wait)
}
