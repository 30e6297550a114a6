//! What a held grant answers for: every input that the decision read, by exact value, as one string of bytes.
//!
//! Each part says its length before it stands, or that it is absent: no two requests that differ share a key. Keys hold
//! credentials: they are wiped when they go, and never printed.

#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use gateway_core::headers::{CREDENTIAL_CARRIERS, Head};
use zeroize::Zeroizing;

/// May stand beside a credential and name its holder.
const CERTIFICATE: &str = "x-forwarded-client-cert";

/// The key of one request; clones share its bytes.
#[derive(Clone)]
pub struct RequestKey(Rc<Zeroizing<Vec<u8>>>);

/// What a key is made of.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub(crate) method: &'a str,
    pub(crate) authority: &'a str,
    /// With its query.
    pub(crate) path: &'a str,
    /// The credential's header: name and whole value.
    pub(crate) credential: Option<(&'a str, &'a [u8])>,
    /// The claim header's value.
    pub(crate) claim: Option<&'a [u8]>,
    pub(crate) certificate: Option<&'a [u8]>,
}

impl<'a> Inputs<'a> {
    /// Of a head whose syntax has been checked: nothing in it stands twice.
    pub(crate) fn of(head: &Head<'a>, claim_header: &str) -> Self {
        let find = |wanted: &str| head.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).copied();
        Self {
            method: head.method,
            authority: head.authority,
            path: head.path,
            credential: CREDENTIAL_CARRIERS.iter().find_map(|name| find(name)),
            claim: find(claim_header).map(|(_, value)| value),
            certificate: find(CERTIFICATE).map(|(_, value)| value),
        }
    }

    pub(crate) fn key(&self) -> RequestKey {
        let mut bytes = Zeroizing::default();
        self.write(&mut bytes);
        RequestKey(Rc::new(bytes))
    }

    /// Writes the key over what `out` held. It grows in one step: a buffer that is left behind is wiped.
    pub(crate) fn write(&self, out: &mut Zeroizing<Vec<u8>>) {
        let parts = self.parts();
        let length = |part: &Option<&[u8]>| part.map_or(1, |bytes| bytes.len().saturating_add(9));
        let total = parts.iter().map(length).fold(0, usize::saturating_add);
        if out.capacity() < total {
            *out = Zeroizing::new(Vec::with_capacity(total));
        }
        out.clear();
        for part in parts {
            out.push(u8::from(part.is_some()));
            if let Some(bytes) = part {
                out.extend_from_slice(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
                out.extend_from_slice(bytes);
            }
        }
    }

    fn parts(&self) -> [Option<&'a [u8]>; 7] {
        [
            Some(self.method.as_bytes()),
            Some(self.authority.as_bytes()),
            Some(self.path.as_bytes()),
            self.credential.map(|(name, _)| name.as_bytes()),
            self.credential.map(|(_, value)| value),
            self.claim,
            self.certificate,
        ]
    }
}

impl RequestKey {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for RequestKey {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for RequestKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for RequestKey {}

/// As the bytes alone: they look it up.
impl Hash for RequestKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestKey(..)")
    }
}
