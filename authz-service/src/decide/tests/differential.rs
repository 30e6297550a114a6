//! Portable and inline decide alike: whatever comes, the service's word on the whole request is the word on its head
//! followed by the module's on its body, by the terms that crossed the wire.

use std::collections::BTreeMap;

use gateway_core::admission::{Terms, admit_chat};
use gateway_core::gate::{AdmissionTerms, BodyEdits, Cost};
use prost::Message as _;

use super::*;

const REQUESTS: u32 = 8_000;

/// What becomes of a request.
#[derive(Debug, PartialEq)]
struct Fate {
    denial: Option<Denial>,
    tenant: Option<String>,
    model: String,
    provider: String,
    region: String,
    sent: Option<Sent>,
}

/// What leaves, and what is reserved for it.
#[derive(Debug, PartialEq)]
struct Sent {
    cluster: String,
    upstream_path: String,
    edits: BodyEdits,
    reserved: Cost,
    stream: bool,
    hide_usage: bool,
    own_key: bool,
}

#[test]
fn the_head_and_then_the_body_are_decided_as_the_whole() {
    let mut world = World::new();
    world.credentials.extend(["bh_nobody".to_owned(), world.credentials[0].replace("bh_", "bh-")]);
    let mut dice = Dice(7);
    let mut met: BTreeMap<&str, u32> = BTreeMap::new();
    for number in 0..REQUESTS {
        let ask = Ask { number, ..request(&mut dice, &world) };
        let (whole, parts) = (portable(&ask, &world), inline(&ask, &world));
        assert_eq!(whole, parts, "{ask:?}\n{}", String::from_utf8_lossy(&ask.body));
        *met.entry(whole.denial.map_or("admitted", |denial| denial.code.row().code)).or_default() += 1;
    }
    for code in [
        "admitted",
        "invalid_json",
        "invalid_body",
        "missing_body",
        "unknown_field",
        "unsupported_content",
        "model_conflict",
        "model_not_found",
        "model_not_allowed",
        "no_eligible_target",
        "prompt_too_large",
        "body_too_large",
        "tenant_conflict",
        "missing_credential",
        "invalid_credential",
    ] {
        assert!(met.get(code).is_some_and(|times| *times >= 20), "{code} is hardly met: {met:?}");
    }
}

fn portable(ask: &Ask, world: &World) -> Fate {
    match ask.whole(world) {
        Decision::Deny(deny) => denied(*deny),
        Decision::Allow(allow) => Fate {
            denial: None,
            tenant: Some(allow.grant.tenant),
            model: allow.grant.model,
            provider: allow.grant.provider,
            region: allow.grant.region,
            sent: Some(Sent {
                cluster: allow.cluster,
                upstream_path: allow.grant.upstream_path,
                edits: allow.grant.edits.unwrap(),
                reserved: allow.grant.reserved.unwrap(),
                stream: allow.grant.stream,
                hide_usage: allow.grant.hide_usage,
                own_key: allow.credential.unwrap().1.expose() == b"sk-own",
            }),
        },
    }
}

fn inline(ask: &Ask, world: &World) -> Fate {
    let grant = match ask.head(world, 5) {
        Decision::Deny(deny) => return denied(*deny),
        Decision::Allow(allow) => allow.grant,
    };
    let terms = AdmissionTerms::decode(grant.terms.unwrap().encode_to_vec().as_slice()).unwrap();
    let terms = Terms::try_from(&terms).unwrap();
    let tenant = Some(grant.tenant);
    match admit_chat(&terms, &ask.body) {
        Err(refused) => Fate {
            denial: Some(refused.denial),
            tenant,
            model: refused.model.map(|model| model.to_string()).unwrap_or_default(),
            provider: refused.provider,
            region: refused.region,
            sent: None,
        },
        Ok(admitted) => Fate {
            denial: None,
            tenant,
            model: admitted.model.to_string(),
            provider: admitted.target.provider.to_owned(),
            region: admitted.target.region.to_owned(),
            sent: Some(Sent {
                cluster: admitted.target.cluster.to_owned(),
                upstream_path: admitted.target.upstream_path.to_owned(),
                edits: admitted.admission.edits,
                reserved: admitted.admission.reserved,
                stream: admitted.admission.stream,
                hide_usage: admitted.admission.hide_usage,
                own_key: admitted.target.key == gate::Key::Own,
            }),
        },
    }
}

