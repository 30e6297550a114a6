//! Body edits: byte splices computed on the exact bytes that were checked, so that nothing is parsed twice and nothing
//! else changes. A body of another length than the one that was checked is refused, never patched.

use crate::gate::{BodyEdit, BodyEdits};

/// Why edits do not fit a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The body is not the one that was checked.
    #[error("the body has {got} bytes, the checked one had {want}")]
    Length {
        /// Bytes at hand.
        got: usize,
        /// Bytes that were checked.
        want: u64,
    },
    /// Out of order, overlapping, or past the end.
    #[error("the edits overlap or lie outside the body")]
    Range,
}

/// One splice.
#[must_use]
pub fn splice(offset: usize, remove: usize, insert: impl Into<Vec<u8>>) -> BodyEdit {
    BodyEdit { offset: offset as u64, remove: remove as u64, insert: insert.into().into() }
}

/// The body with its edits applied.
///
/// # Errors
/// [`EditError`] when the body is not the one that was checked or the edits are not splices of it.
pub fn apply(edits: &BodyEdits, body: &[u8]) -> Result<Vec<u8>, EditError> {
    if body.len() as u64 != edits.body_bytes {
        return Err(EditError::Length { got: body.len(), want: edits.body_bytes });
    }
    let length = edited_length(edits).and_then(|n| usize::try_from(n).ok()).ok_or(EditError::Range)?;
    let mut out = Vec::with_capacity(length);
    let mut at = 0_usize;
    for edit in &edits.edits {
        let start = usize::try_from(edit.offset).map_err(|_| EditError::Range)?;
        let end = usize::try_from(edit.remove).ok().and_then(|n| start.checked_add(n)).ok_or(EditError::Range)?;
        out.extend_from_slice(body.get(at..start).ok_or(EditError::Range)?);
        out.extend_from_slice(&edit.insert);
        at = end;
    }
    out.extend_from_slice(body.get(at..).ok_or(EditError::Range)?);
    Ok(out)
}

/// How long the body is once edited: known before the body is at hand. `None` when the edits are not splices.
#[must_use]
pub fn edited_length(edits: &BodyEdits) -> Option<u64> {
    edits.edits.iter().try_fold(edits.body_bytes, |length, edit| {
        length.checked_sub(edit.remove)?.checked_add(edit.insert.len() as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(body: &[u8], edits: Vec<BodyEdit>) -> BodyEdits {
        BodyEdits { body_bytes: body.len() as u64, edits }
    }

    #[test]
    fn splices_in_order() {
        let body = br#"{"a":1,"b":2}"#;
        let plan = edits(body, vec![splice(1, 0, *br#""z":0,"#), splice(5, 1, *b"100"), splice(11, 1, *b"")]);
        let edited = apply(&plan, body).unwrap();
        assert_eq!(edited, br#"{"z":0,"a":100,"b":}"#);
        assert_eq!(edited_length(&plan), Some(edited.len() as u64));
    }

    #[test]
    fn refuses_another_body_and_bad_ranges() {
        let body = b"0123456789";
        assert_eq!(apply(&edits(b"012", vec![]), body), Err(EditError::Length { got: 10, want: 3 }));
        for bad in
            [vec![splice(4, 2, *b""), splice(5, 0, *b"x")], vec![splice(9, 2, *b"")], vec![splice(usize::MAX, 1, *b"")]]
        {
            assert_eq!(apply(&edits(body, bad), body), Err(EditError::Range));
        }
    }
}
