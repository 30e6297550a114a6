//! Roles and rules as Cedar policies, in Cedar's JSON form: what operators wrote stands in it as values only, so that no
//! name can be read as a part of a policy.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cedar_policy::{Policy, PolicyId, PolicySet};
use serde_json::{Value, json};

use super::rule::{Condition, Outcome, Rule};
use super::{CompileError, refused, source};
use crate::identity::discovery::{Ends, Network};
use crate::registry::{EndpointKind, Permits};

/// Policies of the tenants of one set of resources, by their conditions: those that are alike are in memory once, and in
/// the processor's caches whichever tenant's turn it is.
#[derive(Debug, Default)]
pub struct SharedPolicies(HashMap<String, Arc<PolicySet>>);

/// The name of a role's permit in decisions.
pub(super) fn role_id(role: &str) -> String {
    format!("role/{role}")
}

/// A role's permit: these endpoints, and of its tenant's models these. `None`: it permits nothing.
pub(super) fn role(name: &str, permits: &Permits) -> Result<Option<Policy>, CompileError> {
    let endpoints = permits.endpoints.clone().unwrap_or_else(|| EndpointKind::ALL.into_iter().collect());
    if endpoints.is_empty() {
        return Ok(None);
    }
    let own = json!({"in": {"left": var("resource"), "right": attribute(&var("principal"), "tenant")}});
    let models = permits.models.as_ref().map(|models| {
        let listed =
            (!models.is_empty()).then(|| in_any("resource", "Model", models.iter().map(|model| model.as_str())));
        any([Some(is("resource", "Endpoint")), listed].into_iter().flatten())
    });
    let policy = json!({
        "effect": "permit",
        "principal": {"op": "in", "entity": entity("Role", name)},
        "action": actions(&endpoints),
        "resource": {"op": "All"},
        "conditions": [{"kind": "when", "body": all([Some(own), models.flatten()].into_iter().flatten())}],
    });
    made(role_id(name), policy).map(Some)
}

/// A rule's forbid, with its outcome as an annotation.
pub(super) fn rule(rule: &Rule) -> Result<Policy, CompileError> {
    let roles = rule.roles.as_ref().map(|roles| in_any("principal", "Role", roles.iter().map(String::as_str)));
    let models = rule.models.as_ref();
    let models = models.map(|models| in_any("resource", "Model", models.iter().map(|model| model.as_str())));
    let classes = rule.gpu_classes.as_ref();
    let classes = classes.map(|classes| in_any("resource", "GpuClass", classes.iter().map(String::as_str)));
    let beside = match &rule.then {
        Outcome::Restrict { to } => {
            let listed = in_any("resource", "Model", to.iter().map(|model| model.as_str()));
            all([is("resource", "Model"), not(&listed)].into_iter())
        }
        Outcome::Deny | Outcome::StepUp { .. } => None,
    };
    let clauses = [roles, models, classes, beside, circumstances(rule)];
    let when = all(clauses.into_iter().flatten()).map(|body| json!({"kind": "when", "body": body}));
    let policy = json!({
        "effect": "forbid",
        "principal": {"op": "All"},
        "action": rule.endpoints.as_ref().map_or_else(|| json!({"op": "All"}), actions),
        "resource": {"op": "All"},
        "conditions": when.into_iter().collect::<Vec<_>>(),
        "annotations": {"outcome": rule.then.word()},
    });
    made(rule.name.clone(), policy)
}

/// One permit for where none of these rules applies, of which each is about the question: only circumstances are left to
/// look at, and one policy is evaluated instead of one for each rule. It names no tenant and no rule: tenants whose rules
/// are alike share it.
pub(super) fn clear<'a>(
    rules: impl Iterator<Item = &'a Rule>,
    shared: &mut SharedPolicies,
) -> Result<Arc<PolicySet>, CompileError> {
    let body = |rule| circumstances(rule).unwrap_or_else(|| json!({"Value": true}));
    let unless: Value = rules.map(|rule| json!({"kind": "unless", "body": body(rule)})).collect();
    match shared.0.entry(unless.to_string()) {
        Entry::Occupied(entry) => Ok(Arc::clone(entry.get())),
        Entry::Vacant(entry) => {
            let policy = json!({
                "effect": "permit",
                "principal": {"op": "All"},
                "action": {"op": "All"},
                "resource": {"op": "All"},
                "conditions": unless,
            });
            let policies = PolicySet::from_policies([made("clear".to_owned(), policy)?]).map_err(refused)?;
            Ok(Arc::clone(entry.insert(Arc::new(policies))))
        }
    }
}

/// When a rule applies to what it is about; `None`: always.
fn circumstances(rule: &Rule) -> Option<Value> {
    let met = match &rule.then {
        Outcome::StepUp { acr, amr, max_age } => {
            all([acr_of(acr), amr_of(amr), max_age.map(younger)].into_iter().flatten())
        }
        Outcome::Restrict { .. } | Outcome::Deny => None,
    };
    all(rule.when.iter().filter_map(condition).chain(met.as_ref().map(not)))
}

