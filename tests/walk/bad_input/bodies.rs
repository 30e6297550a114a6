//! Bodies that are none, too large, not JSON, or say what may not be said.

use bulkhead_tests::gateway::Gateway;
use bulkhead_tests::policies::MODEL;

use super::{By, CHAT, JSON, Row, request};

/// Root members beside model and messages, and the code of each.
const MEMBERS: &[(&str, &str)] = &[
    (r#""frobnicate":1"#, "unknown_field"),
    (r#""api_base":"http://169.254.169.254/""#, "unknown_field"),
    (r#""Max_Tokens":1"#, "invalid_body"),
    (r#""max_tokens":-1"#, "invalid_body"),
    (r#""max_tokens":0"#, "invalid_body"),
    (r#""max_tokens":-0"#, "invalid_body"),
    (r#""max_tokens":9007199254740993"#, "invalid_body"),
    (r#""max_tokens":18446744073709551616"#, "invalid_body"),
    (r#""max_tokens":1e3"#, "invalid_body"),
    (r#""max_tokens":1e400"#, "invalid_body"),
    (r#""max_tokens":1.5"#, "invalid_body"),
    (r#""max_tokens":"16""#, "invalid_body"),
    (r#""max_tokens":true"#, "invalid_body"),
    (r#""max_tokens":[16]"#, "invalid_body"),
    (r#""max_tokens":016"#, "invalid_json"),
    (r#""max_tokens":NaN"#, "invalid_json"),
    (r#""max_tokens":8,"max_tokens":9"#, "invalid_json"),
    (r#""max_tokens":8,"max\u005ftokens":9"#, "invalid_json"),
    (r#""max_completion_tokens":-1"#, "invalid_body"),
    (r#""n":0"#, "invalid_body"),
    (r#""n":5"#, "invalid_body"),
    (r#""n":129"#, "invalid_body"),
    (r#""stream":"yes""#, "invalid_body"),
    (r#""stream_options":{"include_usage":true}"#, "invalid_body"),
    (r#""stream":true,"stream_options":{"include_cost":true}"#, "unknown_field"),
    (r#""service_tier":"priority""#, "invalid_body"),
    (r#""metadata":{"a":1,"a":2}"#, "invalid_json"),
    (r#""metadata":{"a":[{"b":1,"\u0062":2}]}"#, "invalid_json"),
];

/// Whole bodies, and the code of each.
fn whole() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let chat = format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"hi"}}]}}"#);
    let text = |text: String| text.into_bytes();
    let nested = |depth: usize| {
        let value = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        text(format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"hi"}}],"metadata":{value}}}"#))
    };
    vec![
        ("no body", Vec::new(), "missing_body"),
        ("a blank body", b" \r\n\t ".to_vec(), "missing_body"),
        ("half an object", b"{".to_vec(), "invalid_json"),
        ("an array", text(format!("[{chat}]")), "invalid_json"),
        ("null", b"null".to_vec(), "invalid_json"),
        ("two documents", text(format!("{chat}{chat}")), "invalid_json"),
        ("two lines", text(format!("{chat}\n{chat}")), "invalid_json"),
        ("a comma at the end", text(chat.replace("}]}", "}],}")), "invalid_json"),
        ("a comment", text(chat.replace('{', "{/* */")), "invalid_json"),
        ("single quotes", text(chat.replace('"', "'")), "invalid_json"),
        ("a byte order mark", text(format!("\u{feff}{chat}")), "invalid_json"),
        ("UTF-16", chat.encode_utf16().flat_map(u16::to_le_bytes).collect(), "invalid_json"),
        (
            "not UTF-8",
            chat.replace("hi", "h\u{7f}")
                .into_bytes()
                .iter()
                .map(|byte| if *byte == 0x7f { 0xff } else { *byte })
                .collect(),
            "invalid_json",
        ),
        ("an overlong code point", [b"{\"model\":\"".as_slice(), &[0xc0, 0xaf], b"\"}"].concat(), "invalid_json"),
        ("half a surrogate pair", text(chat.replace("hi", r"\ud800")), "invalid_json"),
        ("a raw control character", text(chat.replace("hi", "h\u{1}")), "invalid_json"),
        ("two models", text(chat.replacen('{', r#"{"model":"llama-3.1-70b","#, 1)), "invalid_json"),
        ("two contents", text(chat.replace(r#""content":"hi""#, r#""content":"a","content":"b""#)), "invalid_json"),
        ("depth 65", nested(64), "invalid_json"),
        ("depth 100,000", vec![b'['; 100_000], "invalid_json"),
        ("depth 100,000 in a field", nested(100_000), "invalid_json"),
        ("no messages", text(format!(r#"{{"model":"{MODEL}"}}"#)), "invalid_body"),
        ("messages that are none", text(format!(r#"{{"model":"{MODEL}","messages":"hi"}}"#)), "invalid_body"),
        ("no model", br#"{"messages":[{"role":"user","content":"hi"}]}"#.to_vec(), "invalid_body"),
        ("an unknown model", text(chat.replace(MODEL, "gpt-9")), "model_not_found"),
        ("another tenant's model", text(chat.replace(MODEL, "gpt-4o-mini")), "model_not_found"),
        (
            "an image for a model of text",
            text(chat.replace(r#""hi""#, r#"[{"type":"image_url","image_url":{"url":"https://x.example/a.png"}}]"#)),
            "unsupported_content",
        ),
    ]
}

pub fn rows(gateway: &Gateway) -> Vec<Row> {
    let status = |code: &str| if code == "model_not_found" { 404 } else { 400 };
    let row = |what: &str, body: &[u8], code| {
        let bytes = request(gateway, &format!("POST {CHAT}"), JSON, body);
        Row { what: what.to_owned(), bytes, status: status(code), code, by: By::Service }
    };
    let mut rows: Vec<Row> = whole().iter().map(|(what, body, code)| row(what, body, code)).collect();
    for (member, code) in MEMBERS {
        let body = format!(r#"{{{member},"model":"{MODEL}","messages":[{{"role":"user","content":"hi"}}]}}"#);
        rows.push(row(member, body.as_bytes(), code));
    }
    for (kind, headers) in [
        ("counted", format!("{JSON}content-length: 4194305\r\n")),
        ("chunked", format!("{JSON}transfer-encoding: chunked\r\n")),
    ] {
        let head = format!("POST {CHAT} HTTP/1.1\r\nauthorization: {}\r\n{headers}\r\n", gateway.bearer("acme"));
        let body = vec![b' '; 4_194_305];
        let chunk = [b"400001\r\n".as_slice(), &body, b"\r\n0\r\n\r\n"].concat();
        let bytes = [head.as_bytes(), if kind == "chunked" { &chunk } else { &body }].concat();
        rows.push(Row {
            what: format!("a byte over the limit, {kind}"),
            bytes,
            status: 413,
            code: "body_too_large",
            by: By::Chain,
        });
    }
    for (what, headers) in [
        ("gzip", "content-type: application/json\r\ncontent-encoding: gzip\r\n"),
        ("br", "content-type: application/json\r\ncontent-encoding: br\r\n"),
        ("zstd", "content-type: application/json\r\ncontent-encoding: zstd\r\n"),
        ("gzip, gzip", "content-type: application/json\r\ncontent-encoding: gzip, gzip\r\n"),
        ("no content type", ""),
        ("text", "content-type: text/plain\r\n"),
        ("a form", "content-type: multipart/form-data; boundary=x\r\n"),
        ("JSON in UTF-16", "content-type: application/json; charset=utf-16\r\n"),
        ("JSON in UTF-7", "content-type: application/json; charset=utf-7\r\n"),
    ] {
        let bytes =
            request(gateway, &format!("POST {CHAT}"), &format!("host: ai.example\r\n{headers}"), b"\x1f\x8b\x08");
        rows.push(Row { what: what.to_owned(), bytes, status: 415, code: "unsupported_encoding", by: By::Service });
    }
    rows
}
