//! What admission reserves and what it changes in a body.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::edits::apply;
use crate::gate::Cost;

fn admitted(body: &str, terms: &AdmitTerms<'_>) -> (Admission, String) {
    let admission = read(body).unwrap().admit(terms).unwrap();
    let edited = String::from_utf8(apply(&admission.edits, body.as_bytes()).unwrap()).unwrap();
    (admission, edited)
}

/// `M` stands for messages, `L` for the upstream's model; what is empty stays as it is.
#[test]
fn edits_are_the_least_that_hold_the_request() {
    let cost = cost();
    let new = terms(&cost);
    let old = AdmitTerms { output_limit: OutputLimitField::MaxTokens, ..new };
    for (terms, body, want) in [
        (&new, "{M}", r#"{L,"max_completion_tokens":100,M}"#),
        (&old, " { M } ", r#" {L,"max_tokens":100, M } "#),
        (&old, r#"{M,L,"max_tokens":100}"#, ""),
        (&old, r#"{M,"model":"ll\u0061ma","max_tokens":7}"#, ""),
        (&old, r#"{M,"model" : "gpt" ,"max_tokens":7}"#, r#"{M,"model" : "llama" ,"max_tokens":7}"#),
        (&old, r#"{"max_tokens": 101,M,L}"#, r#"{"max_tokens": 100,M,L}"#),
        (&old, r#"{M,L,"n":1,"max_tokens":1,"stream":false,"stream_options":null}"#, ""),
    ] {
        let spelled = |text: &str| {
            text.replacen('M', r#""messages":[{"content":"hi"}]"#, 1).replacen('L', r#""model":"llama""#, 1)
        };
        let want = if want.is_empty() { body } else { want };
        assert_eq!(admitted(&spelled(body), terms).1, spelled(want), "{body}");
    }
}

/// `M` and `L` as above, `O` for `"max_tokens"`, `C` for `"max_completion_tokens"`; the provider reads the latter.
#[test]
fn one_limit_is_left_and_it_is_the_providers() {
    let cost = cost();
    for (body, want) in [
        // Only the provider's.
        ("{M,L,C:100}", ""),
        ("{M,L,C:101}", "{M,L,C:100}"),
        ("{M,L,C:null}", "{M,L,C:100}"),
        // Only the other: renamed, its value clamped.
        ("{M,L,O:7}", "{M,L,C:7}"),
        ("{O : 700 ,M,L}", "{C : 100 ,M,L}"),
        ("{M,O:null,L}", "{M,C:100,L}"),
        (r#"{M,L,"max_t\u006fkens":7}"#, "{M,L,C:7}"),
        (r#"{M,L,"max_completion_t\u006fkens":7}"#, ""),
        // Both: the smaller of what was named and of the cap; the other goes with one comma.
        ("{C:7,O:500,M,L}", "{C:7,M,L}"),
        ("{O:500,C:7,M,L}", "{C:7,M,L}"),
        ("{C:500,O:7,M,L}", "{C:7,M,L}"),
        ("{M,L,O:500,C:600}", "{M,L,C:100}"),
        ("{M,L,C:null,O:7}", "{M,L,C:7}"),
        ("{M,L,C:5,O:null}", "{M,L,C:5}"),
        ("{M,L,C:null,O:null}", "{M,L,C:100}"),
        ("{ O : 7 , M , C : 9 , L }", "{  M , C : 7 , L }"),
        ("{ M , C : 9 , O : 7 }", "{L, M , C : 7  }"),
        // The model goes in front of a first field that is removed.
        ("{O:7,M,C:9}", "{L,M,C:7}"),
    ] {
        let spelled = |text: &str| {
            let text = text.replacen('M', r#""messages":[{"content":"hi"}]"#, 1).replacen('L', r#""model":"llama""#, 1);
            text.replacen("O", r#""max_tokens""#, 1).replacen("C", r#""max_completion_tokens""#, 1)
        };
        let want = if want.is_empty() { body } else { want };
        assert_eq!(admitted(&spelled(body), &terms(&cost)).1, spelled(want), "{body}");
    }
}

#[test]
fn streams_are_made_to_say_their_usage() {
    const BODY: &str = r#"{O"messages":[{"content":"hi"}],"model":"llama","max_completion_tokens":1,"stream":true}"#;
    const ASKED: &str = r#""stream_options":{"include_usage":true},"#;
    let cost = cost();
    for (options, want) in [
        ("", ASKED),
        (r#""stream_options":null,"#, ASKED),
        (r#""stream_options":{},"#, ASKED),
        (r#""stream_options":{"include_usage":null},"#, ASKED),
        (r#""stream_options":{"include_usage":false},"#, ASKED),
        (r#""stream_options":{"include_usage":true},"#, ASKED),
        (r#""stream_options": { } ,"#, r#""stream_options": {"include_usage":true } ,"#),
        (
            r#""stream_options":{ "include_obfuscation":null},"#,
            r#""stream_options":{"include_usage":true, "include_obfuscation":null},"#,
        ),
    ] {
        let edited = admitted(&BODY.replacen('O', options, 1), &terms(&cost)).1;
        assert_eq!(edited, BODY.replacen('O', want, 1), "{options}");
    }
}

#[test]
fn the_models_name_is_escaped() {
    let cost = cost();
    let name = "a\"},\n\u{1}\\é";
    for body in [with(r#""n":1"#), with(r#""model":"gpt""#)] {
        let edited = admitted(&body, &AdmitTerms { upstream_model: name, ..terms(&cost) }).1;
        assert_eq!(serde_json::from_str::<Value>(&edited).unwrap().get("model"), Some(&json!(name)));
    }
}

#[test]
fn what_is_reserved_is_worked_by_hand() {
    let cost = cost();
    let body = with(r#""n":3,"max_tokens":50"#);
    assert_eq!(body.len(), 67);
    // 67 + 16 input tokens at 1 µ$, 150 output tokens at 2 µ$ and 1 ms
    let (admission, _) = admitted(&body, &terms(&cost));
    assert_eq!(admission.reserved, Cost { tokens: 233, gpu_ms: 150, micro_usd: 383, requests: 1 });
    assert_eq!((admission.input_estimate, admission.output_bound), (8, 50));
    // ceil(2 / 4) + 4 + 3 input tokens, 3 * ceil(50 / 4) output tokens
    let (admission, _) = admitted(&body, &AdmitTerms { reserve_estimate: true, ..terms(&cost) });
    assert_eq!(admission.reserved, Cost { tokens: 47, gpu_ms: 39, micro_usd: 86, requests: 1 });
}

#[test]
fn the_smallest_limit_is_the_bound() {
    let cost = cost();
    let bound = |fields: &str| admitted(&with(fields), &terms(&cost)).0.output_bound;
    assert_eq!(bound(r#""n":1"#), 100);
    assert_eq!(bound(r#""max_tokens":7"#), 7);
    assert_eq!(bound(r#""max_tokens":7,"max_completion_tokens":9"#), 7);
    assert_eq!(bound(r#""max_tokens":null,"max_completion_tokens":900"#), 100);
}

#[test]
fn usage_is_hidden_from_those_who_did_not_ask() {
    let cost = cost();
    let hidden = |fields: &str| {
        let admission = admitted(&with(fields), &terms(&cost)).0;
        (admission.stream, admission.hide_usage)
    };
    assert_eq!(hidden(r#""stream":false"#), (false, false));
    assert_eq!(hidden(r#""stream":true"#), (true, true));
    assert_eq!(hidden(r#""stream":true,"stream_options":{"include_usage":false}"#), (true, true));
    assert_eq!(hidden(r#""stream":true,"stream_options":{"include_usage":true}"#), (true, false));
}

#[test]
fn what_a_plan_does_not_allow_is_refused() {
    let cost = cost();
    let ok = terms(&cost);
    let long = with(&format!(r#""prediction":{{"content":"{}"}}"#, "x".repeat(4000)));
    let media = r#"{"messages":[{"content":[{"type":"file","file":{}}]}]}"#.to_owned();
    for (body, terms, code, param) in [
        (with(r#""n":5"#), ok, Code::InvalidBody, Some("n")),
        (with(r#""user":"x""#), AdmitTerms { choices_cap: 0, ..ok }, Code::InvalidBody, Some("n")),
        (long.clone(), ok, Code::PromptTooLarge, Some("messages")),
        (media, ok, Code::UnsupportedContent, Some("messages")),
        (with(r#""n":1"#), AdmitTerms { output_cap: 0, ..ok }, Code::Internal, None),
        (with(r#""n":4"#), AdmitTerms { output_cap: u64::MAX, ..ok }, Code::Internal, None),
    ] {
        let denial = read(&body).unwrap().admit(&terms).unwrap_err();
        assert_eq!((denial.code, denial.param.as_deref()), (code, param), "{body:.200}");
    }
    assert!(read(&with(r#""n":4"#)).unwrap().admit(&ok).is_ok());
    // ceil((2 + 7 + 4000) / 4) + 4 + 3
    assert!(read(&long).unwrap().admit(&AdmitTerms { prompt_cap: 1010, ..ok }).is_ok());
    assert!(read(&long).unwrap().admit(&AdmitTerms { prompt_cap: 1009, ..ok }).is_err());
}

/// Root fields as they may be written.
const FIELDS: &[(&str, &str)] = &[
    ("model", r#""gpt-4o""#),
    ("model", r#""llama""#),
    ("m\\u006fdel", r#""gpt-4o""#),
    ("stream", "true"),
    ("stream", "null"),
    ("str\\u0065am", "true"),
    ("max_tokens", "5"),
    ("max_tokens", "5000"),
    ("max_tokens", "null"),
    ("max_t\\u006fkens", "7"),
    ("max_completion_tokens", "99"),
    ("max_completion_tokens", "101"),
    ("max_completion_tokens", "null"),
    ("n", "3"),
    ("stream_options", "null"),
    ("stream_options", "{ }"),
    ("stream_options", r#"{"include_obfuscation": true}"#),
    ("stream_options", r#"{"include_usage":false}"#),
    ("stream_options", r#"{ "incl\u0075de_usage" : null , "include_obfuscation":false}"#),
    ("stream_options", r#"{"include_usage":true}"#),
    ("metadata", r#"{"model":"x","max_tokens":1e3,"é":"\ud83d\ude00"}"#),
    ("top_k", "[[],{}]"),
    ("temperature", "0.70"),
    ("user", r#""{\"model\":\"x\"}""#),
];

/// A valid body: any of the fields once, in any order, with any white space.
fn body() -> impl Strategy<Value = String> {
    let space = || prop::sample::select(vec!["", " ", "\n\t", "\r\n  "]);
    let field = (prop::sample::select(FIELDS), space(), space());
    (prop::collection::vec(field, 0..14), any::<prop::sample::Index>(), space()).prop_map(|(mut fields, at, around)| {
        let messages = (("messages", r#"[{"role":"user","content":"{\"stream_options\":null}"}]"#), "", " ");
        fields.insert(at.index(fields.len() + 1), messages);
        let decoded = |name: &str| serde_json::from_str::<String>(&format!("\"{name}\"")).unwrap();
        let mut seen = BTreeSet::new();
        fields.retain(|((name, _), ..)| seen.insert(decoded(name)));
        let streams = fields.iter().any(|((name, value), ..)| decoded(name) == "stream" && *value == "true");
        fields.retain(|((name, value), ..)| *name != "stream_options" || *value == "null" || streams);
        let fields = fields.iter().map(|((name, value), a, b)| format!("{a}\"{name}\"{b}:{a}{value}{b}"));
        format!("{around}{{{}}}{around}", fields.collect::<Vec<_>>().join(","))
    })
}

/// The intended value, worked on the parsed body.
fn intended(body: &str, limit: OutputLimitField) -> Value {
    let mut value: Value = serde_json::from_str(body).unwrap();
    let root = value.as_object_mut().unwrap();
    root.insert("model".into(), json!("llama"));
    let named = ["max_tokens", "max_completion_tokens"].map(|name| root.remove(name));
    let bound = named.iter().flatten().filter_map(Value::as_u64).fold(100, u64::min);
    root.insert(limit.as_str().into(), json!(bound));
    if root.get("stream") == Some(&json!(true)) {
        let options = root.entry("stream_options").or_insert(Value::Null);
        if options.is_null() {
            *options = json!({});
        }
        options.as_object_mut().unwrap().insert("include_usage".into(), json!(true));
    }
    value
}

proptest! {
    #[test]
    fn exactly_what_was_intended_changes(body in body(), old in any::<bool>()) {
        let cost = cost();
        let limit = if old { OutputLimitField::MaxTokens } else { OutputLimitField::MaxCompletionTokens };
        let terms = AdmitTerms { output_limit: limit, ..terms(&cost) };
        let (admission, edited) = admitted(&body, &terms);
        prop_assert_eq!(serde_json::from_str::<Value>(&edited).unwrap(), intended(&body, limit), "{}", edited);
        // Nothing is left to edit: what is sent is what was decided.
        let (again, same) = admitted(&edited, &terms);
        prop_assert!(again.edits.edits.is_empty() && same == edited);
        prop_assert_eq!(again.output_bound, admission.output_bound);

        // Between the edits every byte stands as it stood, and no two edits overlap.
        let (mut rest, mut at) = (edited.as_bytes(), 0);
        for edit in &admission.edits.edits {
            let offset = usize::try_from(edit.offset).unwrap();
            prop_assert!(at <= offset);
            rest = rest.strip_prefix(&body.as_bytes()[at..offset]).unwrap();
            rest = rest.strip_prefix(edit.insert.as_ref()).unwrap();
            at = offset + usize::try_from(edit.remove).unwrap();
        }
        prop_assert_eq!(rest, &body.as_bytes()[at..]);
    }
}
