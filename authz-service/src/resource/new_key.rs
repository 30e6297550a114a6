//! A new `ApiKey` resource, as `bulkhead key create` and a rotation write it. Knows neither the key nor its hash.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::object::API_VERSION;
use crate::registry::{Counts, Limit, Refill, Window};

/// What a new key's resource says. An absent list is all that the tenant, or the role, may.
#[derive(Clone, Debug)]
pub struct NewKey<'a> {
    /// Key id: 1 to 63 characters of a-z, 0-9 and -.
    pub id: &'a str,
    /// Namespace, one that the tenant lists.
    pub namespace: &'a str,
    /// Its tenant.
    pub tenant: &'a str,
    /// A role, instead of the tenant's default.
    pub role: Option<&'a str>,
    /// Models or aliases.
    pub models: Option<&'a [String]>,
    /// `chat`, `models`, `rotate`.
    pub endpoints: Option<&'a [String]>,
    /// Its own limits, beside the plan's.
    pub limits: &'a [Limit],
    /// Blocks of addresses that it may be used from.
    pub sources: Option<&'a [String]>,
    /// Now.
    pub created_at: Timestamp,
    /// At most [`LONGEST_KEY`](super::LONGEST_KEY) later.
    pub expires_at: Timestamp,
}

/// Why a new key's resource was not written.
#[derive(Debug, thiserror::Error)]
pub enum NewKeyError {
    /// The id would not be a file's name.
    #[error("`{0}` is no key id: 1 to 63 characters of a-z, 0-9 and -")]
    Id(String),
    /// Nothing is ever overwritten.
    #[error("`{0}` is there already")]
    Exists(PathBuf),
    /// The file system refused.
    #[error("`{0}` could not be written")]
    Io(PathBuf, #[source] io::Error),
    /// The YAML writer refused.
    #[error("the key's resource could not be spelled")]
    Yaml(#[from] serde_saphyr::SerializeError),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: BTreeMap<&'static str, &'a str>,
    spec: Spec<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    tenant: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    limits: Vec<WrittenLimit<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sources: Option<&'a [String]>,
    created_at: Timestamp,
    expires_at: Timestamp,
}

/// A key's limit: each counts that key, and says so nowhere.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenLimit<'a> {
    name: &'a str,
    counts: &'static str,
    amount: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<bool>,
}

impl<'a> From<&'a Limit> for WrittenLimit<'a> {
    fn from(limit: &'a Limit) -> Self {
        let counts = match limit.counts {
            Counts::GpuMs => "gpuTime",
            Counts::Tokens => "tokens",
            Counts::MicroUsd => "microUsd",
            Counts::Requests => "requests",
        };
        let written =
            Self { name: &limit.name, counts, amount: limit.amount, window: None, rate: None, in_flight: None };
        match limit.refill {
            Refill::Window(window) => Self { window: Some(window_name(window)), ..written },
            Refill::Rate(per) => Self { rate: Some(format!("{}ms", per.as_millis())), ..written },
            Refill::InFlight => Self { in_flight: Some(true), ..written },
        }
    }
}

const fn window_name(window: Window) -> &'static str {
    match window {
        Window::Minute => "minute",
        Window::Hour => "hour",
        Window::Day => "day",
        Window::Month => "month",
    }
}

/// The YAML of a new `ApiKey`.
///
/// # Errors
/// [`NewKeyError::Id`] and [`NewKeyError::Yaml`].
pub fn api_key_document(key: &NewKey<'_>) -> Result<String, NewKeyError> {
    check_id(key.id)?;
    let spec = Spec {
        tenant: key.tenant,
        role: key.role,
        models: key.models,
        endpoints: key.endpoints,
        limits: key.limits.iter().map(WrittenLimit::from).collect(),
        sources: key.sources,
        created_at: key.created_at,
        expires_at: key.expires_at,
    };
    let metadata = BTreeMap::from([("name", key.id), ("namespace", key.namespace)]);
    Ok(serde_saphyr::to_string(&Document { api_version: API_VERSION, kind: "ApiKey", metadata, spec })?)
}

/// Writes `<dir>/api-keys/<id>.yaml`, mode 0644, whole or not at all, and durably. Returns its path.
///
/// # Errors
/// [`NewKeyError::Exists`] when the file is there, [`NewKeyError::Id`], [`NewKeyError::Io`].
pub fn write_new(dir: &Path, id: &str, text: &str) -> Result<PathBuf, NewKeyError> {
    check_id(id)?;
    let folder = dir.join("api-keys");
    let path = folder.join(format!("{id}.yaml"));
    let draft = folder.join(format!(".{id}.{}.new", std::process::id()));
    let written =
        fs::create_dir_all(&folder).and_then(|()| write(&draft, text)).and_then(|()| fs::hard_link(&draft, &path));
    let removed = fs::remove_file(&draft);
    match written.and(removed).and_then(|()| fs::File::open(&folder)?.sync_all()) {
        Ok(()) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(NewKeyError::Exists(path)),
        Err(error) => Err(NewKeyError::Io(path, error)),
    }
}

fn write(draft: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(draft)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn check_id(id: &str) -> Result<(), NewKeyError> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edges = !id.starts_with('-') && !id.ends_with('-');
    let good = (1..=63).contains(&id.len()) && id.bytes().all(inner) && edges;
    if good { Ok(()) } else { Err(NewKeyError::Id(id.escape_debug().to_string())) }
}
