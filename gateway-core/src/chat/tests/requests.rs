//! What is read from a request, and which values of its fields are not accepted.

use super::*;

#[test]
fn a_whole_request_is_read() {
    let body = r#" {"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"n":2,"max_tokens":5,
        "max_completion_tokens":9007199254740992,"temperature":0.5,"top_k":{"A":1,"a":2},"messages":[
        {"role":"system","content":"abcd"},{"role":"user","content":[{"type":"text","text":"efg"},
        {"image_url":{"url":"data:xxxxxxxxxxxx"},"type":"image_url"}]},
        {"role":"assistant","content":null,"audio":{"id":"a-1"}}]} "#;
    let request = read(body).unwrap();
    assert_eq!(request.model.as_ref().map(ModelName::as_str), Some("gpt-4o"));
    assert_eq!((request.stream, request.asked_usage, request.n), (true, true, 2));
    assert_eq!((request.max_tokens, request.max_completion_tokens), (Some(5), Some(1 << 53)));
    let size = InputSize { body_bytes: body.len() as u64, text_bytes: 7, messages: 3, media_parts: 2 };
    assert_eq!(request.input, size);
    assert_eq!(request.extra, ["top_k"]);
}

#[test]
fn extra_fields_are_held_against_the_provider() {
    let fields = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let body = with(r#""top_k":1,"seed":1,"min_p":{},"user":"top_a","t\u006fp_a":null"#);
    let request = parse(body.as_bytes(), &fields(&["min_p", "top_a", "top_k", "typical_p"])).unwrap();
    assert_eq!(request.extra, ["top_k", "min_p", "top_a"]);
    assert_eq!(request.check_fields(&fields(&["min_p", "top_a", "top_k"])), Ok(()));
    for (provider, first) in [(&["top_k", "top_a"][..], "min_p"), (&["min_p", "top_k"], "top_a"), (&[], "top_k")] {
        let denial = Denial::new(Code::UnknownField).param(first);
        assert_eq!(request.check_fields(&fields(provider)), Err(denial));
    }
    assert_eq!(read(&with(r#""user":"x""#)).unwrap().check_fields(&BTreeSet::new()), Ok(()));
}

#[test]
fn null_is_absent() {
    let nulls = r#""stream":null,"stream_options":null,"n":null,"max_tokens":null,"max_completion_tokens":null,"service_tier":null"#;
    let request = read(&with(nulls)).unwrap();
    assert_eq!((request.stream, request.asked_usage, request.n), (false, false, 1));
    assert_eq!((request.max_tokens, request.max_completion_tokens, request.model), (None, None, None));
}

#[test]
fn text_is_what_the_model_reads() {
    let text = |body: &str| read(body).unwrap().input.text_bytes;
    let plain = text(&with(r#""user":"aaaaaaaa""#));
    assert_eq!(plain, 2);
    assert_eq!(text(&with(r#""tools":[{"type":"function"}]"#)), plain + 12);
    assert_eq!(text(&with(r#""prediction":{"content":"abc"}"#)), plain + 10);
    assert_eq!(text(&with(r#""response_format":{"enum":[1,-1,0.5,true,null]}"#)), plain + 24);
    assert_eq!(text(r#"{"messages":[{"content":"\u00e9\n"}]}"#), 3);
    let call = r#"{"messages":[{"role":"assistant","tool_calls":[{"function":{"arguments":"{}"}}]}]}"#;
    assert_eq!(text(call), 19);
}

#[test]
fn media_is_counted_however_it_is_spelled() {
    let parts = |parts: &str| {
        let input = read(&format!(r#"{{"messages":[{{"content":[{parts}]}}]}}"#)).unwrap().input;
        (input.media_parts, input.text_bytes)
    };
    assert_eq!(parts(r#"{"type":"input_audio","input_audio":{"data":"AAAA"}}"#), (1, 0));
    assert_eq!(parts(r#"{"type":"file","file":{"file_id":"f"}},{"type":"text","text":"abc"}"#), (1, 3));
    assert_eq!(parts(r#"{"type":"text","text":"a","image_url":{"url":"http://x"}}"#), (1, 1));
    assert_eq!(parts(r#"{"type":"refusal","refusal":"no"}"#), (0, 2));
    assert_eq!(parts(r#"{"\u0074ype":"im\u0061ge_url"}"#), (1, 0));
    assert_eq!(parts(""), (0, 0));
}

#[test]
fn numbers_that_multiply_cost_are_exact() {
    for bad in [
        "-1",
        "0",
        "-0",
        "1.0",
        "1e3",
        "\"5\"",
        "true",
        "[]",
        "{}",
        "9007199254740993",
        "18446744073709551616",
        "1e400",
    ] {
        for field in ["max_tokens", "max_completion_tokens", "n"] {
            refused(&with(&format!(r#""{field}":{bad}"#)), Code::InvalidBody, Some(field));
        }
    }
    refused(&with(r#""n":129"#), Code::InvalidBody, Some("n"));
    assert_eq!(read(&with(r#""n": 128 "#)).unwrap().n, 128);
    refused(&with(r#""max_tokens":007"#), Code::InvalidJson, None);
}

#[test]
fn other_fields_have_their_types() {
    for (fields, code, param) in [
        (r#""model":1"#, Code::InvalidBody, "model"),
        (r#""model":null"#, Code::InvalidBody, "model"),
        (r#""model":"""#, Code::ModelNotFound, "model"),
        (r#""model":"a b""#, Code::ModelNotFound, "model"),
        (r#""model":"../x""#, Code::ModelNotFound, "model"),
        (r#""model":"\ud800""#, Code::InvalidJson, "model"),
        (r#""stream":1"#, Code::InvalidBody, "stream"),
        (r#""stream":"true""#, Code::InvalidBody, "stream"),
        (r#""stream_options":{}"#, Code::InvalidBody, "stream_options"),
        (r#""stream":false,"stream_options":{"include_usage":true}"#, Code::InvalidBody, "stream_options"),
        (r#""stream":true,"stream_options":[]"#, Code::InvalidBody, "stream_options"),
        (r#""stream":true,"stream_options":true"#, Code::InvalidBody, "stream_options"),
        (r#""stream":true,"stream_options":{"include_usage":1}"#, Code::InvalidBody, "stream_options.include_usage"),
        (
            r#""stream":true,"stream_options":{"include_obfuscation":""}"#,
            Code::InvalidBody,
            "stream_options.include_obfuscation",
        ),
        (r#""stream":true,"stream_options":{"x":true}"#, Code::UnknownField, "stream_options.x"),
        (
            r#""stream":true,"stream_options":{"Include_usage":true}"#,
            Code::UnknownField,
            "stream_options.Include_usage",
        ),
        (r#""service_tier":"priority""#, Code::InvalidBody, "service_tier"),
        (r#""service_tier":1"#, Code::InvalidBody, "service_tier"),
    ] {
        refused(&with(fields), code, Some(param));
    }
    assert!(read(&with(r#""service_tier":"fl\u0065x""#)).is_ok());
}

#[test]
fn messages_have_their_shape() {
    refused("{}", Code::InvalidBody, Some("messages"));
    refused(r#"{"model":"a"}"#, Code::InvalidBody, Some("messages"));
    let arrays = ["null", "[]", "{}", "\"x\"", "1", "[1]", "[null]", "[[]]", "[\"x\"]"];
    let contents = [
        r#"[{"content":1}]"#,
        r#"[{"content":{}}]"#,
        r#"[{"content":true}]"#,
        r#"[{"Content":"x"}]"#,
        r#"[{"AUDIO":{}}]"#,
    ];
    let parts = [
        r#""x""#,
        "{}",
        r#"{"type":1}"#,
        r#"{"text":"x"}"#,
        r#"{"Type":"text"}"#,
        r#"{"type":"text","Image_url":"x"}"#,
    ];
    let parts = parts.map(|part| format!(r#"[{{"content":[{part}]}}]"#));
    for bad in arrays.into_iter().chain(contents).chain(parts.iter().map(String::as_str)) {
        refused(&format!(r#"{{"messages":{bad}}}"#), Code::InvalidBody, Some("messages"));
    }
    for kind in ["video_url", "", "Text", "image"] {
        let body = format!(r#"{{"messages":[{{"content":[{{"type":"{kind}"}}]}}]}}"#);
        refused(&body, Code::UnsupportedContent, Some("messages"));
    }
}
