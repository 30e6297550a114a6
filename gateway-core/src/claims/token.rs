//! The tenant that a bearer token names, read before anybody has verified it: good for finding a contradiction, and for
//! nothing else. What cannot be read says nothing; the service verifies.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserializer as _, Error, MapAccess, Visitor};
use serde_json::Value;

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Whether a token in the form of a JWT (RFC 7519, JWS compact) agrees with a claimed tenant: under one of these members of its
/// payload it names it, byte for byte. Which one counts is its issuer's to say, so that one is enough.
///
/// `None` where it does not say: too long, no JWT, no strict JSON, none of the members, or none that is a string.
#[must_use]
pub fn token_agrees(token: &str, members: &[String], tenant: &str) -> Option<bool> {
    if token.len() > MAX_TOKEN_BYTES || members.is_empty() {
        return None;
    }
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let mut json = serde_json::Deserializer::from_slice(&payload);
    let agrees = json.deserialize_map(Payload { members, tenant }).ok()?;
    json.end().ok()?;
    agrees
}

/// Reads an object whose members stand once.
struct Payload<'a> {
    members: &'a [String],
    tenant: &'a str,
}

impl<'de> Visitor<'de> for Payload<'_> {
    type Value = Option<bool>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<bool>, A::Error> {
        let (mut seen, mut agrees) = (BTreeSet::new(), None);
        while let Some(name) = map.next_key::<String>()? {
            let value: Value = map.next_value()?;
            if self.members.contains(&name)
                && let Value::String(named) = value
            {
                agrees = Some(agrees == Some(true) || named == self.tenant);
            }
            if !seen.insert(name) {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok(agrees)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Vec<String> {
        vec!["tenant".into(), "org".into()]
    }

    fn token(payload: &[u8]) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    fn says(payload: &str) -> Option<bool> {
        token_agrees(&token(payload.as_bytes()), &members(), "acme")
    }

    #[test]
    fn a_listed_member_names_the_tenant_or_another() {
        for (payload, want) in [
            (r#"{"iss":"a","tenant":"acme"}"#, Some(true)),
            (r#"{"tenant":"globex"}"#, Some(false)),
            (r#"{"tenant":"Acme"}"#, Some(false)),
            (r#"{"tenant":""}"#, Some(false)),
            (r#"{"\u0074enant":"globex"}"#, Some(false)),
            (r#"{"tenant":"globex","org":"acme"}"#, Some(true)),
            (r#"{"org":"acme","tenant":"globex"}"#, Some(true)),
            (r#"{"org":"globex","tenant":"initech"}"#, Some(false)),
            (r#"{"tenant":["acme"]}"#, None),
            (r#"{"tenant":null,"org":7}"#, None),
            (r#"{"Tenant":"globex","o":{"tenant":"globex"}}"#, None),
            ("{}", None),
        ] {
            assert_eq!(says(payload), want, "{payload}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_nothing() {
        for payload in [
            "",
            "[]",
            "null",
            r#""tenant""#,
            r#"{"tenant":"globex"}x"#,
            r#"{"tenant":"globex""#,
            r#"{"tenant":"globex","tenant":"globex"}"#,
            r#"{"tenant":"globex","ten\u0061nt":"acme"}"#,
            r#"{"a":1,"a":1,"tenant":"globex"}"#,
        ] {
            assert_eq!(says(payload), None, "{payload}");
        }
        assert_eq!(token_agrees(&token(b"{\"tenant\":\"\xff\"}"), &members(), "acme"), None);
        let payload = URL_SAFE_NO_PAD.encode(r#"{"tenant":"globex"}"#);
        for text in [
            "",
            "a.b",
            &payload,
            &format!("e30.{payload}"),
            &format!("e30.{payload}.s.x"),
            &format!("e30.{payload}=.s"),
            &format!("e30.{payload}!.s"),
            &format!("e30.{payload}.{}", "s".repeat(MAX_TOKEN_BYTES)),
        ] {
            assert_eq!(token_agrees(text, &members(), "acme"), None, "{text}");
        }
        assert_eq!(token_agrees(&token(br#"{"tenant":"globex"}"#), &[], "acme"), None);
    }

    #[test]
    fn the_longest_token_is_read() {
        let short = token(br#"{"tenant":"globex"}"#);
        let longest = format!("{short}{}", "s".repeat(MAX_TOKEN_BYTES - short.len()));
        assert_eq!(token_agrees(&longest, &members(), "acme"), Some(false));
        assert_eq!(token_agrees(&format!("{longest}s"), &members(), "acme"), None);
    }
}
