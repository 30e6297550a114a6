//! The request of RFC 8693 §2.1, as a form. What it does not know is ignored (RFC 6749 §3.2); what it knows stands once.

use super::Refusal;
use crate::identity::jwt::own::parse_scope;
use crate::registry::Permits;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// A wish for a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Asked {
    /// The token of whom the caller wants to act for.
    pub subject_token: String,
    /// What it wants of it; none: all.
    pub scope: Option<Permits>,
    /// The name that the answer gives its token.
    pub token_type: TokenType,
}

/// Two names of the same (RFC 8693 §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenType {
    /// An access token.
    #[default]
    Access,
    /// A JWT.
    Jwt,
}

impl TokenType {
    /// As requests and answers spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Access => "urn:ietf:params:oauth:token-type:access_token",
            Self::Jwt => "urn:ietf:params:oauth:token-type:jwt",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Access, Self::Jwt].into_iter().find(|known| known.name() == name)
    }
}

impl Asked {
    /// Reads a form; `gateway` is the one audience that our tokens have.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn read(form: &[(String, String)], gateway: &str) -> Result<Self, Refusal> {
        let invalid = |text| Refusal::new("invalid_request", text);
        let once = |name: &str| {
            let mut found = form.iter().filter(|(have, _)| have == name).map(|(_, value)| value.as_str());
            match (found.next(), found.next()) {
                (_, Some(_)) => Err(invalid("a parameter stands twice")),
                (value, None) => Ok(value.filter(|value| !value.is_empty())),
            }
        };
        match once("grant_type")? {
            None => return Err(invalid("`grant_type` is missing")),
            Some(GRANT) => {}
            Some(_) => return Err(Refusal::new("unsupported_grant_type", "only token exchange is there")),
        }
        if once("actor_token")?.is_some() || once("actor_token_type")?.is_some() {
            return Err(invalid("the actor is who calls: send its credential in the header, and no `actor_token`"));
        }
        let subject_token = once("subject_token")?.ok_or(invalid("`subject_token` is missing"))?;
        let kind = once("subject_token_type")?.ok_or(invalid("`subject_token_type` is missing"))?;
        TokenType::named(kind).ok_or(invalid("`subject_token_type` is neither an access token nor a JWT"))?;
        let token_type = match once("requested_token_type")? {
            None => TokenType::default(),
            Some(kind) => {
                TokenType::named(kind).ok_or(invalid("`requested_token_type` is neither an access token nor a JWT"))?
            }
        };
        let places = form.iter().filter(|(name, _)| name == "audience" || name == "resource");
        if places.into_iter().any(|(_, place)| place != gateway) {
            return Err(Refusal::new("invalid_target", "tokens are for this gateway alone"));
        }
        let scope = once("scope")?.map(parse_scope).transpose();
        let scope = scope.map_err(|_| Refusal::new("invalid_scope", "a scope that there is none of"))?;
        Ok(Self { subject_token: subject_token.to_owned(), scope, token_type })
    }
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("scope", &self.scope).finish_non_exhaustive()
    }
}
