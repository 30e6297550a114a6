//! Asks for leases: who asks and what is counted, read from the grant's handle and from what operators wrote, as both
//! stand now; the ledger's answer as the module is told it.
//!
//! Synchronous and without I/O. Nothing that an ask says beside the handle can widen what is lent: a model is looked up,
//! amounts are only ever taken from the handle's own limits.

use std::time::Duration;

use gateway_core::denial::{Code, Denial};
use gateway_core::gate::{self, Ask, Cost, Grant, Header, LimitRefusal};
use gateway_core::name::{ModelName, TenantName};

use super::{Field, Grounds, Stop, limits};
use crate::identity::{CredentialKind, api_key};
use crate::ledger::{Asked, Holder, Lease, LeaseId, Now, Subject};
use crate::registry::{KeyTerms, Model, Tenant};

/// No handle is good for longer, whatever it says.
const OLDEST: Duration = Duration::from_secs(130);
/// An answer to a check, and an ask, may be under way for this long.
const UNDER_WAY: Duration = Duration::from_secs(5);

/// Answers one ask of `holder`, `handle` being its grant if that is ours. What comes with the answer must be durable
/// before it leaves.
#[must_use]
pub fn lend(
    grounds: &Grounds<'_>,
    handle: Option<&Grant>,
    ask: &Ask,
    holder: &Holder,
    now: jiff::Timestamp,
) -> (gate::Lent, Option<Lease>) {
    match try_lend(grounds, handle, ask, holder, now) {
        Ok(lent) => lent,
        Err(stop) => (gate::Lent { id: ask.id.clone(), refused: Some(refusal(stop)), ..gate::Lent::default() }, None),
    }
}

fn try_lend(
    grounds: &Grounds<'_>,
    handle: Option<&Grant>,
    ask: &Ask,
    holder: &Holder,
    now: jiff::Timestamp,
) -> Result<(gate::Lent, Option<Lease>), Stop> {
    let id = LeaseId::parse(&ask.id).ok_or(Code::BadRequest)?;
    let grant = handle.ok_or(Code::NotAdmitted)?;
    let at = Now { unix_ms: u64::try_from(now.as_millisecond()).unwrap_or(0) };
    in_force(grant, at)?;
    let (tenant, key, chain) = caller(grounds, grant, now)?;
    let model = model(grounds, tenant, key, &ask.model)?;
    let subject = Subject {
        tenant: &tenant.name,
        time_zone: &tenant.time_zone,
        principal: &grant.principal,
        key_id: chain,
        model: &model.name,
        limits: &tenant.plan.limits,
        key_limits: key.map_or(&[], |key| key.limits.as_slice()),
        watched: grounds.registry.watched(&tenant.name),
        longest_stream: tenant.plan.longest_stream,
    };
    let asked = Asked {
        id,
        holder,
        scope_set: &grant.scope_set,
        needs: &ask.needs,
        extra: ask.extra.unwrap_or_default(),
        cost: &model.cost,
    };
    let lent = grounds.ledger.lend(at, &asked, &subject);
    let refused = match lent.refused {
        Some(refused) => Some(refusal(limits::refusal(&refused))),
        None if served_all(lent.served, ask) => None,
        None => Some(refusal(again())),
    };
    let settle_at_once = refused.is_some() || lent.states.iter().any(|state| limits::is_short(state, &lent.amount));
    let told = gate::Lent {
        id: ask.id.clone(),
        served: lent.served,
        amount: Some(lent.amount).filter(|amount| *amount != Cost::default()),
        expires_in_ms: u32::try_from(lent.expires_in.as_millis()).unwrap_or(0),
        rate_tokens: lent.rate_tokens,
        settle_at_once,
        limits: limits::told(&lent.states),
        refused,
    };
    Ok((told, lent.record))
}

/// A handle of profile `inline` that is not older than anything could keep it.
fn in_force(grant: &Grant, now: Now) -> Result<(), Stop> {
    let lives = u64::from(grant.lifetime_ms).saturating_add(u64::from(grant.hold_ms));
    let most = Duration::from_millis(lives).saturating_add(UNDER_WAY).min(OLDEST);
    let age = Duration::from_millis(now.unix_ms.saturating_sub(grant.issued_at_ms));
    if grant.scope_set.is_empty() || grant.data_endpoint || age > most {
        return Err(Code::NotAdmitted.into());
    }
    Ok(())
}

/// The tenant, and the key where the handle is of one, with its chain, as they stand now. Where the request came from is not
/// looked at: a handle of a key that names places is of one request (its `hold_ms` is 0), whose place was looked at when
/// it was granted, and only the proxy that said so has it.
fn caller<'a>(
    grounds: &Grounds<'a>,
    grant: &Grant,
    now: jiff::Timestamp,
) -> Result<(&'a Tenant, Option<&'a KeyTerms>, Option<&'a str>), Stop> {
    let name = TenantName::parse(&grant.tenant).map_err(|_| Code::NotAdmitted)?;
    let tenant = grounds.registry.active(&name)?;
    if grant.key_id.is_empty() {
        return Ok((tenant, None, None));
    }
    let record = grounds.keys.get(&grant.key_id).ok_or(Code::InvalidCredential)?;
    let terms = grounds.registry.keys.get(&grant.key_id).map(AsRef::as_ref);
    // a job outlives the key that started it, and ends with it once it is revoked
    let key = if grant.credential == CredentialKind::Job.as_str() {
        api_key::unrevoked(record, terms)
    } else {
        api_key::in_force(record, terms, now)
    };
    let key = key.map_err(|error| error.code())?;
    if key.tenant == name {
        Ok((tenant, Some(key), Some(&record.chain.id)))
    } else {
        Err(Code::InvalidCredential.into())
    }
}

/// One of the tenant's own models, by its canonical name.
fn model<'a>(grounds: &Grounds<'a>, tenant: &Tenant, key: Option<&KeyTerms>, name: &str) -> Result<&'a Model, Stop> {
    let not_found = || Stop::from(Denial::new(Code::ModelNotFound).param("model"));
    let name = ModelName::parse(name).map_err(|_| not_found())?;
    let model = tenant.models.get(&name).and_then(|name| grounds.registry.models.get(name)).ok_or_else(not_found)?;
    if key.and_then(|key| key.permits.models.as_ref()).is_some_and(|permitted| !permitted.contains(&model.name)) {
        return Err(Denial::new(Code::ModelNotAllowed).param("model").into());
    }
    Ok(model)
}

fn served_all(served: u32, ask: &Ask) -> bool {
    usize::try_from(served).is_ok_and(|served| served >= ask.needs.len())
}

/// No limit refuses, and nothing is lent: the ask is closed, or too large for one lease.
fn again() -> Stop {
    Stop { headers: vec![Field::new("retry-after", "1")], ..Stop::from(Code::ServiceUnavailable) }
}

fn refusal(stop: Stop) -> LimitRefusal {
    let Stop { denial, headers } = stop;
    LimitRefusal {
        code: denial.code.row().code.to_owned(),
        detail: denial.detail.unwrap_or_default(),
        headers: headers.into_iter().map(|field| Header { name: field.name.to_owned(), value: field.value }).collect(),
        param: denial.param.unwrap_or_default(),
    }
}
