//! Whole streams, in every order of phases that Envoy has: what is applied, what passes, what is settled.

use gateway_core::denial::{Code, Denial};
use gateway_core::edits::{apply, splice};
use gateway_core::gate::{BodyEdits, Dialect, Grant, Outcome, Settlement, Usage};

use super::*;

const BODY: &[u8] = br#"{"model":"m","stream":true,"messages":[]}"#;
const DELTA: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"12345678\"}}],\"usage\":null}\n\n";
const USAGE: &[u8] = b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\n";
const DONE: &[u8] = b"data: [DONE]\n\n";
const EVENTS: AnswerHead<'_> =
    AnswerHead { status: 200, content_type: Some(b"text/event-stream"), content_encoding: None, content_length: None };

fn edits() -> BodyEdits {
    let insert = splice(BODY.len() - 1, 0, *br#","stream_options":{"include_usage":true}"#);
    BodyEdits { body_bytes: BODY.len() as u64, edits: vec![insert] }
}

fn grant() -> Grant {
    Grant {
        id: vec![1; 16].into(),
        dialect: Dialect::OpenaiChat.into(),
        hide_usage: true,
        edits: Some(edits()),
        ..Grant::default()
    }
}

/// Where a stream is reset, or that it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Begun,
    RequestHeaders,
    RequestBody,
    Sent,
    ResponseHeaders,
    ResponseBody,
    UsageSeen,
    Ended,
}

const PHASES: [Phase; 8] = [
    Phase::Begun,
    Phase::RequestHeaders,
    Phase::RequestBody,
    Phase::Sent,
    Phase::ResponseHeaders,
    Phase::ResponseBody,
    Phase::UsageSeen,
    Phase::Ended,
];

fn end(details: &str, flags: u64) -> StreamEnd {
    let code_details = details.to_owned();
    StreamEnd {
        code_details,
        response_flags: flags,
        status: None,
        now_ms: 1500,
        denial: None,
        signed: vec![9, 9].into(),
        cut: false,
    }
}

fn hung_up() -> StreamEnd {
    end("downstream_remote_disconnect", 1 << 14)
}

/// Runs a stream up to `last`; trailers end a body as an empty last chunk does.
fn run(last: Phase, status: u16, trailers: bool) -> (Accounting, Vec<u8>) {
    let (mut stream, mut passed) = (Accounting::new(&grant(), 1000), Vec::new());
    for phase in PHASES.into_iter().filter(|phase| *phase <= last) {
        match phase {
            Phase::Begun => {}
            Phase::RequestHeaders => {
                let length = stream.request_length().unwrap();
                assert_eq!(length.bytes() as usize, apply(&edits(), BODY).unwrap().len());
            }
            Phase::RequestBody => {
                let rewritten = stream.request_body(BODY).unwrap().unwrap();
                assert_eq!(rewritten.body(), apply(&edits(), BODY).unwrap());
                assert_eq!(rewritten.length().bytes(), rewritten.body().len() as u64);
            }
            Phase::Sent => stream.sent(),
            Phase::ResponseHeaders => {
                let hides = (200..300).contains(&status);
                let step = stream.response_head(AnswerHead { status, ..EVENTS });
                assert_eq!(step, ResponseStep::Continue { remove_content_length: hides });
            }
            Phase::ResponseBody => push(&mut stream, &mut passed, DELTA, false),
            Phase::UsageSeen => push(&mut stream, &mut passed, USAGE, false),
            Phase::Ended if trailers => {
                push(&mut stream, &mut passed, DONE, false);
                push(&mut stream, &mut passed, b"", true);
            }
            Phase::Ended => push(&mut stream, &mut passed, DONE, true),
        }
    }
    (stream, passed)
}

fn push(stream: &mut Accounting, passed: &mut Vec<u8>, chunk: &[u8], end: bool) {
    match stream.response_body(chunk, end) {
        Passed::Unchanged => passed.extend_from_slice(chunk),
        Passed::Replaced(bytes) => passed.extend_from_slice(&bytes),
    }
}

fn settled(last: Phase, status: u16, end: &StreamEnd) -> Settlement {
    let by_data = run(last, status, false).0.settle(end);
    assert_eq!(run(last, status, true).0.settle(end), by_data, "trailers end a body too");
    by_data
}

