//! Every fixture of `tests/fixtures/answers` at every cut, and streams made at random against a reading of the whole.

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

struct Fixture {
    name: String,
    framing: Framing,
    body: Vec<u8>,
    reading: Reading,
    usage_chunks: u64,
}

fn fixtures() -> Vec<Fixture> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/answers");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let answers = files.filter(|path| path.with_added_extension("totals.json").exists());
    answers.map(|path| read(&path)).collect()
}

fn read(path: &std::path::Path) -> Fixture {
    let totals = std::fs::read(path.with_added_extension("totals.json")).unwrap();
    let totals: Value = serde_json::from_slice(&totals).unwrap();
    let usage = totals["usage"].as_object().map(|usage| gate::Usage {
        input: usage["input"].as_u64().unwrap(),
        cached_input: usage["cached_input"].as_u64().unwrap(),
        output: usage["output"].as_u64().unwrap(),
        reasoning: usage["reasoning"].as_u64().unwrap(),
    });
    Fixture {
        name: path.file_name().unwrap().to_string_lossy().into_owned(),
        framing: if path.extension().unwrap() == "sse" { Framing::EventStream } else { Framing::Json },
        body: std::fs::read(path).unwrap(),
        reading: Reading {
            usage,
            output_seen: totals["output_seen"].as_u64().unwrap(),
            ended: totals["ended"].as_bool().unwrap(),
        },
        usage_chunks: totals["usage_chunks"].as_u64().unwrap(),
    }
}

fn run<'a>(framing: Framing, hide: bool, chunks: impl IntoIterator<Item = &'a [u8]>) -> (Reading, Vec<u8>) {
    let mut meter = Meter::new(gate::Dialect::OpenaiChat, framing, hide);
    let mut out = Vec::new();
    for chunk in chunks {
        pass(&mut out, chunk, meter.push(chunk, false));
        assert!(held(&meter) <= MAX_HELD_BYTES);
    }
    pass(&mut out, b"", meter.push(b"", true));
    (meter.reading(), out)
}

fn pass(out: &mut Vec<u8>, chunk: &[u8], passed: Passed) {
    match passed {
        Passed::Unchanged => out.extend_from_slice(chunk),
        Passed::Replaced(bytes) => out.extend_from_slice(&bytes),
    }
}

fn held(meter: &Meter) -> usize {
    match &meter.reader {
        Reader::Events(stream) => stream.held(),
        Reader::Json(_) | Reader::Opaque => 0,
    }
}

/// What is left of a stream without its usage chunks, read as a whole, and how many there were.
fn without_usage_chunks(stream: &[u8]) -> (Vec<u8>, u64) {
    let (mut out, mut event, mut data, mut done, mut removed) = (Vec::new(), Vec::new(), None::<Vec<u8>>, false, 0);
    let mut rest = stream;
    let mut first = true;
    while !rest.is_empty() {
        let line_end = rest.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(rest.len());
        let end = match rest.get(line_end..) {
            Some([b'\r', b'\n', ..]) => line_end + 2,
            Some([_, ..]) => line_end + 1,
            _ => line_end,
        };
        let (whole, mut line) = (&rest[..end], &rest[..line_end]);
        rest = &rest[end..];
        if std::mem::take(&mut first) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if event.is_empty() && line.first() == Some(&b':') && end > line_end {
            out.extend_from_slice(whole);
            continue;
        }
        event.extend_from_slice(whole);
        let value = if line == b"data" { Some(&b""[..]) } else { line.strip_prefix(b"data:") };
        if let Some(value) = value {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &mut data {
                Some(data) => data.extend([b"\n", value].concat()),
                None => data = Some(value.to_vec()),
            }
        }
        if line.is_empty() || rest.is_empty() {
            let data = data.take().unwrap_or_default();
            done |= data.starts_with(b"[DONE]");
            let chunk: Value = serde_json::from_slice(&data).unwrap_or_default();
            if !done && chunk["choices"].as_array().is_some_and(Vec::is_empty) && chunk["usage"].is_object() {
                removed += 1;
            } else {
                out.extend_from_slice(&event);
            }
            event.clear();
        }
    }
    (out, removed)
}

#[test]
fn every_fixture_at_every_cut() {
    let fixtures = fixtures();
    assert!(fixtures.len() > 40, "{}", fixtures.len());
    for Fixture { name, framing, body, reading, usage_chunks } in fixtures {
        for hide in [false, true].into_iter().filter(|hide| !hide || framing == Framing::EventStream) {
            let (kept, removed) = without_usage_chunks(&body);
            assert!(framing == Framing::Json || removed == usage_chunks, "{name}: {removed}");
            let want = (reading.clone(), if hide { kept } else { body.clone() });
            let fresh = Meter::new(gate::Dialect::OpenaiChat, framing, hide);
            for (cut, last) in (0..=body.len()).zip([false, true].into_iter().cycle()) {
                let (head, tail) = body.split_at(cut);
                let (mut meter, mut out) = (fresh.clone(), Vec::new());
                pass(&mut out, head, meter.push(head, false));
                pass(&mut out, tail, meter.push(tail, last));
                if !last {
                    pass(&mut out, b"", meter.push(b"", true));
                }
                assert_eq!((meter.reading(), out), want, "{name} cut at {cut}, hide {hide}");
            }
            assert_eq!(run(framing, hide, body.chunks(1)), want, "{name} byte by byte, hide {hide}");
            assert_eq!(run(framing, hide, body.chunks(7)), want, "{name} in sevens, hide {hide}");
        }
    }
}

