//! What a credential may use, and what the permits of several come to.

use std::collections::BTreeSet;
use std::sync::Arc;

use gateway_core::name::ModelName;

use super::EndpointKind;

/// What a credential may use; `None` is "all that the tenant may".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permits {
    /// Canonical model names.
    pub models: Option<BTreeSet<ModelName>>,
    /// Endpoints.
    pub endpoints: Option<BTreeSet<EndpointKind>>,
    /// The roles that say so, where any was named: rules may be about them.
    pub roles: BTreeSet<Arc<str>>,
}

impl Permits {
    /// What both permit, with the roles of either.
    #[must_use]
    pub fn narrow(self, other: Self) -> Self {
        let roles = self.roles.into_iter().chain(other.roles).collect();
        Self { models: both(self.models, other.models), endpoints: both(self.endpoints, other.endpoints), roles }
    }

    /// What any of these permits at one endpoint; of none, nothing. Rules about any of their roles meet it, also about one
    /// that permits nothing here.
    #[must_use]
    pub fn any_at<'a>(permits: impl Iterator<Item = &'a Self>, endpoint: EndpointKind) -> Self {
        let at = |one: &Self| one.endpoints.as_ref().is_none_or(|endpoints| endpoints.contains(&endpoint));
        let nothing = Self { models: Some(BTreeSet::new()), endpoints: Some(BTreeSet::new()), roles: BTreeSet::new() };
        permits.fold(nothing, |mut all, one| {
            all.roles.extend(one.roles.iter().cloned());
            if at(one) {
                all.models = all.models.zip(one.models.clone()).map(|(all, one)| all.into_iter().chain(one).collect());
                all.endpoints = Some(BTreeSet::from([endpoint]));
            }
            all
        })
    }
}

fn both<T: Ord>(a: Option<BTreeSet<T>>, b: Option<BTreeSet<T>>) -> Option<BTreeSet<T>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.into_iter().filter(|item| b.contains(item)).collect()),
        (one, other) => one.or(other),
    }
}
