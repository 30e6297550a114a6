//! `POST /bulkhead/v1/jobs` and `POST /bulkhead/v1/jobs/renew`: credentials of long jobs. Who starts one calls with its own
//! credential; the job renews with the job's. Each is in the audit log before it is answered.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use gateway_core::denial::{Code, Denial};
use gateway_core::gate::{self, Grant};
use gateway_core::name::TenantName;
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::json;

use super::{Granted, Refused, Service, caller_party, record_of};
use crate::authorization::Login;
use crate::identity::certificate;
use crate::identity::job::{JobRecord, Shown, Start, is_name};
use crate::registry::{EndpointKind, Jobs};
use crate::serve::service::StartedJob;
use crate::vault::system_random;

pub(super) fn route() -> Router<Arc<Service>> {
    let path = |kind: EndpointKind| kind.own_path().unwrap_or_default();
    Router::new()
        .route(path(EndpointKind::Job), routing::post(start))
        .route(path(EndpointKind::JobRenewal), routing::post(renew))
}

/// `POST /bulkhead/v1/jobs`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    job: String,
    max: String,
}

async fn start(
    State(service): State<Arc<Service>>,
    Granted(grant): Granted,
    body: Result<Json<Asked>, JsonRejection>,
) -> Result<Response, Refused> {
    let refused = |denial: Denial| Refused::told(&service, &grant, denial);
    let Json(Asked { job, max }) = body.map_err(|_| refused(bad("body", "It is {\"job\":NAME,\"max\":DURATION}.")))?;
    if !is_name(&job) {
        return Err(refused(bad("job", "A job's name is 1 to 63 of a-z, 0-9, `-`, `.` and `_`.")));
    }
    let (tenant, terms) = terms(&service, &grant).map_err(refused)?;
    let max = max.parse::<SignedDuration>().ok().and_then(|span| std::time::Duration::try_from(span).ok());
    let Some(max) = max.filter(|max| !max.is_zero() && *max <= terms.longest) else {
        let longest = terms.longest.as_secs() / 60;
        return Err(refused(bad("max", &format!("It is a duration of at most {longest}m, as in `26h`."))));
    };
    let (party, caller) = caller_party(&grant).ok_or_else(|| refused(Denial::new(Code::NotAdmitted)))?;
    if !grant.actors.is_empty() {
        let why = "A job is started with a credential of one's own, not with an exchanged token or another job's.";
        return Err(refused(Denial::new(Code::EndpointNotAllowed).detail(why)));
    }
    let certificate = certificate::thumbprint(&caller.certificate).filter(|_| caller.bound);
    let now = service.time();
    let login = caller.login.clone().map(login_of).unwrap_or_default();
    let start = Start { tenant: &tenant, name: &job, max, party: &party, certificate, login };
    let made = JobRecord::start(&start, &terms, now, &mut system_random);
    let (record, text) = made.map_err(|_| refused(Denial::new(Code::Internal)))?;
    let detail = format!("ends {}", record.ends_at);
    let audit = record_of(&grant, "job.start", format!("{} {detail}", record.actor()), now);
    match service.start_job(record.clone(), audit).await {
        StartedJob::Kept => Ok(answer(StatusCode::CREATED, &record, text.expose())),
        StartedJob::TooMany => Err(refused(Denial::new(Code::ConcurrencyLimited).detail("Too many jobs run already."))),
        StartedJob::Failed => Err(refused(Denial::new(Code::ServiceUnavailable))),
    }
}

async fn renew(State(service): State<Arc<Service>>, Granted(grant): Granted) -> Result<Response, Refused> {
    let refused = |denial: Denial| Refused::told(&service, &grant, denial);
    let (_, terms) = terms(&service, &grant).map_err(refused)?;
    let caller = grant.caller.clone().unwrap_or_default();
    if caller.job.is_empty() {
        return Err(refused(Denial::new(Code::EndpointNotAllowed).detail("Only a job's own credential renews it.")));
    }
    let shown = if caller.job_former { Shown::Former } else { Shown::Current };
    let now = service.time();
    let (record, text) = service
        .renew_job(&caller.job, |job| {
            let (renewed, text) = job.renew(shown, &terms, now, &mut system_random).ok()?;
            let audit = record_of(&grant, "job.renew", format!("until {}", renewed.current.expires_at), now);
            Some((renewed, text, audit))
        })
        .await
        .ok_or_else(|| refused(Denial::new(Code::ServiceUnavailable)))?;
    Ok(answer(StatusCode::OK, &record, text.expose()))
}

/// The caller's tenant, and what its plan says of jobs.
fn terms(service: &Service, grant: &Grant) -> Result<(TenantName, Jobs), Denial> {
    let none = || Denial::new(Code::EndpointNotAllowed).detail("The plan has no jobs.");
    let name = TenantName::parse(&grant.tenant).map_err(|_| Denial::new(Code::NotAdmitted))?;
    let registry = service.registry();
    let terms = registry.tenants.get(&name).and_then(|tenant| tenant.plan.jobs).ok_or_else(none)?;
    Ok((name, terms))
}

fn login_of(told: gate::Login) -> Login {
    let gate::Login { acr, amr, auth_time } = told;
    Login { class: Some(acr).filter(|acr| !acr.is_empty()), methods: amr, at: auth_time }
}

fn bad(param: &str, detail: &str) -> Denial {
    Denial::new(Code::InvalidBody).param(param).detail(detail)
}

/// The credential, this once; nobody may keep the answer.
fn answer(status: StatusCode, job: &JobRecord, credential: &str) -> Response {
    let body = json!({
        "id": job.id,
        "job": job.name,
        "credential": credential,
        "expires_at": job.current.expires_at,
        "ends_at": job.ends_at,
    });
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}
