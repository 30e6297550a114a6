//! Counts the questions of one call in the ledger, and collects what the store must keep before the answer leaves.

use std::sync::Arc;

use gateway_core::denial::{Code, Denial};
use gateway_core::gate::{Cost, Outcome, Settlement, Usage};
use gateway_core::price::charge;

use super::answer::Verdict;
use super::ask::{Ask, Named, What, Whom};
use super::book::{Account, Book};
use super::who::Who;
use crate::ledger::{GrantId, Hold, Now, Reservation, ReservationState};
use crate::registry::Registry;
use crate::serve::Service;
use crate::serve::service::grant_id;
use crate::store::{AuditRecord, BY_PROXY, Command, Decision, Settle};

/// One call under way.
pub(super) struct Counting<'a> {
    service: &'a Service,
    book: &'a Book,
    registry: Arc<Registry>,
    proxy: &'a str,
    now: Now,
    /// To be written, all or none.
    pub(super) commands: Vec<Command>,
    /// To be confirmed once they are.
    pub(super) settled: Vec<GrantId>,
}

/// What is charged or given back, with what it counts against.
struct Entry<'a> {
    named: &'a Named,
    holds: Vec<Hold>,
    from: Cost,
    to: Cost,
    usage: Usage,
    detail: String,
}

impl<'a> Counting<'a> {
    pub(super) fn new(service: &'a Service, book: &'a Book, proxy: &'a str, now: Now) -> Self {
        let registry = Arc::clone(&service.registry());
        Self { service, book, registry, proxy, now, commands: Vec::new(), settled: Vec::new() }
    }

    /// Counts one question; `all` of the call, for usage comes in two halves, and counts with the first.
    pub(super) fn count(&mut self, ask: &Ask, all: &[Ask]) -> Verdict {
        let counted = match (&ask.whom, ask.what) {
            (Whom::Named(named), What::Admission) => self.admit(named, ask.hits),
            (Whom::Named(named), What::Tokens) => self.move_one(named, ask, |hits, cost| cost.tokens = hits),
            (Whom::Named(named), What::GpuMs) => self.move_one(named, ask, |hits, cost| cost.gpu_ms = hits),
            (Whom::Named(named), What::MicroUsd) => self.move_one(named, ask, |hits, cost| cost.micro_usd = hits),
            (whom, What::InputTokens | What::OutputTokens) => {
                let mut halves = all.iter().filter(|other| other.whom == *whom && is_usage(other.what));
                let first = halves.next().is_some_and(|first| first.what == ask.what);
                let of =
                    |what| all.iter().find(|other| other.whom == *whom && other.what == what).map_or(0, |one| one.hits);
                let usage = Usage { input: of(What::InputTokens), output: of(What::OutputTokens), ..Usage::default() };
                match whom {
                    _ if !first => Ok(Verdict::counted(&[])),
                    Whom::Grant(grant) => self.settle(grant, usage),
                    Whom::Named(named) => self.price(named, usage),
                }
            }
            (Whom::Grant(_), _) => Err(Code::Internal.into()),
        };
        counted.unwrap_or_else(|denial| {
            tracing::warn!(proxy = self.proxy, ?ask.what, why = ?denial.detail, code = denial.code.row().code, "a rate limit call is refused");
            Verdict::denied(denial)
        })
    }

    /// Would so many requests pass, with something left of everything? Then they are counted. None: would one pass?
    fn admit(&mut self, named: &Named, hits: u64) -> Result<Verdict, Denial> {
        let registry = Arc::clone(&self.registry);
        let who = Who::admissible(&registry, self.service, named)?;
        let subject = who.subject();
        let fits = Cost { tokens: 1, gpu_ms: 1, micro_usd: 1, requests: hits.max(1) };
        let cost = Cost { requests: hits, ..Cost::default() };
        match self.service.ledger.charge(self.now, &subject, Some(&fits), cost) {
            Ok(charged) => {
                if hits > 0 {
                    let detail = "admitted by ShouldRateLimit".to_owned();
                    let holds = charged.holds;
                    self.keep(Entry {
                        named,
                        holds,
                        from: Cost::default(),
                        to: cost,
                        usage: Usage::default(),
                        detail,
                    })?;
                }
                Ok(Verdict::counted(&charged.states))
            }
            Err(refused) => {
                let verdict = Verdict::over(&refused);
                let detail = format!("ShouldRateLimit: limit `{}`", refused.limit.name);
                let code = verdict.code();
                let record = AuditRecord {
                    decision: Decision::Deny,
                    code: code.row().code.to_owned(),
                    status: code.row().status,
                    ..self.record(named, detail)
                };
                self.commands.push(Command::Decision(Box::new(record), None));
                Ok(verdict)
            }
        }
    }

