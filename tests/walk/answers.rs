//! Answers on their way down: streams stay streams, nothing but the usage chunk that nobody asked for is taken out of one,
//! an answer that cannot be metered or is another tenant's reaches nobody, and every answer is hardened (`mesh.md` §0.1
//! facts 6, 8, 14).

use std::fmt::Write as _;

use bulkhead_tests::client::{Answer, Part};
use bulkhead_tests::configuration::patient;
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use serde_json::{Value, json};

/// Both upstreams: the tenant's model is on the first (HTTP/1.1) or on the second (HTTP/2).
async fn gateway_to(cluster: &'static str) -> Gateway {
    let builder = Gateway::builder().policies(|set| set.spec("Provider", "gpu-pool")["cluster"] = json!(cluster));
    builder.envoy(|text| patient(&text, "10s")).start().await
}

const CLUSTERS: [&str; 2] = ["model-upstream", "model-upstream-2"];

fn streamed(text: &str, asked: bool) -> Value {
    let mut body = chat_body(text);
    body["stream"] = json!(true);
    if asked {
        body["stream_options"] = json!({"include_usage": true});
    }
    body
}

async fn h2(gateway: &Gateway, body: &Value) -> Answer {
    let bearer = gateway.bearer("acme");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let parts = vec![Part::Last(body.to_string().into())];
    gateway.h2().await.request("POST", CHAT, &headers, parts).await.expect("an answer")
}

/// What the model writes, without and with its usage chunk: as the upstream of these tests spells it, byte for byte.
fn stream_text(model_id: &str, tokens: u64, crlf: bool, with_usage: Option<u64>) -> String {
    let end = if crlf { "\r\n\r\n" } else { "\n\n" };
    let frame = |choices: Value, usage: Value| {
        json!({
            "id": model_id, "object": "chat.completion.chunk", "created": 1_750_000_000, "model": "llama-3.1-8b",
            "service_tier": "default", "system_fingerprint": "fp_0123456789", "choices": choices, "usage": usage,
        })
    };
    let delta =
        |delta: Value, finish: Value| json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
    let words = ["alfa", "brav", "char", "delt", "echo", "foxt", "golf", "hote"];
    let mut frames =
        vec![frame(delta(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null), Value::Null)];
    frames.extend(
        words
            .iter()
            .cycle()
            .take(tokens as usize)
            .map(|word| frame(delta(json!({"content": word}), Value::Null), Value::Null)),
    );
    frames.push(frame(delta(json!({}), json!("stop")), Value::Null));
    let mut text: String = frames.iter().fold(String::new(), |mut text, frame| {
        let _ = write!(text, "data: {frame}{end}");
        text
    });
    if let Some(prompt) = with_usage {
        let usage = json!({
            "prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
            },
        });
        let _ = write!(text, "data: {}{end}", frame(json!([]), usage));
    }
    let _ = write!(text, "data: [DONE]{end}");
    text
}

#[tokio::test]
async fn the_usage_chunk_is_shown_to_whoever_asked_and_nothing_else_is_touched() {
    for cluster in CLUSTERS {
        let gateway = gateway_to(cluster).await;
        let mut answered = 0;
        for asked in [false, true] {
            for crlf in [false, true] {
                for split in [
                    "",
                    "[split=1]",
                    "[split=2]",
                    "[split=3]",
                    "[split=7]",
                    "[split=100]",
                    "[split=4096]",
                    "[counted]",
                    "[counted] [split=50]",
                ] {
                    let text = format!("[tokens=9] [prompt=5] {split} {}", if crlf { "[crlf]" } else { "" });
                    let what = format!("{cluster}, asked {asked}: {text}");
                    let body = streamed(&text, asked);
                    let answer =
                        if answered % 2 == 0 { gateway.chat("acme", &body).await } else { h2(&gateway, &body).await };
                    answered += 1;
                    assert_eq!((answer.status, answer.complete), (200, true), "{what}");
                    // nothing that may get shorter is counted
                    assert!(asked || answer.header("content-length").is_none(), "{what}");
                    let got = answer.text();
                    let id = got.split('"').nth(3).unwrap_or_default();
                    let id = if id.starts_with("chatcmpl-") { id.to_owned() } else { id_of(&got) };
                    assert_eq!(got, stream_text(&id, 9, crlf, asked.then_some(5)), "{what}");
                }
            }
        }
        eventually("the settlements of all", async || {
            let usage = gateway.service().usage("acme").await;
            (usage["inputTokens"] == 5 * answered && usage["outputTokens"] == 9 * answered).then_some(())
        })
        .await;
        assert!(gateway.is_whole().await);
    }
}

fn id_of(text: &str) -> String {
    let at = text.find("chatcmpl-").expect("an id");
    text[at..].chars().take_while(|c| *c != '"').collect()
}

