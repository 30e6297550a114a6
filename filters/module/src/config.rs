//! The module's configuration: JSON text in Envoy's `configuration` (a `google.protobuf.StringValue`).

use gateway_core::claims::PathTemplate;
use gateway_core::headers::remove_upstream;
use gateway_core::wire;
use gpu_accounting::leases::LONGEST_WAIT_MS;
use serde::Deserialize;
use tenant_context::front::Rules;

/// What an operator sets.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The proxy's id, the same as in ext_authz's `initial_metadata`.
    pub(crate) proxy: String,
    /// Envoy cluster of the service.
    pub(crate) service: String,
    /// Where requests are admitted.
    pub(crate) profile: Profile,
    /// Where clients may claim a tenant: the claim header, path templates, claims of a token.
    pub(crate) rules: Rules,
    /// Milliseconds between two reports to the service while there is something to say.
    pub(crate) sync_interval_ms: u64,
    /// Milliseconds that a request waits for a lease.
    pub(crate) lease_timeout_ms: u64,
}

/// Where requests are admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Profile {
    /// In the service, which is asked about each request.
    #[default]
    Portable,
    /// In this module, out of held grants and leases.
    Inline,
}

/// Why a configuration is refused. The message names the field.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadConfig {
    #[error("the configuration is empty: expected JSON text such as {{\"schemaVersion\":1,\"proxy\":\"edge-1\"}}")]
    Empty,
    #[error(
        "the configuration is not JSON text (it starts with the bytes {0}): \
         use google.protobuf.StringValue, a Struct reaches the module as protobuf"
    )]
    NotText(String),
    #[error("the configuration is refused: {0}")]
    Json(#[from] serde_json::Error),
    #[error("`schemaVersion` is {0}, this module knows 1")]
    Version(u64),
    #[error("`{field}` {why}")]
    Field { field: &'static str, why: &'static str },
    #[error("`pathTemplates`: `{0}`: {1}")]
    Template(String, gateway_core::claims::TemplateError),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawConfig {
    schema_version: u64,
    proxy: String,
    service: Option<String>,
    profile: Option<Profile>,
    claim_header: Option<String>,
    path_templates: Option<Vec<String>>,
    tenant_claims: Option<Vec<String>>,
    sync_interval_ms: Option<u64>,
    lease_timeout_ms: Option<u64>,
}

impl Config {
    /// Reads the configuration as Envoy hands it over.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BadConfig> {
        match bytes.first() {
            None => return Err(BadConfig::Empty),
            Some(b'{') => {}
            Some(_) => {
                let start: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
                return Err(BadConfig::NotText(start.join(" ")));
            }
        }
        Self::try_from(serde_json::from_slice::<RawConfig>(bytes)?)
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = BadConfig;

    fn try_from(raw: RawConfig) -> Result<Self, BadConfig> {
        if raw.schema_version != 1 {
            return Err(BadConfig::Version(raw.schema_version));
        }
        let token =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if raw.proxy.len() > 128 || !token(&raw.proxy) {
            return Err(BadConfig::Field {
                field: "proxy",
                why: "must be 1 to 128 characters of A-Z, a-z, 0-9 and -_.",
            });
        }
        let service = raw.service.unwrap_or_else(|| wire::SERVICE_CLUSTER.to_owned());
        if service.len() > host_limit() || service.is_empty() {
            return Err(BadConfig::Field { field: "service", why: "must name an Envoy cluster, 1 to 125 bytes" });
        }
        let claim_header = raw.claim_header.unwrap_or_else(|| wire::CLAIM_HEADER.to_owned()).to_ascii_lowercase();
        if !token(&claim_header) || remove_upstream(&claim_header) {
            return Err(BadConfig::Field {
                field: "claimHeader",
                why: "must be a header name, not reserved and no carrier",
            });
        }
        let sync_interval_ms = raw.sync_interval_ms.unwrap_or(500);
        if !(50..=10_000).contains(&sync_interval_ms) {
            return Err(BadConfig::Field { field: "syncIntervalMs", why: "must be 50 to 10000" });
        }
        let templates = raw.path_templates.unwrap_or_default();
        let template = |text: &String| PathTemplate::parse(text).map_err(|why| BadConfig::Template(text.clone(), why));
        let rules = Rules {
            claim_header,
            path_templates: templates.iter().map(template).collect::<Result<_, _>>()?,
            tenant_claims: raw.tenant_claims.unwrap_or_default(),
        };
        let lease_timeout_ms = raw.lease_timeout_ms.unwrap_or(LONGEST_WAIT_MS);
        if !(50..=30_000).contains(&lease_timeout_ms) {
            return Err(BadConfig::Field { field: "leaseTimeoutMs", why: "must be 50 to 30000" });
        }
        let profile = raw.profile.unwrap_or_default();
        Ok(Self { proxy: raw.proxy, service, profile, rules, sync_interval_ms, lease_timeout_ms })
    }
}

/// Longest cluster name that [`crate::host::gate::Service`] can spell.
const fn host_limit() -> usize {
    125
}