#[test]
fn a_whole_stream_without_its_usage_chunk() {
    let (stream, passed) = run(Phase::Ended, 200, false);
    assert_eq!(passed, [DELTA, DONE].concat());
    let whole = StreamEnd { status: Some(200), ..end("via_upstream", 0) };
    let want = Settlement {
        grant: vec![9, 9].into(),
        outcome: Outcome::Answered.into(),
        status: 200,
        usage: Some(Usage { input: 7, output: 2, ..Usage::default() }),
        output_seen: 2,
        denial: String::new(),
        details: "via_upstream".into(),
        duration_ms: 500,
        leased: None,
    };
    assert_eq!(stream.settle(&whole), want);
}

#[test]
fn a_client_that_hangs_up_in_any_phase() {
    for phase in PHASES {
        let settlement = settled(phase, 200, &hung_up());
        let want = match phase {
            Phase::Begun | Phase::RequestHeaders | Phase::RequestBody => Outcome::NotSent,
            Phase::Sent => Outcome::HungUp,
            Phase::ResponseHeaders | Phase::ResponseBody | Phase::UsageSeen => Outcome::HungUp,
            Phase::Ended => Outcome::Answered,
        };
        assert_eq!(settlement.outcome(), want, "{phase:?}");
        assert_eq!(settlement.usage.is_some(), phase >= Phase::UsageSeen, "{phase:?}");
        assert_eq!(settlement.output_seen, if phase >= Phase::ResponseBody { 2 } else { 0 }, "{phase:?}");
    }
}

#[test]
fn an_upstream_that_resets_in_any_phase() {
    for phase in PHASES {
        let end = match phase {
            Phase::ResponseHeaders | Phase::ResponseBody | Phase::UsageSeen => {
                end("upstream_reset_after_response_started{connection_termination}", 1 << 6)
            }
            Phase::Ended => end("via_upstream", 0),
            _ => end("upstream_reset_before_response_started{connection_termination}", 1 << 6),
        };
        let want = match phase {
            Phase::Begun | Phase::RequestHeaders | Phase::RequestBody => Outcome::NotSent,
            Phase::Ended => Outcome::Answered,
            _ => Outcome::Failed,
        };
        assert_eq!(settled(phase, 200, &end).outcome(), want, "{phase:?}");
    }
}

#[test]
fn the_upstreams_own_errors() {
    for (status, want) in
        [(302, Outcome::Refused), (429, Outcome::Refused), (500, Outcome::Failed), (503, Outcome::Failed)]
    {
        let settlement = settled(Phase::ResponseHeaders, status, &end("via_upstream", 0));
        assert_eq!(settlement.outcome(), want, "{status}");
        assert_eq!(settlement.usage, None);
    }
    // an error answer passes as it is, also where it has the shape of a usage chunk
    let (_, passed) = run(Phase::Ended, 429, false);
    assert_eq!(passed, [DELTA, USAGE, DONE].concat());
}

