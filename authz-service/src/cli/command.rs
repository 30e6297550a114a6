//! The commands and their help: what an operator reads with `--help`, examples and units included.

mod serve;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use self::serve::ServeArgs;
use super::UnixAddr;

/// A security layer for AI APIs that many tenants share: the service beside Envoy, and its operators' commands.
#[derive(Debug, Parser)]
#[command(
    name = "bulkhead",
    disable_version_flag = true,
    after_help = "\
Exit codes: 0 done, 1 refused or failed, 2 wrong usage.

`serve` opens the admin socket, 0600, in a directory that others may not write to; all commands but `check`, `login`,
`token`, `logout` and `version` ask the service there. It answers only the user that it runs as, and root.

Examples:
  bulkhead check ./policies
  bulkhead key create --tenant acme --ttl 24h
  bulkhead vault put --tenant acme --provider openai < key.txt
  bulkhead audit tail --output json --follow | jq 'select(.decision == \"deny\")'
  bulkhead usage"
)]
pub struct Cli {
    /// The service's admin socket [env: BULKHEAD_ADMIN] [default: unix:/run/bulkhead/admin.sock]
    #[arg(long, value_name = "unix:PATH", global = true)]
    pub(super) admin: Option<UnixAddr>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the service
    Serve(ServeArgs),
    /// Check a directory of resources as `serve` would read it, without a service
    #[command(after_help = "Prints every problem as FILE:LINE:COLUMN: REASON. Exit code 1 if there is one.")]
    Check {
        /// Directory of YAML files
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Make, revoke and list API keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Make tenants' CAs; issue, revoke and list short certificates of their workloads
    #[command(subcommand)]
    Cert(CertCommand),
    /// Keep the tenants' own provider keys
    #[command(subcommand)]
    Vault(VaultCommand),
    /// List and end long jobs
    #[command(subcommand)]
    Job(JobCommand),
    /// Rotate the key of the service's own tokens
    #[command(subcommand)]
    SigningKey(SigningKeyCommand),
    /// Read the audit log
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Show what every tenant has used and has left
    #[command(after_help = "\
Units: GPU-s are GPU-seconds weighted by GPU class; dollars are exact to a millionth. JSON has the same numbers as
integers: gpuMs (GPU-milliseconds), microUsd (millionths of a US dollar), tokens, requests. The row `(none)` counts
requests that were refused before their tenant was known.")]
    Usage {
        /// How to print it
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Have the service read its policies again, as on SIGHUP
    #[command(
        after_help = "A set with a problem is refused whole: each problem is printed, the exit code is 1, and the last
good set stays in force."
    )]
    Reload,
    /// Log in at the tenant's own OpenID provider; `bulkhead token` has the token then
    #[command(after_help = "\
Without --device or --client-credentials the provider's page opens in a browser, which comes back to a port of this
host: the client must be registered as a native application with the redirect URI http://127.0.0.1/callback (any port, RFC
8252). The tokens are kept in a file that only its owner can read.

