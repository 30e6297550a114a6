//! Bodies that are refused before anybody asks what they mean: JSON, keys, fields, depth.

use proptest::prelude::*;

use super::*;

#[test]
fn bodies_that_are_no_json_are_refused() {
    for body in ["", " \t\r\n"] {
        refused(body, Code::MissingBody, None);
    }
    let whole = with(r#""user":"x""#);
    for body in [
        format!("\u{feff}{whole}"),
        format!("{whole}{whole}"),
        format!("{whole}\n{whole}"),
        format!("{whole},"),
        format!("{whole}x"),
        format!("/**/{whole}"),
        format!("[{whole}]"),
        "[]".to_owned(),
        "\"x\"".to_owned(),
        "null".to_owned(),
        "1".to_owned(),
        "{".to_owned(),
        "}".to_owned(),
        "{]".to_owned(),
        "{messages:[]}".to_owned(),
        "[".repeat(100_000),
    ] {
        refused(&body, Code::InvalidJson, None);
    }
    for end in 1..whole.len() {
        assert_eq!(read(whole.get(..end).unwrap()).unwrap_err().code, Code::InvalidJson, "{end}");
    }
    for bad in
        [&b"{\"messages\":[{\"content\":\"\xff\"}]}"[..], b"\xff\xfe{\0}\0", b"{\"a\":\"\xc0\xaf\"}", b"\xed\xa0\x80"]
    {
        assert_eq!(parse(bad, &BTreeSet::new()).unwrap_err().code, Code::InvalidJson, "{bad:?}");
    }
}

/// The telling ones of <https://github.com/nst/JSONTestSuite>, as values inside of fields that are otherwise free.
#[test]
fn values_that_are_no_json_are_refused() {
    let numbers =
        ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "01", "-01", "1.", ".5", "+1", "1e", "0x1", "1_0", "-"];
    let structures =
        ["[1,]", "[,1]", "[1 2]", "[1", "1]", "{\"a\":1,}", "{a:1}", "{\"a\" 1}", "{\"a\":1/**/}", "{1:1}", "{\"a\":}"];
    let strings = [
        "'x'",
        "\"\u{1}\"",
        "\"\n\"",
        r#""\x41""#,
        r#""\u12""#,
        r#""\ud800""#,
        r#""\udc00x""#,
        r#""\ud800\u0041""#,
        "\"a",
    ];
    let others = ["True", "nul", "\u{a0}1", "{\"\\ud800\":1}", ""];
    for bad in numbers.iter().chain(&structures).chain(&strings).chain(&others) {
        for field in ["metadata", "tools", "stop", "top_k"] {
            let denial = read(&with(&format!(r#""{field}":{bad}"#))).expect_err(bad);
            assert_eq!(denial.code, Code::InvalidJson, "{field}: {bad}");
        }
    }
}

#[test]
fn a_key_stands_once() {
    for (body, param) in [
        (with(r#""n":1,"n":1"#), "n"),
        (with(r#""model":"a","mod\u0065l":"b""#), "model"),
        (with(r#""messages":[{"content":"x"}]"#), "messages"),
        (with(r#""metadata":{"a":1,"b":2,"a":3}"#), "metadata"),
        (with(r#""metadata":{"a":[{"x":{"y":1,"\u0079":2}}]}"#), "metadata"),
        (with(r#""top_k":{"":1,"":2}"#), "top_k"),
        (with(r#""audio":{"voice":1,"Voice":2}"#), "audio"),
        (with(r#""stream":true,"stream_options":{"include_usage":true,"include_usage":false}"#), "stream_options"),
        (r#"{"messages":[{"role":"user","content":"a","content":"b"}]}"#.into(), "messages"),
        (r#"{"messages":[{"role":"user","Role":"system"}]}"#.into(), "messages"),
        (r#"{"messages":[{"content":[{"type":"text","type":"image_url"}]}]}"#.into(), "messages"),
        (r#"{"messages":[{"content":[{"type":"text","text":"a","TEXT":"b"}]}]}"#.into(), "messages"),
    ] {
        refused(&body, Code::InvalidJson, Some(param));
    }
    for fine in [r#""metadata":{"a":1,"A":2}"#, r#""tools":[{"t":1,"T":2}]"#, r#""metadata":{"a":{"a":{"a":1}}}"#] {
        assert!(read(&with(fine)).is_ok(), "{fine}");
    }
}

#[test]
fn root_fields_are_listed() {
    let unknown =
        ["api_base", "base_url", "api_key", "extra_headers", "tenant_id", "__proto__", "best_of", "web_search_options"];
    for field in unknown.into_iter().chain(["", "top_k2", "\u{17f}tream"]) {
        refused(&with(&format!(r#""{field}":1"#)), Code::UnknownField, Some(field));
        assert!(read(&with(&format!(r#""metadata":{{"{field}":1}}"#))).is_ok(), "{field}");
    }
    for field in ["Model", "STREAM", "Max_Tokens", "max_Completion_tokens", "Messages", "Top_K"] {
        refused(&with(&format!(r#""{field}":1"#)), Code::InvalidBody, Some(field));
    }
    refused(&with(r#""model":"a","Model":"b""#), Code::InvalidBody, Some("Model"));
    refused(&with(&format!(r#""{}":1"#, "é".repeat(100_000))), Code::UnknownField, Some(&"é".repeat(64)));
}

#[test]
fn depth_ends_at_64() {
    let arrays = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let in_field = |field: &str, depth: usize| with(&format!(r#""{field}":{}"#, arrays(depth)));
    for field in ["metadata", "tools", "stop", "top_k"] {
        assert!(read(&in_field(field, 63)).is_ok(), "{field}");
        refused(&in_field(field, 64), Code::InvalidJson, Some(field));
        refused(&with(&format!(r#""{field}":{}"#, "[".repeat(100_000))), Code::InvalidJson, Some(field));
    }
    let objects = |depth: usize| with(&format!(r#""metadata":{}1{}"#, r#"{"a":"#.repeat(depth), "}".repeat(depth)));
    assert!(read(&objects(63)).is_ok());
    refused(&objects(64), Code::InvalidJson, Some("metadata"));
    let message = |depth: usize| format!(r#"{{"messages":[{{"x":{}}}]}}"#, arrays(depth));
    assert!(read(&message(61)).is_ok());
    refused(&message(62), Code::InvalidJson, Some("messages"));
    let part = |depth: usize| format!(r#"{{"messages":[{{"content":[{{"type":"text","x":{}}}]}}]}}"#, arrays(depth));
    assert!(read(&part(59)).is_ok());
    refused(&part(60), Code::InvalidJson, Some("messages"));
    for field in ["model", "n", "max_tokens", "stream"] {
        refused(&in_field(field, 100_000), Code::InvalidBody, Some(field));
    }
    refused(
        &with(&format!(r#""stream":true,"stream_options":{}"#, arrays(100_000))),
        Code::InvalidBody,
        Some("stream_options"),
    );
}

#[test]
fn many_keys_are_told_apart() {
    let keys = (0..100_000).map(|i| format!(r#""k{i}":0"#)).collect::<Vec<_>>().join(",");
    assert!(read(&with(&format!(r#""metadata":{{{keys}}}"#))).is_ok());
    refused(&with(&format!(r#""metadata":{{{keys},"k7":1}}"#)), Code::InvalidJson, Some("metadata"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(parse(&bytes, &BTreeSet::new()).is_err());
    }

    #[test]
    fn no_text_like_json_makes_it_panic(pieces in prop::collection::vec(prop::sample::select(vec![
        "{", "}", "[", "]", ":", ",", "null", "true", "1", "-1", "1e9", "\"", "\"model\"", "\"messages\"", "\"stream\"",
        "\"stream_options\"", "\"include_usage\"", "\"content\"", "\"type\"", "\"text\"", "\"n\"", "\\u0061", "é",
    ]), 0..40)) {
        let middle = pieces.concat();
        for body in [middle.clone(), with(&middle), with(&format!(r#""metadata":[{middle}]"#))] {
            let read = read(&body);
            prop_assert!(read.is_err() || serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{body}");
        }
    }
}