#[test]
fn an_upstream_that_is_down_costs_nothing() {
    // Envoy's own reply comes by as an answer
    let mut stream = run(Phase::Sent, 0, false).0;
    let step = stream.response_head(AnswerHead {
        status: 503,
        content_type: Some(b"application/json"),
        ..AnswerHead::default()
    });
    assert_eq!(step, ResponseStep::Continue { remove_content_length: false });
    assert_eq!(
        stream.response_body(br#"{"usage":{"prompt_tokens":1,"completion_tokens":1}}"#, true),
        Passed::Unchanged
    );
    let settlement =
        stream.settle(&end("upstream_reset_before_response_started{remote_connection_failure|refused}", 1 << 5));
    assert_eq!((settlement.outcome(), settlement.usage, settlement.output_seen), (Outcome::NotSent, None, 0));
}

#[test]
fn the_modules_own_denials() {
    let denied = |code| StreamEnd { denial: Some(code), status: Some(500), ..end("", 0) };
    let before = run(Phase::RequestBody, 0, false).0.settle(&denied("internal"));
    assert_eq!((before.outcome(), before.denial.as_str(), before.status), (Outcome::NotSent, "internal", 500));

    let mut stream = run(Phase::Sent, 0, false).0;
    let step = stream.response_head(AnswerHead { content_encoding: Some(b"gzip"), ..EVENTS });
    assert!(matches!(step, ResponseStep::Deny(Denial { code: Code::UpstreamEncoded, .. })));
    let after = stream.settle(&denied("upstream_encoded"));
    assert_eq!((after.outcome(), after.denial.as_str()), (Outcome::Failed, "upstream_encoded"));
}

#[test]
fn a_cut_answer_costs_what_a_client_that_left_would() {
    let cut = |status, flags| StreamEnd { cut: true, status: Some(status), ..end("", flags) };
    let under_way = run(Phase::ResponseBody, 200, false).0.settle(&cut(200, 0));
    assert_eq!((under_way.outcome(), under_way.output_seen), (Outcome::HungUp, 2));
    assert_eq!(under_way.details, "credential_ended");
    // our own 401 in place of an answer that had not begun
    let mut stream = run(Phase::Sent, 0, false).0;
    let _ = stream.response_head(AnswerHead { status: 401, ..EVENTS });
    let told = StreamEnd { denial: Some("invalid_credential"), ..cut(401, 0) };
    assert_eq!(stream.settle(&told).outcome(), Outcome::HungUp);
    // what never left, and what was all there, is neither
    assert_eq!(run(Phase::Sent, 0, false).0.settle(&cut(503, 1 << 5)).outcome(), Outcome::NotSent);
    let (mut stream, mut passed) = run(Phase::ResponseBody, 200, false);
    push(&mut stream, &mut passed, DONE, true);
    assert_eq!(stream.settle(&cut(200, 0)).outcome(), Outcome::Answered);
}

#[test]
fn an_empty_answer_is_whole_at_its_head() {
    // the client has read all of it and is gone before the upstream's last, empty frame
    let gone = || end("downstream_remote_disconnect", 1 << 14);
    for (length, want) in [(Some(&b"0"[..]), Outcome::Answered), (Some(b"1"), Outcome::HungUp), (None, Outcome::HungUp)]
    {
        let mut stream = run(Phase::Sent, 0, false).0;
        let _ = stream.response_head(AnswerHead { content_length: length, ..EVENTS });
        assert_eq!(stream.settle(&gone()).outcome(), want, "{length:?}");
    }
}

#[test]
fn a_body_never_changes_without_its_length() {
    let silent = Accounting::new(&grant(), 0);
    assert_eq!(silent.request_body(BODY).unwrap_err().code, Code::Internal, "the length was not announced");

    let mut stream = Accounting::new(&grant(), 0);
    assert!(stream.request_length().is_some());
    for other in [&b""[..], &BODY[1..], &[BODY, b" "].concat()] {
        assert_eq!(stream.request_body(other).unwrap_err().code, Code::Internal);
    }
}

#[test]
fn edits_that_are_no_splices_are_refused() {
    for bad in [vec![splice(5, 1, *b""), splice(0, 1, *b"")], vec![splice(0, 4096, *b"")], vec![splice(4096, 0, *b"x")]]
    {
        let edits = Some(BodyEdits { body_bytes: BODY.len() as u64, edits: bad });
        let mut stream = Accounting::new(&Grant { edits, ..grant() }, 0);
        let _ = stream.request_length();
        assert_eq!(stream.request_body(BODY).unwrap_err().code, Code::Internal);
    }
}

#[test]
fn without_edits_the_body_goes_on_if_it_is_the_checked_one() {
    let unedited = Some(BodyEdits { body_bytes: BODY.len() as u64, edits: vec![] });
    for (edits, body) in [(unedited, BODY), (None, &b""[..])] {
        let mut stream = Accounting::new(&Grant { edits, ..grant() }, 0);
        assert_eq!(stream.request_length(), None);
        assert_eq!(stream.request_body(body), Ok(None));
        assert_eq!(stream.request_body(b"{}").unwrap_err().code, Code::Internal);
    }
}

#[test]
fn phases_in_no_order_at_all_are_survived() {
    let mut stream = Accounting::new(&grant(), 5000);
    assert_eq!(stream.response_body(DELTA, true), Passed::Unchanged);
    let _ = stream.response_head(AnswerHead { status: 200, ..AnswerHead::default() });
    assert_eq!(stream.response_body(USAGE, false), Passed::Unchanged, "an unknown content type is not counted");
    let long = StreamEnd { code_details: "é".repeat(10_000), ..end("", 0) };
    let settlement = stream.settle(&long);
    assert_eq!((settlement.details.chars().count(), settlement.duration_ms), (256, 0));
}

fn leased() -> gate::Leased {
    gate::Leased { lease: vec![3; 16].into(), number: 2, model: "m".into(), ..gate::Leased::default() }
}

#[test]
fn checked_in_envoy_body_and_length_come_together() {
    let (checked, rewritten) = Checked::new(&edits(), BODY, Dialect::OpenaiChat, true, 1000).unwrap();
    let rewritten = rewritten.unwrap();
    assert_eq!(rewritten.body(), apply(&edits(), BODY).unwrap());
    assert_eq!(rewritten.length().bytes(), rewritten.body().len() as u64);
    let mut stream = checked.admitted(leased());
    assert_eq!(stream.untouched_body(rewritten.body().len()), Ok(()));
    assert_eq!(stream.untouched_body(BODY.len()).unwrap_err().code, Code::Internal, "the old body does not go on");
    assert_eq!((stream.edits_body(), stream.request_length()), (false, None), "and is not edited twice");

    let unedited = BodyEdits { body_bytes: BODY.len() as u64, edits: vec![] };
    let (checked, rewritten) = Checked::new(&unedited, BODY, Dialect::OpenaiChat, true, 1000).unwrap();
    assert_eq!(rewritten, None);
    assert_eq!(checked.admitted(leased()).untouched_body(BODY.len()), Ok(()));
}

#[test]
fn what_envoy_cannot_hold_is_refused_before_anything_is_asked() {
    let code = |edits: &BodyEdits, body: &[u8]| {
        Checked::new(edits, body, Dialect::OpenaiChat, false, 0).map(|(_, rewritten)| rewritten).map_err(|d| d.code)
    };
    let plan = |body: &[u8], edits| BodyEdits { body_bytes: body.len() as u64, edits };
    let greatest = vec![b'x'; usize::try_from(gateway_core::wire::MAX_BODY_BYTES).unwrap()];
    let grown = |body: &[u8], by: u64| code(&plan(body, vec![splice(1, 0, vec![b'y'; by as usize])]), body);
    assert_eq!(grown(&greatest, MAX_GROWTH_BYTES).unwrap().unwrap().body().len(), greatest.len() + 4096);
    assert_eq!(grown(&greatest, MAX_GROWTH_BYTES + 1), Err(Code::Internal));
    assert_eq!(grown(BODY, MAX_GROWTH_BYTES + 1), Err(Code::Internal));
    let over = [greatest, vec![b'x']].concat();
    assert_eq!(code(&plan(&over, vec![]), &over), Err(Code::BodyTooLarge));
    assert_eq!(code(&plan(&over, vec![splice(0, 9, *b"")]), &over), Err(Code::BodyTooLarge));
    for bad in [vec![splice(5, 1, *b""), splice(0, 1, *b"")], vec![splice(0, 4096, *b"")], vec![splice(4096, 0, *b"x")]]
    {
        assert_eq!(code(&plan(BODY, bad), BODY), Err(Code::Internal));
    }
    for other in [&b""[..], &BODY[1..], &[BODY, b" "].concat()] {
        assert_eq!(code(&edits(), other), Err(Code::Internal));
        assert_eq!(code(&plan(BODY, vec![]), other), Err(Code::Internal));
    }
}

#[test]
fn a_leased_stream_settles_like_any_other_and_says_out_of_what() {
    for last in PHASES {
        let portable = run(last, 200, false).0;
        let (checked, _) = Checked::new(&edits(), BODY, Dialect::OpenaiChat, true, 1000).unwrap();
        let mut inline = checked.admitted(leased());
        inline.sent = portable.sent;
        inline.answer = run(last, 200, false).0.answer;
        let want = Settlement { leased: Some(leased()), ..portable.settle(&hung_up()) };
        assert_eq!(inline.settle(&hung_up()), want, "{last:?}");
    }
}
