//! `TenantPolicy`: rules over a tenant's requests: whom and what they are about, when they apply, what follows.

mod when;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use gateway_core::denial::Words;
use gateway_core::name::{ModelName, TenantName};
use serde::Deserialize;

use self::when::RawWhen;
use super::error_texts::{self, RawDetails, RawError};
use super::field::{At, Each};
use super::names::Names;
use super::object::{Object, Objects};
use super::problem::{Place, Problems, nearest};
use super::quantity::Quantity;
use super::role::{Role, canonical, each_model};
use super::tenant;
use crate::authorization::{MOST_RULES, Outcome, RolePolicy, Rule, Rules, SharedPolicies};
use crate::registry::{EndpointKind, Method, Model};

/// `TenantPolicy.spec`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
pub(super) struct TenantPolicySpec {
    tenant: At<String>,
    rules: Option<Each<RawRule>>,
    errors: Option<Each<RawError>>,
    error_details: Option<RawDetails>,
    at_credential_end: Option<RawAtEnd>,
}

/// What becomes of answers under way when the credential that asked for them ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum RawAtEnd {
    Finish,
    Cut,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
struct RawRule {
    name: At<String>,
    roles: Option<At<Each<At<String>>>>,
    endpoints: Option<At<Each<EndpointKind>>>,
    models: Option<At<Each<At<String>>>>,
    gpu_classes: Option<At<Each<At<String>>>>,
    when: Option<RawWhen>,
    then: At<RawThen>,
    step_up: Option<At<RawStepUp>>,
    restrict_to: Option<At<Each<At<String>>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
struct RawStepUp {
    acr: Option<At<Each<At<String>>>>,
    amr: Option<At<Each<At<String>>>>,
    max_age: Option<At<Quantity>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum RawThen {
    StepUp,
    Restrict,
    Deny,
}

/// What rules refer to.
#[derive(Clone, Copy)]
struct Known<'a> {
    models: &'a Names<Arc<Model>>,
    roles: &'a Names<Role>,
    problems: &'a Problems,
    /// Nothing of the policy at hand was passed over.
    whole: bool,
    /// The tenant's plan lets rules ask for a stronger login.
    steps_up: bool,
}

/// What policies say, by tenant.
#[derive(Default)]
pub(super) struct Compiled {
    pub(super) rules: HashMap<TenantName, Arc<Rules>>,
    pub(super) errors: HashMap<TenantName, Arc<Words>>,
    pub(super) cut: BTreeSet<TenantName>,
}

/// Compiles the rules, the words, and what becomes of open answers, of every tenant that has any.
pub(super) fn compile(
    objects: &Objects,
    tenants: &Names<tenant::Compiled>,
    models: &Names<Arc<Model>>,
    roles: &Names<Role>,
    problems: &Problems,
) -> Compiled {
    let known = Known { models, roles, problems, whole: true, steps_up: true };
    let before = problems.count();
    let mut names = Names::new("policy", true);
    let mut by_tenant: HashMap<&str, (Vec<Rule>, Place)> = HashMap::new();
    let mut errors: HashMap<TenantName, Words> = HashMap::new();
    let mut cut = BTreeSet::new();
    for object in &objects.policies {
        names.declare(&object.name, Some(()), problems);
        let Some(spec) = &object.spec else { continue };
        let Some(of) = tenants.find(&spec.tenant, problems) else { continue };
        of.permitted_namespace(&spec.tenant, object.namespace.as_ref(), problems);
        let texts = errors.entry(of.tenant.name.clone()).or_default();
        error_texts::add(texts, spec.errors.iter().flat_map(|list| &list.0), spec.error_details, problems);
        if spec.at_credential_end == Some(RawAtEnd::Cut) {
            cut.insert(of.tenant.name.clone());
        }
        if spec.is_empty() && object.whole {
            problems.add(object.name.place, format!("policy `{}` says nothing", object.name.value));
        }
        let (rules, place) = by_tenant.entry(&spec.tenant.value).or_insert((Vec::new(), object.name.place));
        let steps_up = of.tenant.plan.methods.contains(&Method::StepUp);
        rules.extend(Known { whole: object.whole, steps_up, ..known }.rules(object, spec));
        if rules.len() > MOST_RULES {
            let message = format!("tenant `{}` has more than {MOST_RULES} rules", spec.tenant.value);
            problems.add(object.name.place, message);
        }
        *place = object.name.place;
    }
    if problems.count() > before || objects.policies.iter().any(|object| !object.whole) {
        return Compiled::default();
    }
    let mut shared = SharedPolicies::default();
    let whole = |(tenant, (rules, place))| known.whole(tenants.get(tenant)?, rules, place, &mut shared);
    let ruled = by_tenant.into_iter().filter(|(_, (rules, _))| !rules.is_empty());
    let errors = errors.into_iter().filter(|(_, texts)| *texts != Words::default());
    let errors = errors.map(|(tenant, texts)| (tenant, Arc::new(texts))).collect();
    Compiled { rules: ruled.filter_map(whole).collect(), errors, cut }
}

impl TenantPolicySpec {
    /// Whether it says nothing.
    fn is_empty(&self) -> bool {
        self.rules.is_none()
            && self.errors.is_none()
            && self.error_details.is_none()
            && self.at_credential_end.is_none()
    }
}

impl Known<'_> {
    /// The rules of one tenant, together.
    fn whole(
        &self,
        of: &tenant::Compiled,
        rules: Vec<Rule>,
        place: Place,
        shared: &mut SharedPolicies,
    ) -> Option<(TenantName, Arc<Rules>)> {
        let tenant = &of.tenant;
        let roles = self.roles.iter().filter(|(_, _, role)| role.is_for(tenant.name.as_str()));
        let roles: Vec<&RolePolicy> = roles.map(|(_, _, role)| role.policy()).collect();
        let models = each_model(self.models).filter(|model| tenant.models.contains(&model.name));
        let compiled = Rules::compile(&tenant.name, models, &roles, rules, shared);
        let compiled = compiled.inspect_err(|error| self.problems.add(place, error.to_string())).ok()?;
        Some((tenant.name.clone(), Arc::new(compiled)))
    }