Examples:
  bulkhead login --issuer https://id.acme.example --client-id bulkhead-cli --scope 'openid offline_access chat'
  bulkhead login --device --issuer https://id.acme.example --client-id bulkhead-cli
  bulkhead login --client-credentials --issuer https://id.acme.example --client-id nightly --client-secret-file secret
  curl -H \"authorization: Bearer $(bulkhead token)\" https://ai.example/v1/models")]
    Login(LoginArgs),
    /// Print the access token of the login, renewed where it is about to end
    Token {
        #[command(flatten)]
        file: LoginFile,
    },
    /// End the login: its tokens are revoked, where the provider offers that, and forgotten
    Logout {
        #[command(flatten)]
        file: LoginFile,
    },
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
pub(super) struct LoginFile {
    /// Where the login is kept [env: BULKHEAD_LOGIN] [default: $XDG_CONFIG_HOME/bulkhead/login.json]
    #[arg(long = "file", value_name = "FILE")]
    pub(super) path: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct LoginArgs {
    /// The provider, exactly as its metadata names itself
    #[arg(long, value_name = "URL")]
    pub(super) issuer: String,
    /// The client that the provider knows
    #[arg(long, value_name = "ID")]
    pub(super) client_id: String,
    /// File of a confidential client's secret, readable by this user alone (0600)
    #[arg(long, value_name = "FILE")]
    pub(super) client_secret_file: Option<PathBuf>,
    /// What to ask for, blanks between
    #[arg(long)]
    pub(super) scope: Option<String>,
    /// Whom the token is for (RFC 8707), where the provider wants to know
    #[arg(long, value_name = "URI")]
    pub(super) resource: Option<String>,
    /// Show a code to type in on another device (RFC 8628): where there is no browser
    #[arg(long, conflicts_with = "client_credentials")]
    pub(super) device: bool,
    /// Log in as the client itself (RFC 6749 §4.4): for pipelines
    #[arg(long, requires = "client_secret_file")]
    pub(super) client_credentials: bool,
    /// Print the page's address and do not open a browser
    #[arg(long, conflicts_with_all = ["device", "client_credentials"])]
    pub(super) no_browser: bool,
    #[command(flatten)]
    pub(super) file: LoginFile,
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make an API key: it is shown once, its resource is written into the policies' directory
    #[command(after_help = "\
The service keeps only the key's SHA-256: who loses the key makes another one.

Examples:
  bulkhead key create --tenant acme
  bulkhead key create --tenant acme --model llama-3.1-8b --endpoint chat --ttl 72h
  KEY=$(bulkhead key create --tenant acme --output json | jq -r .key)")]
    Create(NewKey),
    /// Revoke a key and what came of it by rotation, or all of a tenant, for good and at once
    #[command(after_help = "\
Examples:
  bulkhead key revoke 7f3k2m9x0q1a
  bulkhead key revoke --all --tenant acme")]
    Revoke {
        /// Id of the key, as `key list` shows it
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        id: Option<String>,
        /// All keys of the tenant
        #[arg(long, requires = "tenant")]
        all: bool,
        /// Whose
        #[arg(long, requires = "all")]
        tenant: Option<String>,
    },
    /// List keys
    #[command(after_help = "\
`expires` is when it ends: at its expiry, at its tenant's greatest age of keys or of chains, or with the overlap after its
rotation. `last used` is true to some seconds; while a worker of profile `inline` holds its grant, to the plan's grantTtl.

States: active; expired; revoked; no_resource (the store has its hash, no ApiKey resource names it); no_hash (a
resource names it, but it was not made by this service). Only active keys open anything.")]
    List {
        /// Of this tenant only
        #[arg(long)]
        tenant: Option<String>,
        /// How to print them
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub(super) struct NewKey {
    /// Whose key
    #[arg(long)]
    pub(super) tenant: String,
    /// A model that it may use; repeat for more. Without one: all that tenant and role allow
    #[arg(long = "model", value_name = "MODEL")]
    pub(super) models: Vec<String>,
    /// An endpoint that it may use: `chat`, `models`, `rotate`, `token`, `job`, `jobRenewal`; repeat for more. Without one: all
    #[arg(long = "endpoint", value_name = "ENDPOINT")]
    pub(super) endpoints: Vec<String>,
    /// A block of addresses that it may be used from, `10.1.0.0/16` or `2001:db8::/32`; repeat for more. Without one: anywhere
    #[arg(long = "source", value_name = "CIDR")]
    pub(super) sources: Vec<String>,
    /// A role that narrows it
    #[arg(long)]
    pub(super) role: Option<String>,
    /// How long it lives: 1m to 72h, or to its tenant's `keys.maxAge`, as in `90m` or `24h`
    #[arg(long, value_name = "DURATION", default_value = crate::admin::messages::DEFAULT_TTL)]
    pub(super) ttl: String,
    /// Namespace of its resource, one that the tenant lists [default: the tenant's name]
    #[arg(long)]
    pub(super) namespace: Option<String>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(super) output: Output,
}

#[derive(Debug, Subcommand)]
pub(super) enum CertCommand {
    /// A tenant's own CA
    #[command(subcommand)]
    Ca(CaCommand),
    /// Issue a certificate by the tenant's CA: its SPIFFE id is the tenant's trust domain and PATH
    #[command(after_help = "\
Without --csr a key is made here: --out then gets tls.key (0600) beside tls.crt and ca.crt. With --csr the key stays
where it is; without --out the certificate is printed. Of a request only its public key is taken over.

Examples:
  bulkhead cert issue --tenant acme --path /workload/train --out /run/train/tls
  bulkhead cert issue --tenant acme --path /workload/train --ttl 15m --csr train.csr > train.crt")]
    Issue(NewCertificate),
    /// Revoke a certificate of a tenant by its serial number, for good and at once, whoever issued it
    Revoke {
        /// Whose
        #[arg(long)]
        tenant: String,
        /// Its serial number, hexadecimal, as `cert list` or `openssl x509 -serial` show it
        serial: String,
    },
    /// List certificates that were issued or revoked here; those that ended a week ago are forgotten
    List {
        /// Of this tenant only
        #[arg(long)]
        tenant: Option<String>,
        /// How to print them
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum CaCommand {
    /// Make it, and print its certificate: for the tenant's `certificates.bundleFile` and for Envoy's clients.pem
    #[command(after_help = "\
The key is sealed under the key-encryption key and never leaves the service. The CA vouches for nothing until its
certificate stands in the tenant's bundle. With --replace, keep the old certificate in the bundle for a day.

Example:
  bulkhead cert ca create --tenant acme >> policies/certificates/acme.pem")]
    Create {
        /// Whose
        #[arg(long)]
        tenant: String,
        /// In place of the one that is there
        #[arg(long)]
        replace: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct NewCertificate {
    /// Whose
    #[arg(long)]
    pub(super) tenant: String,
    /// Path of its SPIFFE id, as in `/workload/train`
    #[arg(long)]
    pub(super) path: String,
    /// How long it lives: 1m to 24h
    #[arg(long, value_name = "DURATION", default_value = crate::admin::messages::DEFAULT_CERTIFICATE_TTL)]
    pub(super) ttl: String,
    /// The workload's request, PKCS #10 in PEM
    #[arg(long, value_name = "FILE", required_unless_present = "out")]
    pub(super) csr: Option<PathBuf>,
    /// Where the files go; made when it is not there
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum VaultCommand {
    /// Store a tenant's own key of a provider, read from standard input
    #[command(after_help = "\
The key is sealed with AES-256-GCM and can be replaced, but never read back. One line end after it is ignored.

Example:
  bulkhead vault put --tenant acme --provider openai < key.txt")]
    Put {
        /// Whose key
        #[arg(long)]
        tenant: String,
        /// Name of the Provider resource
        #[arg(long)]
        provider: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum JobCommand {
    /// List jobs
    #[command(after_help = "\
States: active; lapsed (not renewed in time); ended (its time is over); revoked. Only active jobs open anything. A job that
is over is listed for another day.")]
    List {
        /// Of this tenant only
        #[arg(long)]
        tenant: Option<String>,
        /// How to print them
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// End a job, for good and at once
    Revoke {
        /// Id of the job, as `job list` shows it
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum SigningKeyCommand {
    /// Make another key for the tokens that exchanges hand out
    #[command(after_help = "\
The new key is published at once (`/jwks.json` on the --http port) and signs five minutes later; the one before verifies
until its last token has expired. With --at-once, for a key that somebody else may have, the new one signs now and every
token of those before is refused.")]
    Rotate {
        /// Sign with it now, and refuse the tokens of all keys before
        #[arg(long)]
        at_once: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Print the newest records, oldest first
    #[command(after_help = "\
JSON prints one record a line, exactly as the service keeps it. A request that is still under way has no `charged`
yet, also with --follow: its record is completed when it settles.

Examples:
  bulkhead audit tail --limit 20
  bulkhead audit tail --output json --follow")]
    Tail {
        /// How to print them
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
        /// How many to start with
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(crate::admin::router::MAX_AUDIT_RECORDS)))]
        limit: u32,
        /// Go on with what comes, until interrupted
        #[arg(long)]
        follow: bool,
    },
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}
