//! Where proxies reach the service without TLS: a Unix socket, or loopback. Plaintext goes no further.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use super::unix_addr::{UnixAddr, UnixAddrError};

/// An address on which plaintext is good enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxiesAddr {
    /// A Unix socket.
    Unix(UnixAddr),
    /// A port of this host alone.
    Loopback(SocketAddr),
}

/// Why a text is no such address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxiesAddrError {
    /// No socket.
    #[error(transparent)]
    Unix(#[from] UnixAddrError),
    /// An address that others reach.
    #[error(
        "is not a loopback address, and plaintext is refused anywhere else: use `--proxies-tls` with `--tls-cert`, \
         `--tls-key`, `--tls-client-ca` and `--proxy ID=SPIFFE_ID`"
    )]
    Plaintext,
    /// Another shape.
    #[error("must be `unix:PATH`, `127.0.0.1:PORT` or `[::1]:PORT`")]
    Shape,
}

impl FromStr for ProxiesAddr {
    type Err = ProxiesAddrError;

    fn from_str(text: &str) -> Result<Self, ProxiesAddrError> {
        if text.starts_with("unix:") {
            return Ok(Self::Unix(text.parse()?));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Loopback(address)),
            Ok(_) => Err(ProxiesAddrError::Plaintext),
            // A host's name may resolve to anything.
            Err(_) if text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => {
                Err(ProxiesAddrError::Plaintext)
            }
            Err(_) => Err(ProxiesAddrError::Shape),
        }
    }
}

impl fmt::Display for ProxiesAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(socket) => socket.fmt(f),
            Self::Loopback(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_stays_on_this_host() {
        for good in ["unix:/run/p.sock", "127.0.0.1:9000", "127.8.8.8:1", "[::1]:9000"] {
            assert_eq!(good.parse::<ProxiesAddr>().unwrap().to_string(), good);
        }
        for reached in ["0.0.0.0:9000", "[::]:9000", "10.0.0.1:9000", "[fd00::1]:1", "localhost:9000", "svc.ns:1"] {
            assert_eq!(reached.parse::<ProxiesAddr>(), Err(ProxiesAddrError::Plaintext), "{reached}");
        }
        assert!(ProxiesAddrError::Plaintext.to_string().contains("`--proxies-tls`"));
        assert_eq!("unix:".parse::<ProxiesAddr>(), Err(ProxiesAddrError::Unix(UnixAddrError::Shape)));
        for bad in ["", "/run/p.sock", "127.0.0.1", "127.0.0.1:99999"] {
            assert_eq!(bad.parse::<ProxiesAddr>(), Err(ProxiesAddrError::Shape), "{bad:?}");
        }
    }
}
