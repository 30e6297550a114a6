//! Names that claims carry: tenants and models. A name that parses is safe in a header, a log line and a map key.

use std::fmt;

/// A tenant: a DNS label (RFC 1123), lower case, 2 to 63 bytes, none of the reserved words.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantName(Box<str>);

/// A model's name or alias as clients write it: 1 to 128 bytes of `[A-Za-z0-9._:/-]`, first and last alphanumeric,
/// no `..` and no `//`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelName(Box<str>);

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Length or characters.
    #[error("must be 2 to 63 characters of a-z, 0-9 and -, starting and ending with a letter or digit")]
    Tenant,
    /// A word that names something else in a path or a log.
    #[error("is reserved")]
    Reserved,
    /// Length or characters.
    #[error("must be 1 to 128 characters of A-Z, a-z, 0-9 and ._:/-, starting and ending with a letter or digit")]
    Model,
}

const RESERVED: &[&str] = &[
    "admin", "all", "any", "bulkhead", "default", "me", "none", "null", "platform", "root", "self", "sys", "system",
    "v1",
];

impl TenantName {
    /// Parses a tenant's name.
    ///
    /// # Errors
    /// [`NameError::Tenant`] or [`NameError::Reserved`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let bytes = text.as_bytes();
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        let edge = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
        if !(2..=63).contains(&bytes.len()) || !bytes.iter().all(inner) || !edge(bytes.first()) || !edge(bytes.last()) {
            return Err(NameError::Tenant);
        }
        if RESERVED.contains(&text) {
            return Err(NameError::Reserved);
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ModelName {
    /// Parses a model's name or alias.
    ///
    /// # Errors
    /// [`NameError::Model`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let bytes = text.as_bytes();
        let inner = |b: &u8| b.is_ascii_alphanumeric() || b"._:/-".contains(b);
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let ok = (1..=128).contains(&bytes.len())
            && bytes.iter().all(inner)
            && edge(bytes.first())
            && edge(bytes.last())
            && !text.contains("..")
            && !text.contains("//");
        if ok { Ok(Self(text.into())) } else { Err(NameError::Model) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_traits {
    ($name:ty) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}
text_traits!(TenantName);
text_traits!(ModelName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_dns_labels_and_not_reserved() {
        for good in ["acme", "a1", "a-b", &"x".repeat(63)] {
            assert_eq!(TenantName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a", "-a", "a-", "Acme", "a_b", "a.b", "аcme", "a b", "acme\n", "a/b", &"x".repeat(64)] {
            assert_eq!(TenantName::parse(bad), Err(NameError::Tenant), "{bad:?}");
        }
        assert_eq!(TenantName::parse("root"), Err(NameError::Reserved));
    }

    #[test]
    fn models_are_path_safe() {
        for good in ["gpt-4o", "meta-llama/Llama-3.1-8B", "o1", "ft:gpt-4o:acme:x1"] {
            assert!(ModelName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "a..b", "a b", "modèle", "a\0b", &"x".repeat(129)] {
            assert_eq!(ModelName::parse(bad), Err(NameError::Model), "{bad:?}");
        }
    }
}