fn made(id: String, policy: Value) -> Result<Policy, CompileError> {
    Policy::from_json(Some(PolicyId::new(id)), policy).map_err(refused)
}

/// A source that is not known meets every condition on sources: those who cannot be placed are not let off a rule.
fn condition(condition: &Condition) -> Option<Value> {
    let or_unplaced = |known: Value| any([known, compare("==", "source", source::UNKNOWN)].into_iter());
    match condition {
        Condition::SourceIn(networks) => among(networks).and_then(or_unplaced),
        Condition::SourceOutside(networks) => among(networks).as_ref().map(not).and_then(or_unplaced),
        Condition::HoursIn { from, to } => hours(*from, *to),
        Condition::HoursOutside { from, to } => hours(*from, *to).map(|within| not(&within)),
        Condition::SpendOver(bound) => {
            Some(json!({"contains": {"left": attribute(&var("context"), "over"), "right": value(bound.id())}}))
        }
        Condition::NetworkNewFor(span) => {
            Some(compare("<", "known", i64::try_from(span.as_secs()).unwrap_or(i64::MAX)))
        }
        Condition::Days(days) => any(days.iter().map(|day| compare("==", "weekday", i64::from(*day)))),
    }
}

/// The source is in one of these networks.
fn among(networks: &[Network]) -> Option<Value> {
    let (source, source6) = (attribute(&var("context"), "source"), attribute(&var("context"), "source6"));
    let has = || json!({"has": {"left": var("context"), "attr": "source6"}});
    any(networks.iter().filter_map(|network| match network.ends() {
        Ends::V4(first, last) => between(&source, first.to_bits().into(), last.to_bits().into()),
        Ends::V6(first, last) => {
            let (first, last) = (source::halves(first), source::halves(last));
            let high = between(&attribute(&source6, "high"), first.0, last.0);
            let low = between(&attribute(&source6, "low"), first.1, last.1);
            all([Some(has()), high, low].into_iter().flatten())
        }
    }))
}

/// Both are meant. `None`: whatever it is.
fn between(what: &Value, first: i64, last: i64) -> Option<Value> {
    let against = |operator: &str, with: i64| json!({operator: {"left": what, "right": {"Value": with}}});
    match (first, last) {
        (i64::MIN, i64::MAX) => None,
        (first, last) if first == last => Some(against("==", first)),
        (first, last) => all([against(">=", first), against("<=", last)].into_iter()),
    }
}

/// From the first minute up to the second one; over midnight where the second is not later.
fn hours(from: u16, to: u16) -> Option<Value> {
    let parts = [compare(">=", "minute", from.into()), compare("<", "minute", to.into())].into_iter();
    if from < to { all(parts) } else { any(parts) }
}

// One by one: a set in a policy is made anew whenever the policy is evaluated.

fn acr_of(classes: &BTreeSet<String>) -> Option<Value> {
    let acr = attribute(&var("context"), "acr");
    any(classes.iter().map(|class| json!({"==": {"left": acr, "right": value(class)}})))
}

fn amr_of(methods: &BTreeSet<String>) -> Option<Value> {
    let amr = attribute(&var("context"), "amr");
    any(methods.iter().map(|method| json!({"contains": {"left": amr, "right": value(method)}})))
}

fn younger(age: std::time::Duration) -> Value {
    compare("<=", "age", i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
}

fn compare(operator: &str, attr: &str, with: i64) -> Value {
    json!({operator: {"left": attribute(&var("context"), attr), "right": {"Value": with}}})
}

fn in_any<'a>(what: &str, kind: &str, ids: impl Iterator<Item = &'a str>) -> Value {
    let ids: Vec<Value> = ids.map(|id| json!({"Value": {"__entity": entity(kind, id)}})).collect();
    json!({"in": {"left": var(what), "right": {"Set": ids}}})
}

fn actions(kinds: &BTreeSet<EndpointKind>) -> Value {
    let entities: Vec<Value> = kinds.iter().map(|kind| entity("Action", kind.name())).collect();
    json!({"op": "in", "entities": entities})
}

fn is(what: &str, kind: &str) -> Value {
    json!({"is": {"left": var(what), "entity_type": kind}})
}

fn not(what: &Value) -> Value {
    json!({"!": {"arg": what}})
}

/// `None` of none.
fn all(parts: impl Iterator<Item = Value>) -> Option<Value> {
    parts.reduce(|left, right| json!({"&&": {"left": left, "right": right}}))
}

/// `None` of none.
fn any(parts: impl Iterator<Item = Value>) -> Option<Value> {
    parts.reduce(|left, right| json!({"||": {"left": left, "right": right}}))
}

fn attribute(of: &Value, name: &str) -> Value {
    json!({".": {"left": of, "attr": name}})
}

fn var(name: &str) -> Value {
    json!({"Var": name})
}

fn value(text: impl AsRef<str>) -> Value {
    json!({"Value": text.as_ref()})
}

fn entity(kind: &str, id: &str) -> Value {
    json!({"type": kind, "id": id})
}
