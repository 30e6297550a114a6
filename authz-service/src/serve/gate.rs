//! The Gate: what workers report. An OK answer means that everything in the report is durable, or was known already.
//!
//! A settlement is believed when its grant carries our MAC and the reservation is this proxy's; anything else in it is
//! data. Nothing a worker says can allow a request.

use std::sync::Arc;

use gateway_core::gate::{LeaseRequest, LeaseResponse, Outcome, Settlement, SyncRequest, SyncResponse};
use gateway_core::price::charge;
use gateway_core::wire;
use tonic::{Request, Response, Status};

use super::Service;
use super::revocations::Since;
use super::service::now;
use crate::gate_service::gate_server;
use crate::ledger::{GrantId, Now};
use crate::store::{Command, Refusal, Settle};

/// Greatest number of each kind of fact in one report.
const MOST: usize = 1024;
/// Greatest number of grants that one worker may hold.
const MOST_HELD: usize = 65_536;

/// The Gate's service.
pub(super) struct Gate(pub(super) Arc<Service>);

#[tonic::async_trait]
impl gate_server::Gate for Gate {
    async fn sync(&self, request: Request<SyncRequest>) -> Result<Response<SyncResponse>, Status> {
        let named = request.metadata().get(wire::PROXY).and_then(|id| id.to_str().ok()).map(ToOwned::to_owned);
        let report = request.into_inner();
        let result = take(&self.0, named.as_deref(), &report).await;
        self.0.metrics().synced(result.is_ok());
        result.map(|()| {
            let Since { epoch, revocations, floor } = self.0.revocations.since(report.epoch);
            Response::new(SyncResponse { sequence: report.sequence, epoch, revocations, floor })
        })
    }

    async fn lease(&self, _: Request<LeaseRequest>) -> Result<Response<LeaseResponse>, Status> {
        Err(Status::unimplemented("nothing is lent"))
    }
}

async fn take(service: &Service, named: Option<&str>, report: &SyncRequest) -> Result<(), Status> {
    if named != Some(report.proxy.as_str()) || report.proxy.is_empty() {
        return Err(Status::invalid_argument("the report's proxy is not the caller's"));
    }
    let Ok(worker) = <[u8; 16]>::try_from(report.worker.as_ref()) else {
        return Err(Status::invalid_argument("a worker's id has 16 bytes"));
    };
    if report.settlements.len() > MOST || report.refusals.len() > MOST || report.held.len() > MOST_HELD {
        return Err(Status::invalid_argument("the report is too long"));
    }
    let now = now();
    let (settled, mut commands): (Vec<_>, Vec<_>) =
        report.settlements.iter().filter_map(|settlement| settle(service, &report.proxy, settlement, now)).unzip();
    commands.extend(refusals(report, worker, now));
    if !commands.is_empty() {
        service.write(Command::Batch(commands)).await.map_err(|error| Status::unavailable(error.to_string()))?;
    }
    for (id, outcome) in settled {
        service.ledger.confirm(id);
        service.metrics().settled(outcome);
    }
    service.metrics().proxy_refused(report.refusals.len() as u64, report.refusals_lost);
    let held: Vec<GrantId> = report.held.iter().filter_map(|id| Some(GrantId(id.as_ref().try_into().ok()?))).collect();
    let synced = service.ledger.sync(&report.proxy, worker, now, &held);
    for id in synced.undone {
        service.submit(Command::Undo { grant_id: id, answered: true });
    }
    let reinstated: Vec<_> = synced.reinstated.into_iter().map(|id| Command::Reinstate { grant_id: id }).collect();
    if !reinstated.is_empty() {
        service.write(Command::Batch(reinstated)).await.map_err(|error| Status::unavailable(error.to_string()))?;
    }
    Ok(())
}

/// Settles in the ledger; the command makes it durable. `None`: not ours, not this proxy's, or settled already.
fn settle(service: &Service, proxy: &str, settlement: &Settlement, now: Now) -> Option<((GrantId, Outcome), Command)> {
    let grant = service.verify_signed(&settlement.grant).or_else(|| {
        tracing::warn!(proxy, "a settlement without our grant");
        None
    })?;
    let id = GrantId(grant.id.as_ref().try_into().ok()?);
    let terms = service.ledger.terms(id, proxy)?;
    let charge = charge(&terms, settlement);
    let settled = service.ledger.settle(now, id, charge.cost)?;
    let command = Command::Settle(Box::new(Settle {
        grant_id: id,
        charge: settled.charge,
        usage: charge.usage,
        estimated: charge.estimated,
        outcome: settlement.outcome(),
        status: u16::try_from(settlement.status).unwrap_or(0),
        denial: settlement.denial.clone(),
        details: settlement.details.clone(),
        duration_ms: settlement.duration_ms,
        at_ms: now.unix_ms,
    }));
    Some(((id, settlement.outcome()), command))
}

fn refusals(report: &SyncRequest, worker: [u8; 16], now: Now) -> Option<Command> {
    if report.refusals.is_empty() && report.refusals_lost == 0 {
        return None;
    }
    let refusals = report
        .refusals
        .iter()
        .map(|refusal| Refusal {
            sequence: refusal.sequence,
            at_ms: now.unix_ms.saturating_sub(refusal.age_ms),
            request_id: refusal.request_id.clone(),
            status: u16::try_from(refusal.status).unwrap_or(0),
            details: refusal.details.clone(),
            code: if refusal.denial.is_empty() { code(refusal.status).to_owned() } else { refusal.denial.clone() },
        })
        .collect();
    let lost = (report.refusals_lost > 0).then_some((report.refusals_lost, report.sequence));
    Some(Command::Refusals { proxy: report.proxy.clone(), worker, refusals, lost, at_ms: now.unix_ms })
}

/// The code that Envoy's own refusals wear, by status, where it says no more.
const fn code(status: u32) -> &'static str {
    match status {
        403 => "not_admitted",
        404 => "not_found",
        408 => "request_timeout",
        413 => "body_too_large",
        431 => "headers_too_large",
        400 | 426 => "bad_request",
        503 => "service_unavailable",
        0 => "client_gone",
        _ => "refused",
    }
}