#[tokio::test]
async fn a_stream_stays_a_stream() {
    for cluster in CLUSTERS {
        let gateway = gateway_to(cluster).await;
        let upstream = if cluster == "model-upstream" { &gateway.upstream } else { &gateway.upstream_2 };
        // nothing comes after three chunks, and all three are with the client while the answer is open
        let mut stream = gateway.chat_stream("acme", &streamed("[tokens=9] [stall=3]", false)).await;
        assert_eq!((stream.status, stream.until("brav").await.matches("data: ").count()), (200, 3));
        assert_eq!((upstream.record()[0].pieces_sent, upstream.record()[0].answered), (3, false));
        drop(stream);

        let mut dripping = gateway.chat_stream("acme", &streamed("[tokens=4] [drip=80ms]", false)).await;
        dripping.until("alfa").await;
        let sent = upstream.record()[1].pieces_sent;
        assert!(sent < 6, "{cluster}: the first word came after {sent} of 8 chunks");
        let rest = dripping.until("[DONE]").await;
        assert!(!rest.contains("prompt_tokens"), "{rest}");
        assert!(dripping.next().await.is_none_or(|piece| piece.iter().all(u8::is_ascii_whitespace)));
        assert!(gateway.is_whole().await);
    }
}

#[tokio::test]
async fn a_document_comes_whole_in_any_pieces() {
    for cluster in CLUSTERS {
        let gateway = gateway_to(cluster).await;
        for text in ["[split=1]", "[split=13]", "[echo-json-extra]", "[tokens=4000]", "[no-usage]", "[close]"] {
            let body = chat_body(&format!("[tokens=3] {text}"));
            for answer in [gateway.chat("acme", &body).await, h2(&gateway, &body).await] {
                assert_eq!((answer.status, answer.complete), (200, true), "{cluster} {text}");
                assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
                assert!(answer.json()["choices"][0]["message"]["content"].is_string(), "{}", answer.text());
                assert_eq!(answer.json().get("usage").is_none(), text == "[no-usage]");
            }
        }
        assert!(gateway.is_whole().await);
    }
}

