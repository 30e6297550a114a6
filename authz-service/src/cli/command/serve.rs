//! `bulkhead serve` and its options.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;

use crate::cli::{ListedProxy, MeshOptions, ProxiesAddr, ServeOptions, TlsFiles, UnixAddr};
use crate::identity::spiffe::SpiffeId;

#[derive(Debug, Args)]
#[command(after_help = "\
Policies and certificates are read again when their files change. Signals: SIGHUP reads the policies at once; SIGTERM
and SIGINT finish the requests under way and end the service. Logs are JSON on standard error; the environment variable
BULKHEAD_LOG sets the level (error, warn, info, debug).

Proxies: without --proxy, any process that reaches --proxies may ask. With it, only the listed ids. Over TLS a client
certificate of --tls-client-ca is required, and its one URI must be the SPIFFE id listed for the id in the call.

Examples:
  bulkhead serve --policies /etc/bulkhead/policies --state /var/lib/bulkhead/state.db \\
    --kek-file /etc/bulkhead/kek --proxies unix:/run/bulkhead/proxies.sock \\
    --admin unix:/run/bulkhead/admin.sock --http 127.0.0.1:9464
  bulkhead serve … --proxies-tls 0.0.0.0:9443 --tls-cert /certs/tls.crt --tls-key /certs/tls.key \\
    --tls-client-ca /certs/ca.crt --proxy edge-1=spiffe://example.org/ns/edge/sa/envoy")]
pub(in crate::cli) struct ServeArgs {
    /// Directory of the resources: tenants, plans, price book, providers, roles, keys
    #[arg(long, value_name = "DIR")]
    policies: PathBuf,
    /// The state file; made when it is not there. One service at a time
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// File of the key-encryption key, readable by this user alone (0600)
    #[arg(long, value_name = "FILE")]
    kek_file: PathBuf,
    /// Where Envoy asks on this host, in plaintext: ext_authz, rate limits, the Gate, data endpoints
    #[arg(long, value_name = "unix:PATH|LOOPBACK:PORT")]
    proxies: ProxiesAddr,
    /// Where Envoy asks from other hosts
    #[arg(long, value_name = "IP:PORT", requires_all = ["tls_cert", "tls_key", "tls_client_ca", "proxy"])]
    proxies_tls: Option<SocketAddr>,
    /// The service's certificate, PEM, and what leads to its CA
    #[arg(long, value_name = "FILE", requires = "proxies_tls")]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM, readable by this user alone (0600)
    #[arg(long, value_name = "FILE", requires = "proxies_tls")]
    tls_key: Option<PathBuf>,
    /// CAs of the proxies' certificates, PEM
    #[arg(long, value_name = "FILE", requires = "proxies_tls")]
    tls_client_ca: Option<PathBuf>,
    /// A proxy that may ask; repeat for more. Its id, and for TLS the SPIFFE id of its certificate
    #[arg(long, value_name = "ID[=SPIFFE_ID]")]
    proxy: Vec<ListedProxy>,
    /// A peer in front of the proxies that speaks for clients; repeat for more. Its SPIFFE id
    ///
    /// Where Envoy's client is such a peer, by a certificate of --mesh-ca, the client's own certificate is the one that
    /// x-forwarded-client-cert holds (`Cert`, exactly one element). From everybody else that header is nothing.
    #[arg(long, value_name = "SPIFFE_ID", requires = "mesh_ca")]
    mesh_peer: Vec<SpiffeId>,
    /// CAs of the mesh's certificates, PEM; no tenant's. Read again when it changes
    #[arg(long, value_name = "FILE", requires = "mesh_peer")]
    mesh_ca: Option<PathBuf>,
    /// Loopback address of /metrics, /healthz and /readyz
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9464")]
    http: SocketAddr,
    /// Name of this service as an issuer of tokens: exact `iss` and `aud` of those that a token exchange hands out
    ///
    /// A tenant's own issuer of the same name is never asked: its tokens would be taken for ours.
    #[arg(long, value_name = "URL", default_value = "https://bulkhead.internal", value_parser = issuer)]
    issuer: String,
    /// Failed logins that one source has a minute; then it is answered 429, before anything is looked up
    ///
    /// A source is the client's address as Envoy trusts it, an IPv6 one by its /64: Envoy's configuration hands it over
    /// as `x-bulkhead-source` in ext_authz's initial_metadata, and `xff_num_trusted_hops` says which it is behind a load
    /// balancer. As many fail at once, and one more each 60/N seconds; requests that log in count nothing, but wait with
    /// the others while their source is over. The audit log has one line a second for each source that is refused, with
    /// their number. A restart forgets.
    #[arg(long, value_name = "N", default_value = "60")]
    failed_logins_per_minute: NonZeroU32,
}

impl ServeArgs {
    /// With the socket that the global `--admin` named.
    pub(in crate::cli) fn into_options(self, admin: UnixAddr) -> ServeOptions {
        let Self { policies, state, kek_file, proxies, http, issuer, failed_logins_per_minute, .. } = self;
        let files = self.tls_cert.zip(self.tls_key).zip(self.tls_client_ca);
        let files = files.map(|((certificate, key), client_ca)| TlsFiles { certificate, key, client_ca });
        let mesh = self.mesh_ca.map(|ca| MeshOptions { ca, peers: self.mesh_peer });
        let (proxies_tls, listed) = (self.proxies_tls.zip(files), self.proxy);
        ServeOptions {
            policies,
            state,
            kek_file,
            proxies,
            proxies_tls,
            listed,
            admin,
            http,
            mesh,
            issuer,
            failed_logins_per_minute,
        }
    }
}

/// A name that tokens and headers can hold: `https://` and 1 to 247 visible ASCII characters without quotes.
fn issuer(text: &str) -> Result<String, String> {
    let fits = |rest: &str| (1..=247).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    if text.strip_prefix("https://").is_some_and(fits) {
        Ok(text.to_owned())
    } else {
        Err("an issuer is `https://` and a name of at most 247 visible ASCII characters".to_owned())
    }
}
