//! OpenAI's answers as data: a JSON document, or the events of a stream piece by piece. No I/O.

use bytes::Bytes;
use serde_json::{Value, json};

use super::directives::Directives;

/// An answer before it is sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) pieces: Vec<Bytes>,
}

/// Names of the trailers that `[trailers]` sends: one harmless, the others no upstream's to say.
pub(super) const TRAILERS: [&str; 5] =
    ["x-checked", "x-bulkhead-tenant", "set-cookie", "x-envoy-overloaded", "cache-control"];

const CREATED: u64 = 1_750_000_000;
const FINGERPRINT: &str = "fp_0123456789";
const WORDS: [&str; 8] = ["alfa", "brav", "char", "delt", "echo", "foxt", "golf", "hote"];
const DECOY: &str = r#"{"usage":{"prompt_tokens":999999,"completion_tokens":999999,"total_tokens":1999998}}"#;

/// A chat completion for a request that was understood.
pub(super) fn chat(request: &Value, directives: &Directives, id: u64) -> Answer {
    let turn = Turn::new(request, directives, id);
    if request["stream"] == json!(true) { turn.stream() } else { turn.document() }
}

/// The models list.
pub(super) fn models(names: &[String]) -> Answer {
    let data: Vec<Value> = names.iter().map(|name| model(name)).collect();
    json_answer(200, &json!({"object": "list", "data": data}))
}

/// One model.
pub(super) fn model_of(names: &[String], name: &str) -> Answer {
    let known = names.iter().any(|have| have == name);
    if known { json_answer(200, &model(name)) } else { error(404, "model_not_found", "The model does not exist.") }
}

fn model(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": CREATED, "owned_by": "model-upstream"})
}