#[tokio::test]
async fn an_answer_without_a_body_is_an_answer() {
    for cluster in CLUSTERS {
        let gateway = gateway_to(cluster).await;
        // dripping: over HTTP/2 the frame that ends an answer of no bytes comes when the client has read the head, and left
        for body in [chat_body("[empty]"), chat_body("[empty] [drip=100ms]"), streamed("[empty] [counted]", false)] {
            for answer in [gateway.chat("acme", &body).await, h2(&gateway, &body).await] {
                assert_eq!((answer.status, answer.complete, answer.body.len()), (200, true, 0), "{cluster} {body}");
            }
        }
        for line in gateway.balanced("acme").await.iter().filter(|line| line["reserved"].is_object()) {
            assert_eq!(line["outcome"], "answered", "{cluster}: {line}");
            assert_eq!(line["charged"], line["reserved"], "{cluster}: the model did not say what it did");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_metered_or_is_another_tenants_reaches_nobody() {
    for cluster in CLUSTERS {
        let gateway = gateway_to(cluster).await;
        for (text, code) in [
            ("[gzip]", "upstream_encoded"),
            ("[tag=globex]", "tenant_mismatch"),
            ("[tag=Acme]", "tenant_mismatch"),
            ("[tag=acme, globex]", "tenant_mismatch"),
            ("[tag=globex] [drip=30ms]", "tenant_mismatch"),
            ("[tag=globex] [status=429]", "tenant_mismatch"),
            ("[tag=globex] [split=5] [tokens=2000]", "tenant_mismatch"),
        ] {
            let text = format!("[tokens=20] {text}");
            for body in [chat_body(&text), streamed(&text, true), streamed(&text, false)] {
                for answer in [gateway.chat("acme", &body).await, h2(&gateway, &body).await] {
                    assert_eq!(
                        (answer.status, answer.code().as_str()),
                        (502, code),
                        "{cluster} {body}: {}",
                        answer.text()
                    );
                    assert!(answer.complete, "{body}");
                    let whole = format!("{:?} {}", answer.headers, answer.text());
                    for theirs in ["chatcmpl", "alfa", "globex", "gzip", "model-upstream", "rate_limit"] {
                        assert!(!whole.contains(theirs), "`{theirs}` of the answer came through: {whole}");
                    }
                    assert_eq!(answer.json()["error"]["request_id"].as_str(), answer.header("x-request-id"));
                }
            }
        }
        assert_eq!(gateway.chat("acme", &chat_body("[tag=acme] [tokens=1]")).await.status, 200);
        let audit = eventually("settlements of all", async || {
            let audit = gateway.service().audit().await;
            let chats = audit.iter().filter(|line| line["reserved"].is_object());
            let settled = chats.clone().all(|line| line["charged"].is_object());
            (settled && chats.count() > 7 * 3 * 2).then(|| audit.clone())
        })
        .await;
        let failed: Vec<_> = audit.iter().filter(|line| line["status"] == 502).collect();
        assert_eq!(failed.len(), 7 * 3 * 2);
        for line in failed {
            assert!(["upstream_encoded", "tenant_mismatch"].contains(&line["code"].as_str().unwrap()), "{line}");
            assert_eq!(line["outcome"], "failed", "{line}");
            assert!(line["charged"]["tokens"].as_u64() > Some(0), "the model did work: {line}");
        }
        assert!(gateway.is_whole().await);
    }
}

#[tokio::test]
async fn trailers_of_an_answer_say_nothing_that_is_ours() {
    for cluster in CLUSTERS {
        let gateway = gateway_to(cluster).await;
        let bearer = gateway.bearer("acme");
        for body in [chat_body("[trailers]"), streamed("[trailers] [tokens=3]", false), streamed("[trailers]", true)] {
            let text = body.to_string();
            let head = format!(
                "POST {CHAT} HTTP/1.1\r\nhost: ai.example\r\nauthorization: {bearer}\r\ncontent-type: application/json\r\nte: trailers\r\n"
            );
            let mut connection = gateway.connect().await;
            connection.send(format!("{head}content-length: {}\r\n\r\n{text}", text.len()).as_bytes()).await;
            let h1 = connection.answer().await.expect("an answer");
            let headers =
                [("authorization", bearer.as_str()), ("content-type", "application/json"), ("te", "trailers")];
            let parts = vec![Part::Last(text.clone().into())];
            let h2 = gateway.h2().await.request("POST", CHAT, &headers, parts).await.expect("an answer");
            for (answer, carried) in [(&h2, true), (&h1, body["stream"] == true)] {
                assert_eq!((answer.status, answer.complete), (200, true), "{cluster} {text}");
                let names: Vec<&str> = answer.trailers.iter().map(|(name, _)| name.as_str()).collect();
                // a counted HTTP/1.1 body has no trailers; what the upstream sends behind one is lost there
                let may = carried && (cluster == "model-upstream-2" || body["stream"] == true);
                assert_eq!(names, if may { vec!["x-checked"] } else { vec![] }, "{cluster} {text}");
                assert_eq!(answer.header("x-bulkhead-tenant"), Some("acme"));
            }
        }
        assert!(gateway.is_whole().await);
    }
}

#[tokio::test]
async fn every_answer_is_hardened_and_names_no_software() {
    let gateway = Gateway::builder().start().await;
    let bearer = gateway.bearer("acme");
    let mut answers = vec![
        ("JSON", gateway.chat("acme", &chat_body("[tokens=1]")).await),
        ("stream", gateway.chat("acme", &streamed("[tokens=1]", false)).await),
        ("HTTP/2", h2(&gateway, &chat_body("[tokens=1]")).await),
        ("the model's 429", gateway.chat("acme", &chat_body("[status=429]")).await),
        ("the model's 500", gateway.chat("acme", &chat_body("[status=500]")).await),
        ("models", gateway.get("/v1/models", &[("authorization", &bearer)]).await),
    ];
    for (what, answer) in &answers {
        for (name, value) in [
            ("cache-control", "no-store"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("strict-transport-security", "max-age=31536000"),
            ("x-bulkhead-tenant", "acme"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{what}: {name}");
        }
    }
    assert_eq!(answers[3].1.header("retry-after"), Some("7"), "the provider's own hint stays");
    answers.push(("denial of the service", gateway.chat("acme", &json!({"messages": []})).await));
    answers.push(("no credential", gateway.get("/v1/models", &[]).await));
    answers.push(("denial of the module", gateway.chat("acme", &chat_body("[gzip]")).await));
    answers.push(("refusal of Envoy", gateway.post(CHAT, &[("connection", "upgrade"), ("upgrade", "x")], "").await));
    for (what, answer) in &answers {
        let id = answer.header("x-request-id").unwrap_or_else(|| panic!("{what} has no id"));
        assert_eq!(id.len(), 36, "{what}");
        let named = |name: &str| {
            ["server", "x-powered-by", "via", "openai-version", "openai-processing-ms"].contains(&name)
                || name.starts_with("x-envoy")
        };
        assert!(!answer.headers.iter().any(|(name, _)| named(name)), "{what}: {:?}", answer.headers);
        let limits: Vec<_> = answer.headers.iter().filter(|(name, _)| name.starts_with("x-ratelimit-")).collect();
        assert!(
            limits.iter().all(|(_, value)| value != "10000" && value != "9999"),
            "{what} shows the platform's own: {limits:?}"
        );
    }
}
