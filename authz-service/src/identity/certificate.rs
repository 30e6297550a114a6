//! A client certificate as Envoy hands it over (`include_peer_certificate`): PEM, URL-encoded, the leaf alone. Envoy saw
//! its holder prove the key; nothing here says who that is.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};

/// The SHA-256 of its DER form, as tokens spell it (`x5t#S256`, RFC 8705 §3.1). `None`: there is no certificate.
pub(crate) fn thumbprint(certificate: &str) -> Option<String> {
    let pem = decoded(certificate)?;
    let der = CertificateDer::from_pem_slice(&pem).ok()?;
    Some(URL_SAFE_NO_PAD.encode(Sha256::digest(&der)))
}

/// Without its percent-encoding (RFC 3986 §2.1).
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digit =
                    |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                (digit(rest.next())? << 4) | digit(rest.next())?
            }
            other => other,
        };
        bytes.push(byte);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_of_the_der_form() {
        let pem = "-----BEGIN%20CERTIFICATE-----%0AAAEC%2Bw%3D%3D%0A-----END%20CERTIFICATE-----%0A";
        let expected = URL_SAFE_NO_PAD.encode(Sha256::digest([0, 1, 2, 0xfb]));
        assert_eq!(thumbprint(pem), Some(expected));
        for none in [
            "",
            "%",
            "%2",
            "%zz",
            "AAEC",
            "-----BEGIN%20CERTIFICATE-----%0A",
            "-----BEGIN%20PRIVATE%20KEY-----%0AAAEC%0A-----END%20PRIVATE%20KEY-----%0A",
        ] {
            assert_eq!(thumbprint(none), None, "{none}");
        }
    }
}
