//! The body of a whole request: admitted, given a key, and reserved for.

use gateway_core::admission::{self, Admitted};
use gateway_core::denial::{Code, Denial};
use gateway_core::headers::Checked;
use gateway_core::name::TenantName;
use gateway_core::price::Terms;

use super::catalog::Offered;
use super::{Allow, Arrival, Caller, Facts, Grounds, Stop, answer, limits};
use crate::ledger::{Now, Reserved, Subject};
use crate::registry::CredentialHeader;
use crate::vault::Secret;

/// What the head says of the body: that it is all there, and no larger than the plan allows.
pub(super) fn check_length(checked: &Checked<'_>, most: u64) -> Result<(), Denial> {
    if checked.partial_body {
        return Err(admission::too_large(most));
    }
    admission::check_size(most, checked.content_length.unwrap_or(0))
}

/// Decides the body of a chat request, and reserves its cost.
pub(super) fn chat(
    grounds: &Grounds<'_>,
    arrival: &Arrival<'_>,
    checked: &Checked<'_>,
    caller: &Caller<'_>,
    offered: &Offered<'_>,
    facts: &mut Facts,
) -> Result<Allow, Stop> {
    let length = arrival.body.len() as u64;
    admission::check_size(caller.tenant.plan.body_bytes, length)?;
    if checked.content_length.is_some_and(|announced| announced != length) {
        return Err(Code::BadRequest.into());
    }
    let admitted = admission::admit_chat(offered, arrival.body).map_err(|refused| -> Stop {
        let refused = *refused;
        (facts.model, facts.provider, facts.region) = (refused.model, refused.provider, refused.region);
        refused.denial.into()
    })?;
    facts.model = Some(admitted.model.clone());
    admitted.target.provider.clone_into(&mut facts.provider);
    admitted.target.region.clone_into(&mut facts.region);
    let credential = credential(grounds, &caller.tenant.name, admitted.target.provider)?;
    let Reserved { states, reservation } = reserve(grounds, arrival, caller, &admitted)?;
    facts.reserved = admitted.admission.reserved;
    let cluster = admitted.target.cluster.to_owned();
    let grant = answer::chat(arrival, caller, grounds.registry, admitted, &states);
    Ok(Allow { grant, cluster, credential: Some(credential), facts: Facts::default(), reservation: Some(reservation) })
}

/// The tenant's own key of the provider, else the platform's; a request never leaves without one.
fn credential(
    grounds: &Grounds<'_>,
    tenant: &TenantName,
    provider: &str,
) -> Result<(CredentialHeader, Secret), Denial> {
    let known = grounds.registry.providers.iter().find(|known| known.name == provider);
    let known = known.ok_or(Denial::new(Code::Internal))?;
    let own = grounds.vault.own_key(tenant, provider)?;
    let secret = own.or_else(|| known.platform_key.clone()).ok_or(Denial::new(Code::NoEligibleTarget))?;
    Ok((known.credential, secret))
}

fn reserve(
    grounds: &Grounds<'_>,
    arrival: &Arrival<'_>,
    caller: &Caller<'_>,
    admitted: &Admitted<'_>,
) -> Result<Reserved, Stop> {
    let plan = &caller.tenant.plan;
    let subject = Subject {
        tenant: &caller.tenant.name,
        time_zone: &caller.tenant.time_zone,
        principal: &caller.identity.principal,
        key_id: caller.identity.chain.as_deref(),
        model: admitted.model,
        limits: &plan.limits,
        key_limits: &caller.identity.limits,
        watched: grounds.registry.watched(&caller.tenant.name),
        longest_stream: plan.longest_stream,
    };
    let (reserved, input_estimate) = (admitted.admission.reserved, admitted.admission.input_estimate);
    let terms = Terms { cost: admitted.cost.clone(), reserved, input_estimate };
    grounds
        .ledger
        .reserve(now(arrival), arrival.grant_id, &subject, reserved, terms, arrival.proxy)
        .map_err(|refused| limits::refusal(&refused))
}

fn now(arrival: &Arrival<'_>) -> Now {
    Now { unix_ms: u64::try_from(arrival.now.as_millisecond()).unwrap_or(0) }
}
