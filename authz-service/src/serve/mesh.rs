//! The mesh in front of the proxies: peers that speak for clients. Who is one is proven by the mesh's own CA, which is no
//! tenant's: a tenant's CA may sign any name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway_core::denial::{Code, Denial};
use jiff::Timestamp;

use super::watch::{self, Look};
use crate::cli::MeshOptions;
use crate::identity::certificate::{self, Bundle};
use crate::identity::forwarded;

/// Where a peer of the mesh puts its client's certificate.
pub(super) const FORWARDED: &str = "x-forwarded-client-cert";
/// The longest bundle, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// The peers that are believed, and the CAs that prove them: those of the file as it was last good.
pub(super) struct Mesh {
    ca: PathBuf,
    peers: BTreeSet<String>,
    bundle: ArcSwap<Bundle>,
    /// What the file looked like before it was read first.
    taken: Look,
}

/// Why there is no mesh.
#[derive(Debug, thiserror::Error)]
#[error("the mesh's CAs `{}`: {why}", path.display())]
pub struct MeshError {
    path: PathBuf,
    why: String,
}

impl Mesh {
    /// Reads the mesh's CAs for the first time.
    ///
    /// # Errors
    /// [`MeshError`].
    pub(super) fn load(options: &MeshOptions) -> Result<Arc<Self>, MeshError> {
        let taken = watch::look(std::slice::from_ref(&options.ca));
        let peers = options.peers.iter().map(|peer| peer.as_str().to_owned()).collect();
        let bundle = ArcSwap::from_pointee(read(&options.ca)?);
        Ok(Arc::new(Self { ca: options.ca.clone(), peers, bundle, taken }))
    }

    /// Takes each change of the CAs until the process ends; a file that is refused changes nothing. No worker holds a grant of
    /// a connection with a certificate, so nothing is to be voided.
    pub(super) async fn follow(self: Arc<Self>) {
        let take = || match read(&self.ca) {
            Ok(bundle) => {
                self.bundle.store(Arc::new(bundle));
                tracing::info!("the mesh's CAs loaded");
            }
            Err(error) => tracing::error!(%error, "the mesh's CAs are refused, those before stay"),
        };
        watch::files(vec![self.ca.clone()], self.taken, take).await;
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
        let peer = certificate::id_by(shown, &self.bundle.load(), now);
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

fn read(ca: &Path) -> Result<Bundle, MeshError> {
    let refused = |why: String| MeshError { path: ca.to_owned(), why };
    let length = std::fs::metadata(ca).map_err(|error| refused(error.to_string()))?.len();
    if length > MAX_BYTES {
        return Err(refused(format!("is larger than {MAX_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(ca).map_err(|error| refused(error.to_string()))?;
    Bundle::parse(&text, None).map_err(|error| refused(error.to_string()))
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
        let refused = Mesh::load(&options).err().unwrap().to_string();
        assert!(refused.ends_with("mesh.pem`: holds no certificate in PEM"), "{refused}");
    }

    #[tokio::test]
    async fn a_change_is_taken_by_itself_and_a_bad_file_keeps_the_last_good_one() {
        let (old_ca, new_ca) = (Ca::new("mesh"), Ca::new("mesh 2"));
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("mesh.pem");
        std::fs::write(&ca, old_ca.pem()).unwrap();
        let mesh = Mesh::load(&MeshOptions { ca: ca.clone(), peers: vec![PEER.parse().unwrap()] }).unwrap();
        // before anybody follows it
        let (old, new) = (old_ca.issue(&leaf(&[PEER])), new_ca.issue(&leaf(&[PEER])));
        let believed = |peer: &str| {
            let header: &[(&str, &[u8])] = &[(FORWARDED, b"Cert=abc")];
            mesh.certificate_of_client(peer, header, now()).unwrap() == "abc"
        };
        assert_eq!((believed(&old), believed(&new)), (true, false));
        let following = tokio::spawn(Arc::clone(&mesh).follow());
        for (text, want) in [
            (old_ca.pem() + &new_ca.pem(), (true, true)),
            ("no certificate".to_owned(), (true, true)),
            (new_ca.pem(), (false, true)),
            (new_ca.pem() + &"#".repeat(MAX_BYTES as usize), (false, true)),
            (old_ca.pem(), (true, false)),
        ] {
            std::fs::write(&ca, &text).unwrap();
            // three looks: it is over, and it is taken
            tokio::time::sleep(watch::PAUSE * 5 / 2).await;
            let began = std::time::Instant::now();
            while (believed(&old), believed(&new)) != want && began.elapsed() < watch::PAUSE * 20 {
                tokio::time::sleep(watch::PAUSE / 5).await;
            }
            assert_eq!((believed(&old), believed(&new)), want, "{:?}", text.get(..40));
        }
        std::fs::remove_file(&ca).unwrap();
        tokio::time::sleep(watch::PAUSE * 3).await;
        assert_eq!((believed(&old), believed(&new)), (true, false), "a file that is gone");
        following.abort();
    }
}
