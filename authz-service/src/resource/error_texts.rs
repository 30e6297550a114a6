//! A tenant's own words for refusals, out of its `TenantPolicy` resources: for its own authenticated callers alone.

use std::collections::HashMap;

use gateway_core::denial::{Code, Words};
use serde::Deserialize;

use super::field::At;
use super::problem::{Problems, nearest};

/// The longest message, in characters.
const LONGEST: usize = 300;
/// What all of a tenant's may hold, in bytes: they travel in grants.
const MOST_BYTES: usize = 16 * 1024;

/// One entry of `TenantPolicy.spec.errors`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a mapping")]
pub(super) struct RawError {
    code: At<String>,
    message: Option<At<String>>,
    contact: Option<At<String>>,
}

/// `TenantPolicy.spec.errorDetails`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum RawDetails {
    Shown,
    Hidden,
}

/// Adds one policy's words to its tenant's; hidden once is hidden.
pub(super) fn add<'a>(
    texts: &mut Words,
    entries: impl Iterator<Item = &'a RawError>,
    details: Option<RawDetails>,
    problems: &Problems,
) {
    texts.hides_details |= details == Some(RawDetails::Hidden);
    for raw in entries {
        let Some(code) = code(&raw.code, problems) else { continue };
        if raw.message.is_none() && raw.contact.is_none() {
            problems.add(raw.code.place, "an error must hold one of `message`, `contact`");
        }
        let message = raw.message.as_ref().map(|message| sentence(message, problems));
        let contact = raw.contact.as_ref().and_then(|contact| address(contact, problems));
        if insert(&mut texts.by_code, code, message, contact).is_some() {
            problems.add(raw.code.place, format!("the tenant has words for `{}` already", raw.code.value));
        }
        let bytes: usize = texts.by_code.values().map(|(message, contact)| message.len() + contact.len()).sum();
        if bytes > MOST_BYTES {
            return problems
                .add(raw.code.place, format!("the tenant's words are longer than {MOST_BYTES} bytes by here"));
        }
    }
}

fn insert(
    by_code: &mut HashMap<Code, (String, String)>,
    code: Code,
    message: Option<String>,
    contact: Option<String>,
) -> Option<(String, String)> {
    let message = message.unwrap_or_else(|| code.row().message.to_owned());
    by_code.insert(code, (message, contact.map(|contact| format!("Contact: {contact}")).unwrap_or_default()))
}

fn code(raw: &At<String>, problems: &Problems) -> Option<Code> {
    let code = Code::named(&raw.value);
    if code.is_none() {
        let hint = nearest(&raw.value, Code::ALL.iter().map(|code| code.row().code));
        problems.add(raw.place, format!("there is no error `{}`{hint}", raw.value));
    }
    code
}

fn sentence(raw: &At<String>, problems: &Problems) -> String {
    let length = raw.value.chars().count();
    if !(1..=LONGEST).contains(&length) || raw.value.chars().any(char::is_control) {
        problems.add(raw.place, format!("`message` must be 1 to {LONGEST} characters on one line"));
    }
    raw.value.clone()
}

fn address(raw: &At<String>, problems: &Problems) -> Option<String> {
    let contact = raw.visible(256, problems)?;
    if !contact.starts_with("https://") && !contact.starts_with("mailto:") {
        problems.add(raw.place, format!("`{contact}` must start with `https://` or `mailto:`"));
    }
    Some(contact.to_owned())
}