/// An error in OpenAI's shape. `code` empty: null.
pub(super) fn error(status: u16, code: &str, message: &str) -> Answer {
    let kind = match status {
        429 if code == "insufficient_quota" => "insufficient_quota",
        429 => "tokens",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    let code = if code.is_empty() { Value::Null } else { json!(code) };
    json_answer(status, &json!({"error": {"message": message, "type": kind, "param": null, "code": code}}))
}

fn json_answer(status: u16, body: &Value) -> Answer {
    let body = serde_json::to_vec_pretty(body).unwrap();
    Answer { status, content_type: "application/json", pieces: vec![body.into()] }
}

/// The last user message as text.
pub(super) fn last_user_text(request: &Value) -> String {
    let messages = request["messages"].as_array().map_or(&[][..], Vec::as_slice);
    let last = messages.iter().rev().find(|message| message["role"] == "user");
    match last.map(|message| &message["content"]) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

/// One chat completion, worked out before it is written.
struct Turn<'a> {
    directives: &'a Directives,
    id: String,
    model: Value,
    choices: u64,
    tokens: u64,
    reasoning: u64,
    prompt: u64,
    finish: &'static str,
    include_usage: bool,
}

impl<'a> Turn<'a> {
    fn new(request: &Value, directives: &'a Directives, id: u64) -> Self {
        let bound = request["max_completion_tokens"].as_u64().or_else(|| request["max_tokens"].as_u64());
        let bound = bound.unwrap_or(u64::MAX);
        let reasoning = directives.reasoning.min(bound);
        let tokens = directives.tokens.min(bound - reasoning);
        let whole = tokens == directives.tokens && reasoning == directives.reasoning;
        let prompt = (request["messages"].to_string().len() as u64).div_ceil(4);
        Self {
            directives,
            id: format!("chatcmpl-{id:08}"),
            model: request["model"].clone(),
            choices: request["n"].as_u64().unwrap_or(1),
            tokens,
            reasoning,
            prompt: directives.prompt.unwrap_or(prompt),
            finish: if whole { "stop" } else { "length" },
            include_usage: request["stream_options"]["include_usage"] == json!(true),
        }
    }

    fn word(&self, at: u64) -> String {
        if at == 0 && self.directives.extra {
            return DECOY.into();
        }
        WORDS[(at % 8) as usize].into()
    }

    fn usage(&self) -> Value {
        let output = (self.tokens + self.reasoning) * self.choices;
        json!({
            "prompt_tokens": self.prompt, "completion_tokens": output, "total_tokens": self.prompt + output,
            "prompt_tokens_details": {"cached_tokens": self.directives.cached, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": self.reasoning * self.choices, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
            },
        })
    }

    fn document(&self) -> Answer {
        let text: String = (0..self.tokens).map(|at| self.word(at)).collect();
        let choices: Vec<Value> = (0..self.choices)
            .map(|index| {
                json!({
                    "index": index, "logprobs": null, "finish_reason": self.finish,
                    "message": {"role": "assistant", "content": text, "refusal": null, "annotations": []},
                })
            })
            .collect();
        let mut body = json!({
            "id": self.id, "object": "chat.completion", "created": CREATED, "model": self.model, "choices": choices,
            "usage": self.usage(), "service_tier": "default", "system_fingerprint": FINGERPRINT,
        });
        if self.directives.no_usage {
            body.as_object_mut().unwrap().remove("usage");
        }
        if self.directives.extra {
            body["x_vendor"] = json!({"usage": {"prompt_tokens": 1, "completion_tokens": 1}, "note": "not OpenAI's"});
        }
        json_answer(200, &body)
    }

    fn stream(&self) -> Answer {
        let mut events = Vec::new();
        for index in 0..self.choices {
            events.push(self.chunk(index, &json!({"role": "assistant", "content": "", "refusal": null}), None, false));
        }
        for at in 0..self.tokens {
            for index in 0..self.choices {
                events.push(self.chunk(index, &json!({"content": self.word(at)}), None, false));
            }
        }
        for index in 0..self.choices {
            let usage = self.directives.usage_last && index + 1 == self.choices;
            events.push(self.chunk(index, &json!({}), Some(self.finish), usage));
        }
        if self.include_usage && !self.directives.no_usage {
            let mut last = self.frame(json!([]));
            last["usage"] = self.usage();
            events.push(last);
        }
        let end = if self.directives.crlf { "\r\n\r\n" } else { "\n\n" };
        let event = |data: &str| Bytes::from(format!("data: {data}{end}"));
        let mut pieces: Vec<Bytes> = events.iter().map(|data| event(&data.to_string())).collect();
        pieces.push(event("[DONE]"));
        Answer { status: 200, content_type: "text/event-stream; charset=utf-8", pieces }
    }

    fn chunk(&self, index: u64, delta: &Value, finish: Option<&str>, usage: bool) -> Value {
        let choice = json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish});
        let mut frame = self.frame(json!([choice]));
        if usage {
            frame["usage"] = self.usage();
        } else if self.include_usage {
            frame["usage"] = Value::Null;
        }
        if self.directives.extra {
            frame["obfuscation"] = json!("aZ3");
        }
        frame
    }

    fn frame(&self, choices: Value) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": CREATED, "model": self.model,
            "service_tier": "default", "system_fingerprint": FINGERPRINT, "choices": choices,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(answer: &Answer) -> Vec<Value> {
        let whole = answer.pieces.concat();
        let text = std::str::from_utf8(&whole).unwrap();
        let data: Vec<&str> =
            text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
        assert_eq!(data.last(), Some(&"[DONE]"));
        data[..data.len() - 1].iter().map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    #[test]
    fn usage_comes_in_one_extra_chunk_and_only_when_asked_for() {
        let mut request = json!({"model": "m", "stream": true, "stream_options": {"include_usage": true}});
        let directives = Directives { tokens: 3, ..Directives::default() };
        let asked = events(&chat(&request, &directives, 1));
        assert_eq!(asked.len(), 1 + 3 + 1 + 1);
        assert!(asked[..5].iter().all(|chunk| chunk.get("usage") == Some(&Value::Null)));
        assert_eq!((&asked[5]["choices"], &asked[5]["usage"]["completion_tokens"]), (&json!([]), &json!(3)));

        request.as_object_mut().unwrap().remove("stream_options");
        assert!(events(&chat(&request, &directives, 1)).iter().all(|chunk| chunk.get("usage").is_none()));
    }

    #[test]
    fn the_requests_maximum_cuts_reasoning_first() {
        let request = json!({"model": "m", "max_completion_tokens": 5, "n": 2});
        let directives = Directives { tokens: 9, reasoning: 2, ..Directives::default() };
        let body: Value = serde_json::from_slice(&chat(&request, &directives, 1).pieces[0]).unwrap();
        assert_eq!(body["choices"][1]["finish_reason"], "length");
        assert_eq!(body["choices"][1]["message"]["content"], "alfabravchar");
        assert_eq!(body["usage"]["completion_tokens"], 10);
    }
}
