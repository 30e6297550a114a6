//! The request's way up: edits on exactly the body that was checked. Never a changed body without its length: on a pooled
//! connection the surplus would be the start of the next request.

use gateway_core::denial::{Code, Denial};
use gateway_core::gate::BodyEdits;
use gateway_core::{edits, wire};

/// The most bytes that edits add to a body, in profile `inline`: what Envoy must hold beyond [`wire::MAX_BODY_BYTES`].
pub const MAX_GROWTH_BYTES: u64 = 4 * 1024;

/// The edits of one request, and whether their length is in the headers.
#[derive(Debug)]
pub(crate) struct Request {
    edits: BodyEdits,
    announced: Option<u64>,
}

/// The length of the edited body in bytes: the value that `content-length` must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the body is changed only once its length is in the headers"]
pub struct AnnouncedLength(u64);

/// An edited body: exactly as long as was announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    body: Vec<u8>,
    length: AnnouncedLength,
}

impl Request {
    pub(crate) fn new(edits: BodyEdits) -> Self {
        Self { edits, announced: None }
    }

    /// The edited body, of a whole body that is still held with its headers: its length is set together with it. `None`
    /// where it goes on as it is. What follows must be the body that goes on.
    pub(crate) fn held(edits: &BodyEdits, body: &[u8]) -> Result<(Self, Option<Rewritten>), Denial> {
        let length = edits::edited_length(edits).ok_or_else(|| internal(edits::EditError::Range.to_string()))?;
        if body.len() as u64 > wire::MAX_BODY_BYTES {
            return Err(Code::BodyTooLarge.into());
        }
        if length > (body.len() as u64).saturating_add(MAX_GROWTH_BYTES) {
            return Err(internal(format!("the edits add more than {MAX_GROWTH_BYTES} bytes")));
        }
        let request = Self::new(BodyEdits { body_bytes: length, edits: Vec::new() });
        if edits.edits.is_empty() {
            return request.untouched(body.len()).map(|()| (request, None));
        }
        let edited = edits::apply(edits, body).map_err(|error| internal(error.to_string()))?;
        Ok((request, Some(Rewritten { body: edited, length: AnnouncedLength(length) })))
    }

    pub(crate) fn announce(&mut self) -> Option<AnnouncedLength> {
        self.announced = if self.edits.edits.is_empty() { None } else { edits::edited_length(&self.edits) };
        self.announced.map(AnnouncedLength)
    }

    pub(crate) fn edits_body(&self) -> bool {
        !self.edits.edits.is_empty()
    }

    pub(crate) fn untouched(&self, bytes: usize) -> Result<(), Denial> {
        if self.edits_body() || bytes as u64 != self.edits.body_bytes {
            return Err(internal(format!("the body has {bytes} bytes, the checked one had {}", self.edits.body_bytes)));
        }
        Ok(())
    }

    pub(crate) fn rewrite(&self, body: &[u8]) -> Result<Option<Rewritten>, Denial> {
        let edited = edits::apply(&self.edits, body).map_err(|error| internal(error.to_string()))?;
        if self.edits.edits.is_empty() {
            return Ok(None);
        }
        match self.announced {
            Some(length) if length == edited.len() as u64 => {
                Ok(Some(Rewritten { body: edited, length: AnnouncedLength(length) }))
            }
            _ => Err(internal("the edited body's length was not announced")),
        }
    }
}

fn internal(detail: impl Into<String>) -> Denial {
    Denial::new(Code::Internal).detail(detail)
}

impl AnnouncedLength {
    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl Rewritten {
    /// The bytes that replace the whole body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// What the headers say.
    pub const fn length(&self) -> AnnouncedLength {
        self.length
    }
}
