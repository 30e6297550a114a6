//! `rules[].when`: what a rule asks of the circumstances.

use serde::Deserialize;

use super::Known;
use crate::authorization::{Condition, SpendBound};
use crate::identity::discovery::Network;
use crate::registry::{Counts, Watch};
use crate::resource::field::{At, Each};
use crate::resource::plan::{self, RawCounts, RawWindow};
use crate::resource::quantity::Quantity;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
pub(super) struct RawWhen {
    source_in: Option<At<Each<At<String>>>>,
    source_outside: Option<At<Each<At<String>>>>,
    hours_in: Option<At<String>>,
    hours_outside: Option<At<String>>,
    days: Option<At<Each<RawDay>>>,
    spend_over: Option<At<RawSpend>>,
    network_new_for: Option<At<Quantity>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
struct RawSpend {
    counts: RawCounts,
    amount: At<Quantity>,
    window: RawWindow,
    of: RawWhose,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum RawWhose {
    Tenant,
    Principal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum RawDay {
    Monday = 1,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Known<'_> {
    pub(super) fn conditions(&self, raw: &RawWhen) -> Vec<Condition> {
        let networks = |list: &At<Each<At<String>>>, field| -> Vec<Network> {
            self.filled(list, field).0.iter().filter_map(|text| self.network(text)).collect()
        };
        let hours = |text: &At<String>| self.hours(text);
        let mut all = Vec::new();
        all.extend(raw.source_in.as_ref().map(|list| Condition::SourceIn(networks(list, "sourceIn"))));
        all.extend(raw.source_outside.as_ref().map(|list| Condition::SourceOutside(networks(list, "sourceOutside"))));
        let within = raw.hours_in.as_ref().and_then(hours);
        all.extend(within.map(|(from, to)| Condition::HoursIn { from, to }));
        let outside = raw.hours_outside.as_ref().and_then(hours);
        all.extend(outside.map(|(from, to)| Condition::HoursOutside { from, to }));
        let days = |days: &At<Each<RawDay>>| self.filled(days, "days").0.iter().map(|day| *day as u8).collect();
        all.extend(raw.days.as_ref().map(days).map(Condition::Days));
        all.extend(raw.spend_over.as_ref().and_then(|spend| self.spend(&spend.value)).map(Condition::SpendOver));
        let new_for = raw.network_new_for.as_ref().and_then(|span| span.duration_to(90, self.problems));
        all.extend(new_for.map(Condition::NetworkNewFor));
        all
    }

    fn spend(&self, raw: &RawSpend) -> Option<SpendBound> {
        let counts = Counts::from(raw.counts);
        let amount = plan::amount(&raw.amount, counts, self.problems)?;
        let each_principal = matches!(raw.of, RawWhose::Principal);
        Some(SpendBound { watch: Watch { counts, each_principal, window: raw.window.into() }, amount })
    }

    fn network(&self, text: &At<String>) -> Option<Network> {
        let refuse = |error: &_| self.problems.add(text.place, format!("`{}` {error}", text.value));
        text.value.parse().inspect_err(refuse).ok()
    }

    fn hours(&self, text: &At<String>) -> Option<(u16, u16)> {
        let hours = text.value.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
        let hours = hours.filter(|(from, to)| from != to);
        if hours.is_none() {
            self.problems.add(text.place, format!("`{}` is no span of hours, as `08:00-18:00`", text.value));
        }
        hours
    }
}

/// `08:30` → 510; `24:00` is the end of the day.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |text: &str| digits(text).then(|| text.parse::<u16>().ok())?;
    let (hour, minute) = (number(hour)?, number(minute)?);
    let whole = hour.checked_mul(60)?.checked_add(minute)?;
    (minute < 60 && whole <= 24 * 60).then_some(whole)
}
