//! The mesh in front of the proxies: peers that speak for clients. Who is one is proven by the mesh's own CA, which is no
//! tenant's: a tenant's CA may sign any name.

use std::collections::BTreeSet;
use std::path::PathBuf;

use gateway_core::denial::{Code, Denial};
use jiff::Timestamp;

use crate::cli::MeshOptions;
use crate::identity::certificate::{self, Bundle};
use crate::identity::forwarded;

/// Where a peer of the mesh puts its client's certificate.
pub(super) const FORWARDED: &str = "x-forwarded-client-cert";
/// The longest bundle, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// The peers that are believed.
#[derive(Debug)]
pub(super) struct Mesh {
    bundle: Bundle,
    peers: BTreeSet<String>,
}

/// Why there is no mesh.
#[derive(Debug, thiserror::Error)]
#[error("the mesh's CAs `{}`: {why}", path.display())]
pub struct MeshError {
    path: PathBuf,
    why: String,
}

impl Mesh {
    /// Reads the mesh's CAs.
    ///
    /// # Errors
    /// [`MeshError`].
    pub(super) fn load(options: &MeshOptions) -> Result<Self, MeshError> {
        let refused = |why: String| MeshError { path: options.ca.clone(), why };
        let length = std::fs::metadata(&options.ca).map_err(|error| refused(error.to_string()))?.len();
        if length > MAX_BYTES {
            return Err(refused(format!("is larger than {MAX_BYTES} bytes")));
        }
        let text = std::fs::read_to_string(&options.ca).map_err(|error| refused(error.to_string()))?;
        let bundle = Bundle::parse(&text, None).map_err(|error| refused(error.to_string()))?;
        Ok(Self { bundle, peers: options.peers.iter().map(|peer| peer.as_str().to_owned()).collect() })
    }

    /// The certificate of a request's client: the connection's own, or what a peer of the mesh forwards; empty without one.
    ///
    /// # Errors
    /// A peer of the mesh says something else than one certificate of one client.
    pub(super) fn certificate_of_client<'a>(
        &self,
        shown: &'a str,
        headers: &[(&str, &'a [u8])],
        now: Timestamp,
    ) -> Result<&'a str, Denial> {
        let peer = certificate::id_by(shown, &self.bundle, now);
        if !peer.is_some_and(|peer| self.peers.contains(peer.as_str())) {
            return Ok(shown);
        }
        let mut found = headers.iter().filter(|(name, _)| *name == FORWARDED).map(|(_, value)| *value);
        let Some(value) = found.next() else { return Ok("") };
        let malformed = |why: &str| Denial::new(Code::MalformedHeader).param(FORWARDED).detail(why);
        if found.next().is_some() {
            return Err(Denial::new(Code::DuplicateHeader).param(FORWARDED));
        }
        let text = std::str::from_utf8(value).map_err(|_| malformed("xfcc: not text"))?;
        forwarded::certificate(text).map_err(|error| malformed(&error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::certificate::tests::{Ca, leaf, now};

    const PEER: &str = "spiffe://mesh.example/ingress";

    #[test]
    fn only_a_listed_peer_by_the_meshs_own_ca_speaks_for_a_client() {
        let (mesh_ca, tenant_ca) = (Ca::new("mesh"), Ca::new("acme"));
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("mesh.pem");
        std::fs::write(&ca, mesh_ca.pem()).unwrap();
        let options = MeshOptions { ca: ca.clone(), peers: vec![PEER.parse().unwrap()] };
        let mesh = Mesh::load(&options).unwrap();
        let header: &[(&str, &[u8])] = &[("x-other", b"a"), (FORWARDED, b"Cert=abc")];
        let client = |shown: &str, headers: &[(&str, &[u8])]| {
            mesh.certificate_of_client(shown, headers, now()).map(str::to_owned).map_err(|denial| denial.code)
        };
        let peer = mesh_ca.issue(&leaf(&[PEER]));
        assert_eq!(client(&peer, header), Ok("abc".into()));
        assert_eq!(client(&peer, &[]), Ok(String::new()), "its own certificate is no client's");
        for (value, code) in [(&b"Cert=a,Cert=b"[..], Code::MalformedHeader), (b"URI=a", Code::MalformedHeader)] {
            assert_eq!(client(&peer, &[(FORWARDED, value)]), Err(code));
        }
        assert_eq!(client(&peer, &[(FORWARDED, b"\xff")]), Err(Code::MalformedHeader));
        assert_eq!(client(&peer, &[(FORWARDED, b"Cert=a"), (FORWARDED, b"Cert=a")]), Err(Code::DuplicateHeader));
        let other = mesh_ca.issue(&leaf(&["spiffe://mesh.example/other"]));
        let several = mesh_ca.issue(&leaf(&[PEER, PEER]));
        let posing = tenant_ca.issue(&leaf(&[PEER]));
        for shown in ["", "garbage", &other, &several, &posing] {
            assert_eq!(client(shown, header), Ok(shown.to_owned()), "the connection's own");
        }
        let later = now() + jiff::SignedDuration::from_hours(48);
        let read = mesh.certificate_of_client(&peer, header, later).unwrap();
        assert_eq!(read, peer, "its time is over");
        std::fs::write(&ca, "").unwrap();
        let refused = Mesh::load(&options).unwrap_err().to_string();
        assert!(refused.ends_with("mesh.pem`: holds no certificate in PEM"), "{refused}");
    }
}
