//! One report of a worker: checked, taken into the ledger, and what of it is to be made durable.

use gateway_core::gate::{Cost, Outcome, Settlement, SyncRequest, SyncResponse};
use gateway_core::price::charge;
use gateway_core::wire;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::leased;
use crate::ledger::{GrantId, Holder, LeaseId, Now};
use crate::serve::Service;
use crate::serve::revocations::Since;
use crate::store::{Command, Refusal, Settle};

/// Greatest number of each kind of fact in one report.
const MOST: usize = 1024;
/// Greatest number of grants that one worker may hold.
const MOST_HELD: usize = 65_536;

/// A report whose sender is who it says.
pub(super) struct Report<'a> {
    message: &'a SyncRequest,
    holder: Holder,
}

/// What a report has changed in the ledger: to be confirmed once it is durable.
#[derive(Default)]
pub(super) struct Taken {
    settled: Vec<(GrantId, Outcome)>,
    leased: Vec<(LeaseId, u32, Outcome)>,
    closed: Vec<LeaseId>,
    refused: u64,
    lost: u64,
}

impl<'a> Report<'a> {
    /// Checks a report's sender and size.
    pub(super) fn read(metadata: &MetadataMap, message: &'a SyncRequest) -> Result<Self, Status> {
        let named = metadata.get(wire::PROXY).and_then(|id| id.to_str().ok());
        if named != Some(message.proxy.as_str()) || message.proxy.is_empty() {
            return Err(Status::invalid_argument("the report's proxy is not the caller's"));
        }
        let Ok(worker) = <[u8; 16]>::try_from(message.worker.as_ref()) else {
            return Err(Status::invalid_argument("a worker's id has 16 bytes"));
        };
        let counts = [message.settlements.len(), message.refusals.len()];
        if counts.into_iter().any(|count| count > MOST)
            || message.closed.len() > wire::MAX_NEEDS
            || message.held.len() > MOST_HELD
        {
            return Err(Status::invalid_argument("the report is too long"));
        }
        Ok(Self { message, holder: Holder { proxy: message.proxy.clone(), worker } })
    }

    /// The worker.
    pub(super) fn holder(&self) -> &Holder {
        &self.holder
    }

    /// The worker lives, and so do the grants that it lists. To be called when the rest of the report is durable; what it
    /// returns must be durable before the answer.
    pub(super) fn held(&self, service: &Service, now: Now) -> Vec<Command> {
        let held = self.message.held.iter().filter_map(|id| Some(GrantId(id.as_ref().try_into().ok()?)));
        let held: Vec<GrantId> = held.collect();
        let synced = service.ledger.sync(&self.holder.proxy, self.holder.worker, now, &held);
        for id in synced.undone {
            service.submit(Command::Undo { grant_id: id, answered: true });
        }
        synced.reinstated.into_iter().map(|id| Command::Reinstate { grant_id: id }).collect()
    }

    /// The answer, once everything is durable.
    pub(super) fn answer(&self, service: &Service) -> SyncResponse {
        let Since { epoch, revocations, floor } = service.revocations.since(self.message.epoch);
        SyncResponse { sequence: self.message.sequence, epoch, revocations, floor }
    }
}

impl Taken {
    /// Takes a report into the ledger: settlements, then the leases that it closes. The commands make it durable.
    pub(super) fn of(service: &Service, report: &Report<'_>, now: Now) -> (Self, Vec<Command>) {
        let (message, holder) = (report.message, &report.holder);
        let refused = u64::try_from(message.refusals.len()).unwrap_or(u64::MAX);
        let mut taken = Self { refused, lost: message.refusals_lost, ..Self::default() };
        let mut commands = Vec::new();
        for settlement in &message.settlements {
            commands.extend(taken.settle(service, holder, settlement, now));
        }
        for closed in &message.closed {
            let Some(id) = LeaseId::parse(&closed.lease) else { continue };
            let used = Cost { requests: closed.admitted.into(), ..closed.reserved.unwrap_or_default() };
            let Some(account) = service.ledger.close_lease(now, id, holder, used) else { continue };
            taken.closed.push(id);
            let (used, expired) = (account.closed.unwrap_or(used), account.expired);
            commands.push(Command::CloseLease { id, taken: used, expired, at_ms: now.unix_ms });
        }
        commands.extend(refusals(service, report, now));
        (taken, commands)
    }

    /// The store has it.
    pub(super) fn confirm(self, service: &Service, now: Now) {
        for (id, outcome) in self.settled {
            service.ledger.confirm(id);
            service.metrics().settled(outcome);
        }
        for (id, number, outcome) in self.leased {
            service.ledger.confirm_settled(now, id, number);
            service.metrics().settled(outcome);
        }
        for id in self.closed {
            service.ledger.confirm_closed(now, id);
        }
        service.metrics().proxy_refused(self.refused, self.lost);
    }

    /// Settles in the ledger; the command makes it durable. `None`: not ours, not this worker's, or settled already.
    fn settle(&mut self, service: &Service, holder: &Holder, settlement: &Settlement, now: Now) -> Option<Command> {
        let grant = service.verify_signed(&settlement.grant).or_else(|| {
            tracing::warn!(proxy = holder.proxy, "a settlement without our grant");
            None
        })?;
        if let Some(leased) = &settlement.leased {
            let ended = leased::settle(service, holder, &grant, settlement, leased, now)?;
            self.leased.push((ended.lease, leased.number, settlement.outcome()));
            return Some(Command::SettleLeased(Box::new(ended)));
        }
        let id = GrantId(grant.id.as_ref().try_into().ok()?);
        let terms = service.ledger.terms(id, &holder.proxy)?;
        let charge = charge(&terms, settlement);
        let settled = service.ledger.settle(now, id, charge.cost)?;
        self.settled.push((id, settlement.outcome()));
        Some(Command::Settle(Box::new(Settle { charge: settled.charge, ..ending(id, settlement, &charge, now) })))
    }
}

/// How a request ended, as the store keeps it.
pub(super) fn ending(id: GrantId, settlement: &Settlement, charge: &gateway_core::price::Charge, now: Now) -> Settle {
    Settle {
        grant_id: id,
        charge: charge.cost,
        usage: charge.usage,
        estimated: charge.estimated,
        outcome: settlement.outcome(),
        status: u16::try_from(settlement.status).unwrap_or(0),
        denial: settlement.denial.clone(),
        details: settlement.details.clone(),
        duration_ms: settlement.duration_ms,
        at_ms: now.unix_ms,
    }
}

fn refusals(service: &Service, report: &Report<'_>, now: Now) -> Option<Command> {
    let (message, holder) = (report.message, &report.holder);
    if message.refusals.is_empty() && message.refusals_lost == 0 {
        return None;
    }
    let refusals = message
        .refusals
        .iter()
        .map(|refusal| Refusal {
            sequence: refusal.sequence,
            at_ms: now.unix_ms.saturating_sub(refusal.age_ms),
            request_id: refusal.request_id.clone(),
            status: u16::try_from(refusal.status).unwrap_or(0),
            details: if refusal.detail.is_empty() { refusal.details.clone() } else { refusal.detail.clone() },
            code: if refusal.denial.is_empty() { code(refusal.status).to_owned() } else { refusal.denial.clone() },
            under: leased::under(service, &holder.proxy, refusal).map(Box::new),
        })
        .collect();
    let lost = (message.refusals_lost > 0).then_some((message.refusals_lost, message.sequence));
    Some(Command::Refusals { proxy: holder.proxy.clone(), worker: holder.worker, refusals, lost, at_ms: now.unix_ms })
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
