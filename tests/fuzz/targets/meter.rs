//! Answers: cut anywhere they give the same totals and the same bytes as whole; without hiding no byte changes, with it
//! nothing but whole pieces go.
#![no_main]

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use gateway_core::gate::Dialect;
use gateway_core::meter::{Framing, Meter, Passed, Reading};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    for (framing, hide) in [(Framing::EventStream, false), (Framing::EventStream, true), (Framing::Json, false)] {
        let whole = read(body, framing, hide, true, |rest| rest);
        assert!(is_subsequence(&whole.1, body));
        if !hide {
            assert_eq!(whole.1, body);
        }
        assert_eq!(read(body, framing, hide, true, |_| 1), whole);
        // Cut at random: the input itself is the only source of randomness, so that a finding can be repeated.
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let most = [3, 40, 1000][body.len() % 3];
        let cut = |rest: usize| {
            rest.hash(&mut hasher);
            usize::try_from(hasher.finish() % most).unwrap_or(1)
        };
        assert_eq!(read(body, framing, hide, false, cut), whole);
    }
});

/// Reads a body in chunks; the end comes with the last of them, or in an empty one after it.
fn read(
    body: &[u8],
    framing: Framing,
    hide: bool,
    end: bool,
    mut cut: impl FnMut(usize) -> usize,
) -> (Reading, Vec<u8>) {
    let mut meter = Meter::new(Dialect::OpenaiChat, framing, hide);
    let (mut rest, mut out, mut empty) = (body, Vec::new(), 0);
    while !rest.is_empty() {
        let (chunk, tail) = rest.split_at(cut(rest.len()).min(rest.len()));
        // A chunk may be empty, but not for ever.
        empty = if chunk.is_empty() { empty + 1 } else { 0 };
        let (chunk, tail) = if empty > 3 { rest.split_at(1) } else { (chunk, tail) };
        pass(&mut out, chunk, meter.push(chunk, end && tail.is_empty()));
        rest = tail;
    }
    if !end || body.is_empty() {
        pass(&mut out, b"", meter.push(b"", true));
    }
    (meter.reading(), out)
}

fn pass(out: &mut Vec<u8>, chunk: &[u8], passed: Passed) {
    match passed {
        Passed::Unchanged => out.extend_from_slice(chunk),
        Passed::Replaced(bytes) => out.extend_from_slice(&bytes),
    }
}

fn is_subsequence(part: &[u8], whole: &[u8]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|byte| whole.any(|other| other == byte))
}
