//! The command line: `bulkhead serve`, and the operators' commands, which are clients of its admin socket.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 wrong usage. Results go to standard output, everything else to standard
//! error; no command takes a secret as an argument.

mod amounts;
mod audit;
mod cert;
mod check;
mod command;
mod job;
mod key;
mod listed_proxy;
mod login;
mod proxies_addr;
mod unix_addr;
mod usage;
mod vault;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;

pub use command::Cli;
pub use listed_proxy::{ListedProxy, ListedProxyError};
pub use proxies_addr::{ProxiesAddr, ProxiesAddrError};
pub use unix_addr::{UnixAddr, UnixAddrError};

use crate::admin::client::{CallError, Client};
use crate::admin::messages::RotateBody;
use crate::identity::spiffe::SpiffeId;
use crate::login::LoginError;
use command::{AuditCommand, Command, KeyCommand, SigningKeyCommand, VaultCommand};

/// Where the admin socket is when neither `--admin` nor this variable says so otherwise.
pub const DEFAULT_ADMIN: &str = "unix:/run/bulkhead/admin.sock";
/// The environment variable that stands in for `--admin`.
pub const ADMIN_VARIABLE: &str = "BULKHEAD_ADMIN";

/// What `bulkhead serve` was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeOptions {
    /// Directory of the resources.
    pub policies: PathBuf,
    /// The state file.
    pub state: PathBuf,
    /// File of the key-encryption key.
    pub kek_file: PathBuf,
    /// Where Envoy asks on this host, in plaintext.
    pub proxies: ProxiesAddr,
    /// Where Envoy asks from elsewhere.
    pub proxies_tls: Option<(SocketAddr, TlsFiles)>,
    /// The proxies that may ask; empty: on this host, all.
    pub listed: Vec<ListedProxy>,
    /// Where operators ask.
    pub admin: UnixAddr,
    /// Where metrics and health are read; loopback only.
    pub http: SocketAddr,
    /// Whose peers speak for clients, in front of the proxies.
    pub mesh: Option<MeshOptions>,
    /// Name of the service as an issuer of tokens.
    pub issuer: String,
    /// Failed logins that a source has a minute.
    pub failed_logins_per_minute: NonZeroU32,
}

/// The mesh in front of the proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshOptions {
    /// Its CAs, PEM.
    pub ca: PathBuf,
    /// Its peers that speak for clients.
    pub peers: Vec<SpiffeId>,
}

/// PEM files of the TLS listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The service's certificate and what leads to its CA.
    pub certificate: PathBuf,
    /// Its private key, 0600.
    pub key: PathBuf,
    /// CAs of the proxies' certificates.
    pub client_ca: PathBuf,
}

/// Why a command failed; its message is what the operator reads.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
    #[error("cannot print the result: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error("environment variable `{ADMIN_VARIABLE}`: {0}")]
    Variable(UnixAddrError),
    #[error("{}", chain(&**.0))]
    Serve(Box<dyn std::error::Error + Send + Sync>),
}

/// Runs one command line, the program's name first, and says how it ended.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let variable = std::env::var_os(ADMIN_VARIABLE);
    ExitCode::from(run_to(args, variable, &mut io::stdout().lock(), &mut io::stderr()))
}

/// [`run`], with its surroundings as arguments. Where neither stream takes the text, the exit code alone tells.
fn run_to(
    args: impl IntoIterator<Item = OsString>,
    variable: Option<OsString>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(misuse) if misuse.use_stderr() => {
            let _ = write!(err, "{}", misuse.render());
            return 2;
        }
        Err(help) => {
            let _ = write!(out, "{}", help.render());
            return 0;
        }
    };
    match execute(cli, variable, out) {
        Ok(()) => 0,
        // `bulkhead audit tail | head` is done when head is.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            let _ = writeln!(err, "bulkhead: {error}");
            if matches!(error, CliError::Variable(_)) { 2 } else { 1 }
        }
    }
}

fn execute(cli: Cli, variable: Option<OsString>, out: &mut dyn Write) -> Result<(), CliError> {
    match cli.command {
        Command::Serve(options) => serve(options.into_options(admin_socket(cli.admin, variable)?)),
        Command::Check { directory } => check::check(&directory, out),
        Command::Version => Ok(writeln!(out, "bulkhead {}", env!("CARGO_PKG_VERSION"))?),
        Command::Login(asked) => alone(login::login(asked, out)),
        Command::Token { file } => alone(login::token(file, out)),
        Command::Logout { file } => alone(login::logout(file, out)),
        asking => {
            let client = Client::new(admin_socket(cli.admin, variable)?.into_path());
            alone(ask(&client, asking, out))
        }
    }
}

/// Runs one command on this thread.
fn alone(command: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

fn serve(options: ServeOptions) -> Result<(), CliError> {
    crate::serve::logs::init().map_err(|error| CliError::Serve(error.into()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(crate::serve::run(options)).map_err(|error| CliError::Serve(error.into()))
}

async fn ask(client: &Client, command: Command, out: &mut dyn Write) -> Result<(), CliError> {
    match command {
        Command::Key(KeyCommand::Create(asked)) => key::create(client, asked, out).await,
        Command::Key(KeyCommand::Revoke { id: Some(id), .. }) => key::revoke(client, &id, out).await,
        Command::Key(KeyCommand::Revoke { id: None, tenant, .. }) => {
            key::revoke_all(client, &tenant.unwrap_or_default(), out).await
        }
        Command::Key(KeyCommand::List { tenant, output }) => key::list(client, tenant.as_deref(), output, out).await,
        Command::Cert(asked) => cert::run(client, asked, out).await,
        Command::Vault(VaultCommand::Put { tenant, provider }) => vault::put(client, &tenant, &provider, out).await,
        Command::Job(command) => job::run(client, command, out).await,
        Command::SigningKey(SigningKeyCommand::Rotate { at_once }) => {
            let made = client.rotate_signing_key(&RotateBody { at_once }).await?;
            Ok(writeln!(out, "signing key {}, signs from {}", made.id, made.signs_from)?)
        }
        Command::Audit(AuditCommand::Tail { output, limit, follow }) => {
            audit::tail(client, output, limit, follow, out).await
        }
        Command::Usage { output } => usage::usage(client, output, out).await,
        Command::Reload => {
            let reloaded = client.reload().await?;
            let what = if reloaded.changed { "loaded" } else { "unchanged" };
            Ok(writeln!(out, "{what}, version {}", reloaded.version)?)
        }
        Command::Serve(_)
        | Command::Check { .. }
        | Command::Login(_)
        | Command::Token { .. }
        | Command::Logout { .. }
        | Command::Version => Ok(()),
    }
}

/// An error and what it came from, on one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .reduce(|said, cause| if said.ends_with(&cause) { said } else { format!("{said}: {cause}") })
        .unwrap_or_default()
}

/// The admin socket: the flag, else the variable, else the default.
fn admin_socket(flag: Option<UnixAddr>, variable: Option<OsString>) -> Result<UnixAddr, CliError> {
    if let Some(address) = flag {
        return Ok(address);
    }
    let text = variable.filter(|text| !text.is_empty()).unwrap_or_else(|| DEFAULT_ADMIN.into());
    let text = text.into_string().map_err(|_| CliError::Variable(UnixAddrError::Shape))?;
    text.parse().map_err(CliError::Variable)
}

#[cfg(test)]
mod tests;