    fn rules(&self, object: &Object<TenantPolicySpec>, spec: &TenantPolicySpec) -> Vec<Rule> {
        let mut seen = BTreeSet::new();
        let mut rules = Vec::new();
        for raw in spec.rules.iter().flat_map(|rules| &rules.0) {
            raw.name.label(self.problems);
            if !seen.insert(raw.name.value.as_str()) {
                self.problems.add(raw.name.place, format!("rule `{}` is there already", raw.name.value));
            }
            rules.extend(self.rule(raw, format!("{}/{}", object.name.value, raw.name.value), &spec.tenant.value));
        }
        rules
    }

    fn rule(&self, raw: &RawRule, name: String, tenant: &str) -> Option<Rule> {
        let roles = raw.roles.as_ref().map(|roles| {
            self.filled(roles, "roles").0.iter().filter_map(|role| self.role(role, tenant)).collect::<BTreeSet<_>>()
        });
        let endpoints = raw.endpoints.as_ref();
        let endpoints = endpoints.map(|kinds| self.filled(kinds, "endpoints").0.iter().copied().collect());
        let then = self.outcome(raw);
        Some(Rule {
            name,
            roles,
            endpoints,
            models: raw.models.as_ref().map(|models| self.models(models, "models")),
            gpu_classes: raw.gpu_classes.as_ref().map(|classes| self.classes(classes)),
            when: raw.when.as_ref().map(|when| self.conditions(when)).unwrap_or_default(),
            then: then?,
        })
    }

    fn role(&self, wanted: &At<String>, tenant: &str) -> Option<String> {
        super::role::of(Some(wanted), tenant, self.roles, self.problems).map(|_| wanted.value.clone())
    }

    fn models(&self, wanted: &At<Each<At<String>>>, field: &str) -> BTreeSet<ModelName> {
        canonical(self.filled(wanted, field), self.models, self.problems)
    }

    fn classes(&self, wanted: &At<Each<At<String>>>) -> BTreeSet<String> {
        let known: BTreeSet<&str> = each_model(self.models).map(|model| model.gpu_class.as_str()).collect();
        for class in &self.filled(wanted, "gpuClasses").0 {
            if !known.contains(class.value.as_str()) {
                let hint = nearest(&class.value, known.iter().copied());
                self.problems.add(class.place, format!("no model has GPU class `{}`{hint}", class.value));
            }
        }
        wanted.value.0.iter().map(|class| class.value.clone()).collect()
    }

    fn outcome(&self, raw: &RawRule) -> Option<Outcome> {
        let then = raw.then.value;
        for (field, place, of) in [
            ("stepUp", raw.step_up.as_ref().map(|at| at.place), RawThen::StepUp),
            ("restrictTo", raw.restrict_to.as_ref().map(|at| at.place), RawThen::Restrict),
        ] {
            match place {
                Some(place) if then != of => self.problems.add(place, format!("`{field}` needs `then` to say so")),
                None if then == of => self.problems.add(raw.then.place, format!("missing field `{field}`")),
                _ => {}
            }
        }
        match then {
            RawThen::Deny => Some(Outcome::Deny),
            RawThen::Restrict => {
                raw.restrict_to.as_ref().map(|to| Outcome::Restrict { to: self.models(to, "restrictTo") })
            }
            RawThen::StepUp => raw.step_up.as_ref().map(|step_up| self.step_up(step_up)),
        }
    }

    fn step_up(&self, raw: &At<RawStepUp>) -> Outcome {
        let At { value, place } = raw;
        if !self.steps_up {
            self.problems.add(*place, "the tenant's plan does not have `stepUp` among its `methods`");
        }
        if value.acr.is_none() && value.amr.is_none() && value.max_age.is_none() {
            self.problems.add(*place, "`stepUp` must hold one of `acr`, `amr`, `maxAge`");
        }
        let words = |list: &Option<At<Each<At<String>>>>, field| -> BTreeSet<String> {
            let list = list.as_ref().map(|list| self.filled(list, field)).into_iter().flat_map(|list| &list.0);
            list.filter_map(|word| word.visible(128, self.problems).map(str::to_owned)).collect()
        };
        let age = |age: &At<Quantity>| {
            let age = age.duration_to(30, self.problems)?;
            if age.subsec_nanos() > 0 {
                self.problems.add(*place, "`maxAge` must be whole seconds");
            }
            Some(Duration::from_secs(age.as_secs()))
        };
        Outcome::StepUp {
            acr: words(&value.acr, "acr"),
            amr: words(&value.amr, "amr"),
            max_age: value.max_age.as_ref().and_then(age),
        }
    }

    /// A list that is there says something: an emptied one must not turn into "all".
    fn filled<'a, T>(&self, list: &'a At<Each<T>>, field: &str) -> &'a Each<T> {
        if list.value.0.is_empty() && self.whole {
            self.problems.add(list.place, format!("`{field}` must hold at least one"));
        }
        &list.value
    }
}
