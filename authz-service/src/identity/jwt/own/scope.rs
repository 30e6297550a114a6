//! The scope of our own tokens, in words (RFC 6749 §3.3): names of endpoints, and `model:` before names of models. Where
//! there is no word of a kind, that kind is not narrowed.

use std::collections::BTreeSet;

use gateway_core::name::ModelName;

use crate::registry::{EndpointKind, Permits};

/// Before the name of a model.
const MODEL: &str = "model:";
/// The most words.
const MAX_WORDS: usize = 256;

/// Why a text is no scope of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a scope is a list of endpoints and `model:NAME`, with one space between")]
pub struct BadScope;

/// Reads a scope; a model's name is taken as it stands.
///
/// # Errors
/// [`BadScope`].
pub fn parse(text: &str) -> Result<Permits, BadScope> {
    let mut permits = Permits::default();
    if text.split(' ').count() > MAX_WORDS {
        return Err(BadScope);
    }
    for word in text.split(' ') {
        if let Some(model) = word.strip_prefix(MODEL) {
            let name = ModelName::parse(model).map_err(|_| BadScope)?;
            permits.models.get_or_insert_with(BTreeSet::new).insert(name);
        } else {
            let kind = EndpointKind::named(word).ok_or(BadScope)?;
            permits.endpoints.get_or_insert_with(BTreeSet::new).insert(kind);
        }
    }
    Ok(permits)
}

/// Spells a scope; empty where nothing is narrowed.
///
/// # Errors
/// [`BadScope`] where it permits nothing, which no scope says, or is too long.
pub fn spell(permits: &Permits) -> Result<String, BadScope> {
    let none = |empty: bool| if empty { Err(BadScope) } else { Ok(()) };
    none(permits.endpoints.as_ref().is_some_and(BTreeSet::is_empty))?;
    none(permits.models.as_ref().is_some_and(BTreeSet::is_empty))?;
    let endpoints = permits.endpoints.iter().flatten().map(|kind| kind.name().to_owned());
    let models = permits.models.iter().flatten().map(|model| format!("{MODEL}{model}"));
    let words: Vec<String> = endpoints.chain(models).collect();
    if words.len() > MAX_WORDS { Err(BadScope) } else { Ok(words.join(" ")) }
}
