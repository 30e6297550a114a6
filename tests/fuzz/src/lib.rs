//! What targets share: how a head is written down; one issuer, its key, and the one token that it ever gave out.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use authz_service::identity::CredentialError;
use authz_service::identity::discovery::KeyRing;
use authz_service::identity::jwt::{self, JwtIdentity, KeySet, Trust};
use authz_service::registry::{EndpointKind, Issuer, IssuerKeys, Permits};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use gateway_core::headers::Head;
use gateway_core::name::TenantName;

/// Time of every check, in Unix seconds.
pub const NOW: u64 = 1_800_000_000;
/// The one issuer.
pub const ISSUER: &str = "https://id.acme.test";
/// Its tenant, under the claim `tenant`.
pub const TENANT: &str = "acme";
/// What its tokens are for.
pub const AUDIENCE: &str = "bulkhead";

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[7; 32]));

/// The issuer's public key, as JWKS spell it.
pub static PUBLIC: LazyLock<String> = LazyLock::new(|| URL_SAFE_NO_PAD.encode(KEY.verifying_key().as_bytes()));

/// The issuer, with its own key.
pub static ISSUERS: LazyLock<HashMap<String, Vec<Arc<Issuer>>>> = LazyLock::new(|| {
    let jwks = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"k1","x":"{}"}}]}}"#, *PUBLIC);
    issuers(KeySet::parse(jwks.as_bytes()).unwrap())
});

/// A token that [`ISSUERS`] vouches for.
pub static GENUINE: LazyLock<String> = LazyLock::new(|| {
    let claims = format!(
        r#"{{"iss":"{ISSUER}","sub":"alice","aud":"{AUDIENCE}","tenant":"{TENANT}","iat":{NOW},"exp":{}}}"#,
        NOW + 300
    );
    let token = signed(br#"{"alg":"EdDSA","kid":"k1","typ":"JWT"}"#, claims.as_bytes());
    assert!(verify(&token, &ISSUERS, NOW).is_ok());
    token
});

/// Verifies a token on a connection without a certificate.
///
/// # Errors
/// It proves nobody.
pub fn verify(
    token: &str,
    issuers: &HashMap<String, Vec<Arc<Issuer>>>,
    now: u64,
) -> Result<JwtIdentity, CredentialError> {
    static OFFLINE: LazyLock<KeyRing> = LazyLock::new(KeyRing::offline);
    jwt::verify(token, &Trust { issuers, published: &OFFLINE, certificate: "", endpoint: EndpointKind::Chat }, now)
}

/// The issuer, with these keys.
pub fn issuers(keys: KeySet) -> HashMap<String, Vec<Arc<Issuer>>> {
    let issuer = Issuer {
        url: ISSUER.into(),
        tenant: TenantName::parse(TENANT).unwrap(),
        audiences: [AUDIENCE.to_owned()].into(),
        tenant_claim: Some("tenant".into()),
        max_lifetime: Duration::from_secs(3600),
        keys: IssuerKeys::File(Arc::new(keys)),
        permits: Permits::default(),
        scopes: None,
    };
    HashMap::from([(ISSUER.to_owned(), vec![Arc::new(issuer)])])
}

/// A token with a right signature over whatever this is.
pub fn signed(header: &[u8], payload: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = URL_SAFE_NO_PAD.encode(KEY.sign(message.as_bytes()).to_bytes());
    format!("{message}.{signature}")
}

/// Reads a head, written as `METHOD path authority` and lines of `name: value`; nothing where the first line is no text.
pub fn head(data: &[u8], then: impl FnOnce(&Head<'_>)) {
    let mut lines = data.split(|b| *b == b'\n');
    let Some(Ok(start)) = lines.next().map(std::str::from_utf8) else { return };
    let mut parts = start.splitn(3, ' ');
    let (method, path) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let headers: Vec<(&str, &[u8])> = lines.filter_map(header).collect();
    then(&Head { method, authority: parts.next().unwrap_or(""), path, headers: &headers });
}

fn header(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = line.iter().position(|b| *b == b':')?;
    let value = &line[colon + 1..];
    Some((std::str::from_utf8(&line[..colon]).ok()?, value.strip_prefix(b" ").unwrap_or(value)))
}
