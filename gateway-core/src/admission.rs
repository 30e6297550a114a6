//! Room 4: a chat body held against what its tenant may use. One function for both profiles: the service runs it over
//! its registry (`portable`), the module over the terms of a grant ([`Terms`], `inline`).
//!
//! Never names a model that is not the tenant's: another tenant's and one that does not exist are one answer.

mod terms;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use terms::{BadTerms, Terms};

use crate::chat::{self, Admission, AdmitTerms, OutputLimitField};
use crate::denial::{Code, Denial};
use crate::gate::Key;
use crate::name::ModelName;
use crate::price::ModelCost;
use crate::wire;

/// The plan's caps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Greatest body in bytes; never more than [`wire::MAX_BODY_BYTES`] counts.
    pub body_bytes: u64,
    /// Greatest output in tokens per choice: larger limits are clamped.
    pub output_tokens: u64,
    /// Greatest prompt in tokens, on the estimate.
    pub prompt_tokens: u64,
    /// Greatest `n`.
    pub choices: u64,
    /// Reserve the estimate, not the worst case.
    pub reserve_estimate: bool,
}

/// What admission reads beside the body, for one caller: the plan's caps, the tenant's models, who serves them.
pub trait Catalog {
    /// The plan's caps.
    fn caps(&self) -> Caps;
    /// The model that the path names, as it stands there.
    fn path_model(&self) -> Option<&str>;
    /// Root fields of a body beyond OpenAI's that any provider takes.
    fn extra_fields(&self) -> &BTreeSet<String>;
    /// The tenant's model of this name or alias; another tenant's is none.
    fn model(&self, name: &ModelName) -> Option<Offer<'_>>;
}

/// One of the tenant's models.
#[derive(Clone, Debug)]
pub struct Offer<'a> {
    /// Canonical name.
    pub model: &'a ModelName,
    /// Why this credential may not use it, if it may not.
    pub refusal: Option<Denial>,
    /// Its price.
    pub cost: &'a ModelCost,
    /// Who serves it in an allowed region.
    pub target: Option<Target<'a>>,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Name of the provider.
    pub provider: &'a str,
    /// Where it computes.
    pub region: &'a str,
    /// Its Envoy cluster, the value of the route header.
    pub cluster: &'a str,
    /// Path of its chat completions; empty: the client's.
    pub upstream_path: &'a str,
    /// Its name of the model.
    pub upstream_model: &'a str,
    /// The field by which it bounds its output.
    pub output_limit: OutputLimitField,
    /// Root fields of a body beyond OpenAI's that it takes.
    pub extra_fields: &'a BTreeSet<String>,
    /// Whose key a request leaves with.
    pub key: Key,
}

/// A request that may be sent, once its reservation is taken.
#[derive(Clone, Debug)]
pub struct Admitted<'a> {
    /// Canonical name: what was checked = priced = routed = sent.
    pub model: &'a ModelName,
    /// Its price.
    pub cost: &'a ModelCost,
    /// Where it goes; its key is never [`Key::Unspecified`].
    pub target: Target<'a>,
    /// Body edits and amounts.
    pub admission: Admission,
}

/// A request that is refused, and what was known of it by then: the audit record's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub denial: Denial,
    /// Canonical name, once it was decided.
    pub model: Option<ModelName>,
    /// Provider, or empty.
    pub provider: String,
    /// Region, or empty.
    pub region: String,
}

impl From<Denial> for Box<Refused> {
    fn from(denial: Denial) -> Self {
        Self::new(Refused { denial, model: None, provider: String::new(), region: String::new() })
    }
}

/// Admits a whole chat body: its size, its syntax, the one model of path and body, who serves it, what is reserved.
///
/// # Errors
/// The first rule that does not hold, with what was known by then.
pub fn admit_chat<'a>(catalog: &'a impl Catalog, body: &[u8]) -> Result<Admitted<'a>, Box<Refused>> {
    let caps = catalog.caps();
    check_size(caps.body_bytes, body.len() as u64)?;
    let request = chat::parse(body, catalog.extra_fields())?;
    let offer = one_model(catalog, request.model.as_ref())?;
    let known = |denial| {
        Box::new(Refused {
            denial,
            model: Some(offer.model.clone()),
            provider: offer.target.map(|target| target.provider.into()).unwrap_or_default(),
            region: offer.target.map(|target| target.region.into()).unwrap_or_default(),
        })
    };
    if let Some(denial) = offer.refusal.clone() {
        return Err(known(denial));
    }
    let target = offer.target.ok_or_else(|| known(Code::NoEligibleTarget.into()))?;
    request.check_fields(target.extra_fields).map_err(known)?;
    let terms = AdmitTerms {
        cost: offer.cost,
        upstream_model: target.upstream_model,
        output_cap: caps.output_tokens,
        prompt_cap: caps.prompt_tokens,
        choices_cap: caps.choices,
        reserve_estimate: caps.reserve_estimate,
        output_limit: target.output_limit,
    };
    let admission = request.admit(&terms).map_err(known)?;
    if target.key == Key::Unspecified {
        let detail = "There is no key for the provider of this model.";
        return Err(known(Denial::new(Code::NoEligibleTarget).detail(detail)));
    }
    Ok(Admitted { model: offer.model, cost: offer.cost, target, admission })
}

/// The denial of a model that the tenant may use and the credential may not.
#[must_use]
pub fn not_allowed() -> Denial {
    Denial::new(Code::ModelNotAllowed).param("model")
}

/// Holds a body's length, announced or seen, against the plan's greatest, in bytes.
///
/// # Errors
/// [`Code::BodyTooLarge`].
pub fn check_size(most: u64, bytes: u64) -> Result<(), Denial> {
    if bytes > most.min(wire::MAX_BODY_BYTES) { Err(too_large(most)) } else { Ok(()) }
}

/// The denial of a body that is larger than this many bytes.
#[must_use]
pub fn too_large(most: u64) -> Denial {
    Denial::new(Code::BodyTooLarge).detail(format!("The most is {most} bytes."))
}

/// The one model that path and body name: resolved once, and among the tenant's alone.
fn one_model<'a>(catalog: &'a impl Catalog, body: Option<&ModelName>) -> Result<Offer<'a>, Denial> {
    let not_found = || Denial::new(Code::ModelNotFound).param("model");
    let path = catalog.path_model().map(|text| ModelName::parse(text).map_err(|_| not_found())).transpose()?;
    let offer = match (path.as_ref(), body) {
        (None, None) => return Err(Denial::new(Code::InvalidBody).param("model").detail("It is required.")),
        (Some(name), None) | (None, Some(name)) => catalog.model(name),
        (Some(path), Some(body)) => match (catalog.model(path), catalog.model(body)) {
            (Some(one), Some(other)) if one.model == other.model => Some(one),
            (None, None) if path == body => None,
            _ => return Err(Denial::new(Code::ModelConflict).param("model")),
        },
    };
    offer.ok_or_else(not_found)
}
