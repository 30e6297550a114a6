//! The header plan of one stream, as data: what the shell removes and sets on the way up and on the way down.
//!
//! Never reads a header's value, so it can neither leak nor misread a credential. Names come lower-case, as Envoy keeps
//! them. Denials that Envoy or the module answers by themselves carry their own headers; they are not planned here.

mod answer;
mod inline;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;

use gateway_core::gate::Grant;
use gateway_core::headers::{CREDENTIAL_CARRIERS, remove_upstream};
use gateway_core::wire;

pub use answer::{AnswerFacts, answer_trailer_removals, refusal_headers, response_plan};
pub use inline::{InlineTarget, front_plan, inline_plan};

/// One change of a header map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderEdit<'a> {
    /// Every occurrence goes.
    Remove(&'a str),
    /// Name and value: replaces every occurrence, or adds the header.
    Set(&'a str, Cow<'a, str>),
}

impl HeaderEdit<'_> {
    /// The header's name.
    #[must_use]
    pub const fn name(&self) -> &str {
        match self {
            Self::Remove(name) | Self::Set(name, _) => name,
        }
    }
}

/// A whole header map with a plan applied: what the plan does not name stays as it was and where it was, what it sets
/// follows. One call of the host in place of one an edit.
#[must_use]
pub fn applied<'a>(plan: &'a [HeaderEdit<'_>], headers: &'a [(String, Vec<u8>)]) -> Vec<(&'a str, &'a [u8])> {
    let named = |name: &str| plan.binary_search_by(|edit| edit.name().cmp(name)).is_ok();
    let stays = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).filter(|(name, _)| !named(name));
    let set = plan.iter().filter_map(|edit| match edit {
        HeaderEdit::Set(name, value) => Some((*name, value.as_bytes())),
        HeaderEdit::Remove(_) => None,
    });
    stays.chain(set).collect()
}

/// The plan upstream, given the names of the request's headers; at most one edit a name.
///
/// Carriers of credentials stay as the service left them: behind it they hold the provider's. On a data endpoint there is
/// no provider, and they go. `grant_text` is the signed grant as [`wire::GRANT_HEADER`] carries it; read on data
/// endpoints only.
#[must_use]
pub fn request_plan<'a>(grant: &'a Grant, grant_text: &'a str, present: &[&'a str]) -> Vec<HeaderEdit<'a>> {
    let mut plan = Plan::default();
    for name in present {
        let stays = *name == wire::ROUTE || (!grant.data_endpoint && CREDENTIAL_CARRIERS.contains(name));
        if remove_upstream(name) && !stays {
            plan.remove(name);
        }
    }
    if !grant.upstream_path.is_empty() {
        plan.set(":path", grant.upstream_path.as_str());
    }
    plan.set(wire::TENANT, grant.tenant.as_str());
    plan.set(wire::FAIRNESS_ID, grant.tenant.as_str());
    if grant.data_endpoint {
        plan.set(wire::GRANT_HEADER, grant_text);
    }
    plan.edits()
}

/// What frames, routes or describes a message never stands behind it (RFC 9110 §6.5.1), and what the gateway has written
/// as a header stands nowhere a second time.
const NEVER_TRAILERS: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-proto",
    wire::REQUEST_ID,
];

/// Names of request trailers to remove: an HTTP/2 upstream may merge them into the headers (RFC 9110 §6.5.1), so what the
/// client may not say in a header it may not say in a trailer either. `_` counts as `-`: some servers read it so, and
/// another listener than ours may let it pass.
#[must_use]
pub fn trailer_removals(names: &[&str], claim_header: &str) -> Vec<String> {
    let refused = |name: &str| {
        let name = name.replace('_', "-");
        remove_upstream(&name) || NEVER_TRAILERS.contains(&name.as_str()) || name.eq_ignore_ascii_case(claim_header)
    };
    names.iter().filter(|name| refused(name)).map(|name| (*name).to_owned()).collect()
}

/// One edit a name: what is set is not removed first, and what is set later holds.
#[derive(Default)]
struct Plan<'a>(BTreeMap<&'a str, Option<Cow<'a, str>>>);

impl<'a> Plan<'a> {
    fn remove(&mut self, name: &'a str) {
        self.0.entry(name).or_insert(None);
    }

    fn set(&mut self, name: &'a str, value: impl Into<Cow<'a, str>>) {
        self.0.insert(name, Some(value.into()));
    }

    /// In the order of their names.
    fn edits(self) -> Vec<HeaderEdit<'a>> {
        let edit = |(name, value)| match value {
            Some(value) => HeaderEdit::Set(name, value),
            None => HeaderEdit::Remove(name),
        };
        self.0.into_iter().map(edit).collect()
    }
}