    /// Charges one unit, or gives it back.
    fn move_one(&mut self, named: &Named, ask: &Ask, set: impl Fn(u64, &mut Cost)) -> Result<Verdict, Denial> {
        let registry = Arc::clone(&self.registry);
        let who = Who::chargeable(&registry, self.service, named)?;
        let cost = |hits| {
            let mut cost = Cost::default();
            set(hits, &mut cost);
            cost
        };
        if ask.hits == 0 {
            return Ok(Verdict::counted(&self.service.ledger.peek(self.now, &who.subject())));
        }
        let (proxy, kept) = (self.proxy.to_owned(), who.tenant.plan.longest_stream);
        let account = Account { proxy, named: named.clone(), what: ask.what };
        if !ask.refund {
            let verdict = self.charge(&who, named, cost(ask.hits), Usage::default())?;
            self.book.charged(account, self.now, ask.hits, kept);
            return Ok(verdict);
        }
        let parts = self.book.take(&account, self.now, ask.hits, kept).ok_or_else(|| {
            Denial::new(Code::RateLimited)
                .detail("a proxy gives back at most what it charged within the longest stream")
        })?;
        let mut states = Vec::new();
        for (then, hits) in parts {
            let refunded = self.service.ledger.refund(self.now, &who.subject(), then, cost(hits));
            let detail = format!("ShouldRateLimit gave back {hits} {:?}", ask.what);
            let (holds, to) = (refunded.holds, Cost::default());
            self.keep(Entry { named, holds, from: cost(hits), to, usage: Usage::default(), detail })?;
            states = refunded.states;
        }
        Ok(Verdict::counted(&states))
    }

    /// Charges what tokens cost by the price book; the request itself was counted at its admission.
    fn price(&mut self, named: &Named, usage: Usage) -> Result<Verdict, Denial> {
        let registry = Arc::clone(&self.registry);
        let who = Who::chargeable(&registry, self.service, named)?;
        let model = named.model.as_ref().and_then(|name| registry.models.get(name));
        let model =
            model.ok_or_else(|| Denial::new(Code::ModelNotFound).detail("tokens are priced by a known `model`"))?;
        self.charge(&who, named, Cost { requests: 0, ..model.cost.of_usage(&usage) }, usage)
    }

    fn charge(&mut self, who: &Who<'_>, named: &Named, cost: Cost, usage: Usage) -> Result<Verdict, Denial> {
        let charged = self.service.ledger.charge(self.now, &who.subject(), None, cost);
        // Without a condition nothing refuses.
        let charged = charged.map_err(|_| Code::Internal)?;
        let detail = "charged by ShouldRateLimit".to_owned();
        self.keep(Entry { named, holds: charged.holds, from: Cost::default(), to: cost, usage, detail })?;
        Ok(Verdict::counted(&charged.states))
    }

    /// Settles the reservation of a grant that this proxy was given, by what the provider said.
    fn settle(&mut self, grant: &str, usage: Usage) -> Result<Verdict, Denial> {
        let refused = |why: &str| Denial::new(Code::NotAdmitted).detail(why);
        let grant = self.service.verify(grant.as_bytes()).ok_or_else(|| refused("not our grant"))?;
        let id = grant.id.as_ref().try_into().map(GrantId).map_err(|_| refused("the grant has no id"))?;
        let terms = self.service.ledger.terms(id, self.proxy);
        let terms = terms.ok_or_else(|| refused("no reservation of this proxy is open for this grant"))?;
        let settlement = Settlement { outcome: Outcome::Answered.into(), usage: Some(usage), ..Settlement::default() };
        let charge = charge(&terms, &settlement);
        let settled = self.service.ledger.settle(self.now, id, charge.cost);
        let settled = settled.ok_or_else(|| refused("the grant is settled"))?;
        self.commands.push(self.end(id, settled.charge, charge.usage, charge.estimated));
        self.settled.push(id);
        Ok(Verdict::counted(&[]))
    }

    /// One audit line and its amounts: a reservation that is settled as it is made.
    fn keep(&mut self, entry: Entry<'_>) -> Result<(), Denial> {
        let id = grant_id(self.service.time()).map_err(|_| Code::Internal)?;
        let Entry { named, holds, from, to, usage, detail } = entry;
        let record = AuditRecord { decision: Decision::Allow, grant_id: Some(id), ..self.record(named, detail) };
        let reservation = Reservation {
            id,
            state: ReservationState::Open,
            proxy: self.proxy.to_owned(),
            model: record.model.clone(),
            created_ms: self.now.unix_ms,
            longest_stream: std::time::Duration::ZERO,
            reserved: Cost::default(),
            charged: from,
            input_estimate: 0,
            holds,
        };
        self.commands.push(Command::Decision(Box::new(record), Some(Box::new(reservation))));
        self.commands.push(self.end(id, to, usage, false));
        Ok(())
    }

    fn end(&self, grant_id: GrantId, charge: Cost, usage: Usage, estimated: bool) -> Command {
        Command::Settle(Box::new(Settle {
            grant_id,
            charge,
            usage,
            estimated,
            outcome: Outcome::Answered,
            status: 0,
            denial: String::new(),
            details: String::new(),
            duration_ms: 0,
            at_ms: self.now.unix_ms,
        }))
    }

    fn record(&self, named: &Named, detail: String) -> AuditRecord {
        AuditRecord {
            at_ms: self.now.unix_ms,
            tenant: named.tenant.to_string(),
            principal: named.principal.clone().unwrap_or_default(),
            key_id: named.key.clone().unwrap_or_default(),
            credential: BY_PROXY.to_owned(),
            policy_version: self.registry.version.clone(),
            model: named.model.as_ref().map(ToString::to_string).unwrap_or_default(),
            proxy: self.proxy.to_owned(),
            detail,
            ..AuditRecord::default()
        }
    }
}

fn is_usage(what: What) -> bool {
    matches!(what, What::InputTokens | What::OutputTokens)
}
