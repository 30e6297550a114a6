//! Descriptors → what is asked. What a descriptor leaves open, or says twice, is no question: it is refused.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use gateway_core::name::{ModelName, TenantName};

/// Greatest value of an entry that is no grant, in bytes.
const MAX_VALUE: usize = 256;

/// Greatest number of hits: Envoy's own.
const MAX_HITS: u64 = 1_000_000_000;

/// One descriptor's question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// About whom.
    pub(super) whom: Whom,
    /// About what.
    pub(super) what: What,
    /// How much of it.
    pub(super) hits: u64,
    /// Give back instead.
    pub(super) refund: bool,
}

/// Whom a descriptor is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Whom {
    /// The request of this grant, as text: its reservation is settled.
    Grant(String),
    /// Whom the proxy names.
    Named(Box<Named>),
}

/// A subject in a proxy's words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Named {
    pub(super) tenant: TenantName,
    pub(super) principal: Option<String>,
    pub(super) key: Option<String>,
    pub(super) model: Option<ModelName>,
}

/// What a descriptor counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// Requests that are about to start: counted if they fit.
    Admission,
    /// Tokens, in and out: charged.
    Tokens,
    /// GPU-milliseconds, weighted: charged.
    GpuMs,
    /// Millionths of a US dollar: charged.
    MicroUsd,
    /// Tokens of the prompt: priced together with those of the answer.
    InputTokens,
    /// Tokens of the answer.
    OutputTokens,
}

/// Reads one descriptor; `hits_addend` is the whole call's, for descriptors that have none of their own.
///
/// # Errors
/// Why it is no question.
pub(super) fn read(descriptor: &RateLimitDescriptor, hits_addend: u32) -> Result<Ask, String> {
    let (mut grant, mut tenant, mut principal, mut key, mut model, mut cost) = (None, None, None, None, None, None);
    for entry in &descriptor.entries {
        let place = match entry.key.as_str() {
            "grant" => &mut grant,
            "tenant" => &mut tenant,
            "principal" => &mut principal,
            "key" => &mut key,
            "model" => &mut model,
            "cost" => &mut cost,
            unknown => return Err(format!("unknown entry `{}`", unknown.escape_debug())),
        };
        let longest = if entry.key == "grant" { usize::MAX } else { MAX_VALUE };
        if entry.value.is_empty() || entry.value.len() > longest {
            return Err(format!("entry `{}` is empty or longer than {MAX_VALUE} bytes", entry.key));
        }
        if place.replace(entry.value.clone()).is_some() {
            return Err(format!("two entries `{}`", entry.key));
        }
    }
    let what = match cost.as_deref() {
        None => What::Admission,
        Some("tokens") => What::Tokens,
        Some("gpu_ms") => What::GpuMs,
        Some("micro_usd") => What::MicroUsd,
        Some("input_tokens") => What::InputTokens,
        Some("output_tokens") => What::OutputTokens,
        Some(unknown) => return Err(format!("unknown cost `{}`", unknown.escape_debug())),
    };
    let usage = matches!(what, What::InputTokens | What::OutputTokens);
    let whom = match (grant, tenant) {
        (Some(grant), None) if principal.is_none() && key.is_none() && model.is_none() && usage => Whom::Grant(grant),
        (Some(_), _) => return Err("`grant` goes with `cost` of `input_tokens` or `output_tokens` alone".to_owned()),
        (None, None) => return Err("no entry `tenant` and none `grant`".to_owned()),
        (None, Some(tenant)) => {
            let tenant = TenantName::parse(&tenant).map_err(|error| error.to_string())?;
            let model = model.map(|name| ModelName::parse(&name)).transpose().map_err(|error| error.to_string())?;
            Whom::Named(Box::new(Named { tenant, principal, key, model }))
        }
    };
    let refund = descriptor.is_negative_hits;
    if refund && (usage || what == What::Admission) {
        return Err("only `tokens`, `gpu_ms` and `micro_usd` are given back".to_owned());
    }
    // Nothing said means one (rls.proto); a descriptor's own 0 is 0.
    let hits = descriptor.hits_addend.as_ref().map_or_else(|| u64::from(hits_addend.max(1)), |own| own.value);
    if hits > MAX_HITS {
        return Err(format!("more than {MAX_HITS} hits"));
    }
    Ok(Ask { whom, what, hits, refund })
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
    use envoy_types::pb::google::protobuf::UInt64Value;

    use super::*;

    fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
        let entries = entries.iter().map(|(key, value)| Entry { key: (*key).into(), value: (*value).into() }).collect();
        RateLimitDescriptor { entries, ..RateLimitDescriptor::default() }
    }

    #[test]
    fn a_descriptor_is_a_subject_and_what_it_costs() {
        let ask =
            read(&descriptor(&[("tenant", "acme"), ("key", "k1"), ("model", "m"), ("principal", "p")]), 0).unwrap();
        assert_eq!((ask.what, ask.hits, ask.refund), (What::Admission, 1, false));
        let Whom::Named(named) = ask.whom else { panic!("{ask:?}") };
        assert_eq!((named.key.as_deref(), named.principal.as_deref()), (Some("k1"), Some("p")));

        let mut cost = descriptor(&[("tenant", "acme"), ("cost", "gpu_ms")]);
        assert_eq!(read(&cost, 7).unwrap().hits, 7, "the call's");
        cost.hits_addend = Some(UInt64Value { value: 0 });
        cost.is_negative_hits = true;
        let ask = read(&cost, 7).unwrap();
        assert_eq!((ask.what, ask.hits, ask.refund), (What::GpuMs, 0, true), "its own");
        let ask = read(&descriptor(&[("grant", &"g".repeat(9_000)), ("cost", "input_tokens")]), 3).unwrap();
        assert!(matches!(ask.whom, Whom::Grant(_)) && ask.what == What::InputTokens);
    }

    #[test]
    fn what_is_open_or_said_twice_is_no_question() {
        let long = "x".repeat(257);
        for entries in [
            &[][..],
            &[("principal", "p")],
            &[("tenant", "acme"), ("tenant", "acme")],
            &[("tenant", "Acme")],
            &[("tenant", "")],
            &[("tenant", "acme"), ("principal", &long)],
            &[("tenant", "acme"), ("colour", "red")],
            &[("tenant", "acme"), ("cost", "requests")],
            &[("tenant", "acme"), ("model", "..")],
            &[("grant", "g")],
            &[("grant", "g"), ("cost", "tokens")],
            &[("grant", "g"), ("cost", "input_tokens"), ("tenant", "acme")],
            &[("grant", "g"), ("cost", "input_tokens"), ("model", "m")],
        ] {
            assert!(read(&descriptor(entries), 1).is_err(), "{entries:?}");
        }
        assert!(read(&descriptor(&[("tenant", "acme")]), 1_000_000_001).is_err());
        for entries in [&[("tenant", "acme")][..], &[("tenant", "acme"), ("cost", "input_tokens")]] {
            let refund = RateLimitDescriptor { is_negative_hits: true, ..descriptor(entries) };
            assert!(read(&refund, 1).is_err(), "{entries:?}");
        }
    }
}