#[test]
fn what_is_not_metered_passes() {
    let body = br#"{"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    for (dialect, framing) in
        [(gate::Dialect::Unspecified, Framing::Json), (gate::Dialect::OpenaiChat, Framing::Opaque)]
    {
        let mut meter = Meter::new(dialect, framing, true);
        assert_eq!(meter.push(body, true), Passed::Unchanged);
        assert_eq!(meter.reading(), Reading { usage: None, output_seen: 0, ended: false });
    }
}

#[test]
fn a_stream_stays_a_stream() {
    let mut meter = Meter::new(gate::Dialect::OpenaiChat, Framing::EventStream, true);
    let whole = b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\r\n\r\n";
    assert_eq!(meter.push(whole, false), Passed::Unchanged, "a whole event is never held");
    assert_eq!(meter.push(b": ping\n", false), Passed::Unchanged, "nor is a comment");
    let begun = b"data: {\"choices\":[";
    assert_eq!(meter.push(begun, false), Passed::Replaced(vec![]));
    let sure = [&begun[..], b"{"].concat();
    assert_eq!(meter.push(b"{", false), Passed::Replaced(sure), "let go as soon as there is a choice");
    assert_eq!(meter.push(b"\"delta\":", false), Passed::Unchanged);
}

#[test]
fn an_event_beyond_the_bound_is_let_go() {
    let mut meter = Meter::new(gate::Dialect::OpenaiChat, Framing::EventStream, true);
    let mut out = Vec::new();
    let usage = br#""choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    let stream = [b"data: {\"pad\":\"", vec![b'x'; 300_000].as_slice(), b"\",", usage, b"\n\n"].concat();
    for chunk in stream.chunks(1000) {
        pass(&mut out, chunk, meter.push(chunk, false));
        assert!(held(&meter) <= MAX_HELD_BYTES);
    }
    assert_eq!(out, stream);
    assert_eq!(meter.reading().usage, Some(gate::Usage { input: 1, output: 2, ..gate::Usage::default() }));
}

#[test]
fn depth_costs_nothing() {
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(2500), close.repeat(2500));
    let (arrays, usages) = (deep("[", "]"), deep(r#"{"usage":"#, "}"));
    let body = format!(r#"{{"x":{arrays},"y":{usages},"usage":{{"prompt_tokens":1,"completion_tokens":2}}}}"#);
    let usage = Some(gate::Usage { input: 1, output: 2, ..gate::Usage::default() });
    let want = Reading { usage, output_seen: 0, ended: true };
    assert_eq!(run(Framing::Json, false, body.as_bytes().chunks(1)).0, want);
}

#[test]
fn a_meter_is_small() {
    assert!(size_of::<Meter>() <= 768, "{}", size_of::<Meter>());
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let text = prop::sample::select(vec![
        "data: ",
        "data:",
        "data",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "\r\n\r\n",
        ": note",
        "event: x",
        "id",
        " ",
        "[DONE]",
        "\u{feff}",
        r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
        r#"{"choices":[],"#,
        r#""usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
        r#"{"choices":[{"delta":{"content":"ab\u00e9"}}],"usage":null}"#,
        r#"{"choices":[],"usage":null}"#,
        "{",
        "}",
        "[",
        "]",
        ",",
        "\"",
        "\\",
        "null",
        "{}",
    ]);
    prop_oneof![
        12 => text.prop_map(|text| text.as_bytes().to_vec()),
        // whole events, so that hiding is met often
        4 => Just(b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\r\n\r\n".to_vec()),
        2 => Just(b"data: {\"choices\":[{\"delta\":{\"content\":\"ab\"}}]}\n\n".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ]
}

fn cuts(body: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
    let (mut rest, mut chunks) = (body, Vec::new());
    for size in sizes {
        let (chunk, tail) = rest.split_at((*size).min(rest.len()));
        chunks.push(chunk.to_vec());
        rest = tail;
    }
    chunks.push(rest.to_vec());
    chunks
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_stream_cut_anywhere(pieces in prop::collection::vec(piece(), 0..24), sizes in prop::collection::vec(0_usize..40, 0..24)) {
        let body = pieces.concat();
        let chunks = cuts(&body, &sizes);
        for framing in [Framing::EventStream, Framing::Json, Framing::Opaque] {
            let at_once = run(framing, false, [body.as_slice()]);
            prop_assert_eq!(&at_once.1, &body);
            prop_assert_eq!(&run(framing, false, chunks.iter().map(Vec::as_slice)), &at_once);
        }
        let hidden = run(Framing::EventStream, true, chunks.iter().map(Vec::as_slice));
        prop_assert_eq!(hidden.0, run(Framing::EventStream, false, [body.as_slice()]).0);
        let kept = without_usage_chunks(&body).0;
        prop_assert_eq!(String::from_utf8_lossy(&hidden.1), String::from_utf8_lossy(&kept));
    }
}