fn denied(deny: Deny) -> Fate {
    Fate {
        denial: Some(deny.denial),
        tenant: deny.facts.tenant.map(|tenant| tenant.to_string()),
        model: deny.facts.model.map(|model| model.to_string()).unwrap_or_default(),
        provider: deny.facts.provider,
        region: deny.facts.region,
        sent: None,
    }
}

/// Splitmix64: the same requests in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap()
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

const MODELS: &[&str] = &[
    "meta/llama-8b",
    "llama",
    "small",
    "gpt",
    "gpt-4",
    "phi",
    "phi-4",
    "nowhere",
    "no-such-model",
    "LLAMA",
    "-llama",
    "llama 8b",
];

fn request(dice: &mut Dice, world: &World) -> Ask {
    let body = body(dice);
    // mostly somebody whom the world knows
    let credential = dice.below(world.credentials.len() + 8) % world.credentials.len();
    let mut ask = Ask { body, ..Ask::chat(&world.credentials[credential], "") };
    if dice.once_in(3) {
        let tenant = dice.one(&["acme", "acme", "globex", "nobody", "ACME"]);
        let model = dice.one(&["llama", "small", "gpt", "phi", "phi-4", "nowhere", "other", "gpt!"]);
        ask.path = format!("/t/{tenant}/m/{model}");
    }
    ask.headers.retain(|(name, _)| *name != "content-length");
    if !dice.once_in(4) {
        ask.headers.push(("content-length", ask.body.len().to_string()));
    }
    if dice.once_in(3) {
        ask.headers.push(("x-tenant-id", dice.one(&["acme", "acme", "globex", "nobody"]).to_owned()));
    }
    if dice.once_in(30) {
        ask.headers.retain(|(name, _)| *name != "x-api-key");
    }
    ask
}

fn body(dice: &mut Dice) -> Vec<u8> {
    let mut fields = Vec::new();
    if !dice.once_in(4) {
        let model = if dice.once_in(3) { dice.one(MODELS) } else { dice.one(&["llama", "gpt-4", "phi"]) };
        fields.push(format!(r#""model":"{model}""#));
    }
    if dice.once_in(20) {
        fields.push(dice.one(&[r#""model":7"#, r#""model":null"#, r#""m\u006fdel":"gpt""#, r#""Model":"gpt""#]).into());
    }
    let others = [
        r#""max_tokens":5"#,
        r#""max_tokens":100000"#,
        r#""max_tokens":null"#,
        r#""max_completion_tokens":17"#,
        r#""n":2"#,
        r#""n":3"#,
        r#""stream":true"#,
        r#""stream":true,"stream_options":{"include_usage":true}"#,
        r#""stream":true,"stream_options":{"include_usage":false}"#,
        r#""stream":true,"stream_options":{}"#,
        r#""temperature":0.5"#,
        r#""top_k":4"#,
        r#""min_p":0"#,
        r#""unheard_of":1"#,
        r#""tools":[{"type":"function","function":{"name":"f"}}]"#,
    ];
    for _ in 0..dice.below(4) {
        fields.push(dice.one(&others).to_owned());
    }
    let image = r#"[{"type":"text","text":"look"},{"type":"image_url","image_url":{"url":"data:x"}}]"#.to_owned();
    let content = match dice.below(12) {
        0 => image,
        1 => format!("\"{}\"", "word ".repeat(60 + dice.below(100))),
        2 => format!("\"{}\"", "word ".repeat(310)),
        _ => format!("\"{}\"", "hi ".repeat(dice.below(20))),
    };
    if !dice.once_in(25) {
        fields.push(format!(r#""messages":[{{"role":"user","content":{content}}}]"#));
    }
    // in any order
    for at in (1..fields.len()).rev() {
        fields.swap(at, dice.below(at + 1));
    }
    let blank = dice.one(&["", " ", "\n  "]);
    let mut body = format!("{{{blank}{}{blank}}}", fields.join(&format!(",{blank}"))).into_bytes();
    match dice.below(40) {
        0 => body.clear(),
        1 => body.truncate(dice.below(body.len())),
        2 => body.push(b'}'),
        3 => body.insert(1, 0xff),
        _ => {}
    }
    body
}
