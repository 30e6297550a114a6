//! The Gate: what workers report, and what is lent to them. An OK answer means that everything in the call is durable, or
//! was known already.
//!
//! A settlement is believed when its grant carries our MAC and the reservation, or the lease, is the reporter's; anything
//! else in it is data. Nothing a worker says can allow a request that limits would refuse.

mod leased;
mod report;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use gateway_core::gate::{Cost, LeaseRequest, LeaseResponse, SyncRequest, SyncResponse};
use gateway_core::wire;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use self::report::{Report, Taken};
use super::Service;
use crate::gate_service::gate_server;
use crate::store::Command;

/// The Gate's service.
pub(super) struct Gate(pub(super) Arc<Service>);

#[tonic::async_trait]
impl gate_server::Gate for Gate {
    async fn sync(&self, request: Request<SyncRequest>) -> Result<Response<SyncResponse>, Status> {
        let result = match Report::read(request.metadata(), request.get_ref()) {
            Ok(report) => sync(&self.0, &report).await,
            Err(status) => Err(status),
        };
        self.0.metrics().synced(result.is_ok());
        result.map(Response::new)
    }

    async fn lease(&self, request: Request<LeaseRequest>) -> Result<Response<LeaseResponse>, Status> {
        let message = request.get_ref();
        let result = match asked(request.metadata(), message) {
            Ok(report) => lease(&self.0, &report, message).await,
            Err(status) => Err(status),
        };
        self.0.metrics().leased(result.is_ok());
        result.map(Response::new)
    }
}

/// A bounded number of asks, behind a report.
fn asked<'a>(metadata: &MetadataMap, message: &'a LeaseRequest) -> Result<Report<'a>, Status> {
    let report = message.report.as_ref().ok_or_else(|| Status::invalid_argument("there is no report"))?;
    let report = Report::read(metadata, report)?;
    let needs: usize = message.asks.iter().map(|ask| ask.needs.len()).sum();
    if message.asks.len() > wire::MAX_NEEDS || needs > wire::MAX_NEEDS {
        return Err(Status::invalid_argument("too much is asked for at once"));
    }
    Ok(report)
}

async fn sync(service: &Service, report: &Report<'_>) -> Result<SyncResponse, Status> {
    let now = service.now();
    let (taken, commands) = Taken::of(service, report, now);
    commit(service, commands).await?;
    taken.confirm(service, now);
    commit(service, report.held(service, now)).await?;
    Ok(report.answer(service))
}

/// The report first, so that what it gives back can be lent; then the asks, and one commit for all of it. A call that is
/// dropped while it waits leaves its leases recorded: their worker closes them.
async fn lease(service: &Service, report: &Report<'_>, message: &LeaseRequest) -> Result<LeaseResponse, Status> {
    let now = service.now();
    let (taken, mut commands) = Taken::of(service, report, now);
    let (lents, leases): (Vec<_>, Vec<_>) = message.asks.iter().map(|ask| service.lend(ask, report.holder())).unzip();
    let leases: Vec<_> = leases.into_iter().flatten().collect();
    let lent: Vec<_> = leases.iter().map(|lease| lease.id).collect();
    commands.extend(leases.into_iter().map(|lease| Command::Lend(Box::new(lease))));
    if let Err(status) = commit(service, commands).await {
        // nobody is told of them: nothing stays lent
        for id in lent {
            service.ledger.close_lease(now, id, report.holder(), Cost::default());
            service.ledger.confirm_closed(now, id);
        }
        return Err(status);
    }
    taken.confirm(service, now);
    commit(service, report.held(service, now)).await?;
    Ok(LeaseResponse { report: Some(report.answer(service)), lents })
}

async fn commit(service: &Service, commands: Vec<Command>) -> Result<(), Status> {
    if commands.is_empty() {
        return Ok(());
    }
    service.write(Command::Batch(commands)).await.map_err(|error| Status::unavailable(error.to_string()))
}
