//! The stage of the attacks on profile `inline`: the real module in a real Envoy, a fake in the service's place that allows
//! acme's chats and lends as it is told, clients that send piece by piece, and what must hold whatever they did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bulkhead_tests::client::{Answer, H2, PATIENCE, Raw};
use bulkhead_tests::configuration::{Profile, patient_checks};
use bulkhead_tests::eventually;
use bulkhead_tests::fake_service::{GateWord, Word, allow, inline_grant, lend, signed};
use bulkhead_tests::gateway::{Builder, CHAT, Gateway, chat_body};
use bulkhead_tests::upstream::Seen;
use bytes::Bytes;
use gateway_core::gate::{Ask, Cost, Grant, Outcome, Settlement, SyncRequest};
use gateway_core::wire;
use http::{HeaderMap, HeaderValue};
use tokio::time::timeout;

/// What the client of these tests shows; nobody checks it.
pub(crate) const BEARER: &str = "Bearer of-the-client";

/// Acme's key where the real service checks it.
fn bearer(gateway: &Gateway) -> String {
    if gateway.keys.is_empty() { BEARER.to_owned() } else { gateway.bearer("acme") }
}

/// A gateway in profile `inline` whose fake service grants every chat; grants are held, as [`held`] says.
pub(crate) async fn staged(build: impl FnOnce(Builder) -> Builder) -> Gateway {
    let builder = Gateway::builder().profile(Profile::Inline).fake_service(Word::Hang).gate(lends());
    let gateway = build(builder).envoy(|text| patient_checks(&text, "5s")).start().await;
    gateway.fake().tell(1, 0, Vec::new()); // an epoch: what workers know is fresh, and they may hold
    gateway.fake().say(word(&grant(&gateway, |_| {})));
    gateway
}

/// Lends what is needed and nothing beyond: each request waits for a lease of its own, and nothing is left of it;
/// what a client that left does not use is over soon.
pub(crate) fn lends() -> GateWord {
    GateWord::By(|asked| {
        let mut asked = asked.clone();
        asked.asks.iter_mut().for_each(|ask| ask.extra = None);
        let mut said = lend(&asked);
        said.lents.iter_mut().for_each(|lent| lent.expires_in_ms = 300);
        said
    })
}

/// The same, so many milliseconds late.
pub(crate) fn late(milliseconds: u64) -> GateWord {
    GateWord::Late(Duration::from_millis(milliseconds), Box::new(lends()))
}

/// A grant for chats over this gateway, changed by `change` before its handle is made.
pub(crate) fn grant(gateway: &Gateway, change: impl FnOnce(&mut Grant)) -> Grant {
    let authority = gateway.addr.to_string();
    inline_grant(|grant| {
        grant.authority = authority;
        change(grant);
    })
}

/// Allows with this grant, and writes the claim header as the service does.
pub(crate) fn word(grant: &Grant) -> Word {
    let text = signed(grant);
    let metadata = [(wire::DECISION, wire::DECISION_ALLOW), (wire::GRANT, text.as_str())];
    Word::Exactly(Box::new(allow(&metadata, &[(wire::CLAIM_HEADER, &grant.tenant)])))
}

/// Chats until the worker holds a grant; what reached the upstreams so far is forgotten.
pub(crate) async fn held(gateway: &Gateway) {
    eventually("a held grant", async || {
        let before = gateway.fake().asked().len();
        good(gateway).await;
        (gateway.fake().asked().len() == before).then_some(())
    })
    .await;
}

/// A chat on a connection of its own, served within a few tries: what went wrong before is over.
pub(crate) async fn good(gateway: &Gateway) {
    let text = chat_body("fine again [tokens=1]").to_string();
    let mut said = String::new();
    for _ in 0..12 {
        let mut client = Client::open(gateway, 1, Framing::Counted(text.len())).await;
        client.data(text.as_bytes(), true);
        match client.answer().await {
            Some(answer) if answer.status == 200 => return,
            other => said = format!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("the next good request is not served: {said}");
}

/// How HTTP/1.1 tells where a body ends; HTTP/2 says `content-length` for the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Counted(usize),
    Open,
}

/// One request under way: what is sent leaves at once, in order.
pub(crate) enum Client {
    One(tokio::sync::mpsc::UnboundedSender<Vec<u8>>, tokio::task::JoinHandle<Raw>, Framing),
    Two(H2, h2::client::ResponseFuture, h2::SendStream<Bytes>),
}

impl Client {
    /// Sends a head, over HTTP/1.1 or 2, for a body to come.
    pub(crate) async fn open(gateway: &Gateway, version: u8, framing: Framing) -> Self {
        Self::open_with(gateway, version, framing, &[]).await
    }

    /// The same with more headers.
    pub(crate) async fn open_with(gateway: &Gateway, version: u8, framing: Framing, more: &[(&str, &str)]) -> Self {
        if version == 2 {
            return Self::on(gateway, gateway.h2().await, framing, more).await;
        }
        let mut raw = gateway.connect().await;
        let (sender, mut pieces) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
        let length = match framing {
            Framing::Counted(length) => format!("content-length: {length}"),
            Framing::Open => "te: trailers\r\ntransfer-encoding: chunked".into(),
        };
        let more: String = more.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let (host, bearer) = (gateway.addr, bearer(gateway));
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: {host}\r\nauthorization: {bearer}\r\ncontent-type: application/json\r\n{more}{length}\r\n\r\n"
        );
        raw.send(head.as_bytes()).await;
        let sending = tokio::spawn(async move {
            while let Some(piece) = pieces.recv().await {
                raw.send(&piece).await;
            }
            raw
        });
        Self::One(sender, sending, framing)
    }

    /// A new stream of an HTTP/2 connection.
    pub(crate) async fn on(gateway: &Gateway, mut connection: H2, framing: Framing, more: &[(&str, &str)]) -> Self {
        let bearer = bearer(gateway);
        let length = if let Framing::Counted(length) = framing { length.to_string() } else { String::new() };
        let mut headers = vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
        headers.extend_from_slice(more);
        if !length.is_empty() {
            headers.push(("content-length", &length));
        }
        let (answer, stream) = connection.open("POST", CHAT, &headers, false).await.expect("a stream");
        Self::Two(connection, answer, stream)
    }

    /// More of the body, and perhaps its end. A stream that the gateway has ended takes no more.
    pub(crate) fn data(&mut self, data: &[u8], end: bool) {
        match self {
            Self::One(sender, _, framing) => {
                let mut bytes = data.to_vec();
                if *framing == Framing::Open {
                    bytes = if data.is_empty() {
                        bytes
                    } else {
                        [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
                    };
                    bytes.extend(if end { &b"0\r\n\r\n"[..] } else { b"" });
                }
                let _ = sender.send(bytes);
            }
            Self::Two(.., stream) => drop(stream.send_data(Bytes::copy_from_slice(data), end)),
        }
    }

    /// Trailers end the request; over HTTP/1.1 an open body alone has them.
    pub(crate) fn trailers(&mut self, trailers: &[(&'static str, &'static str)]) {
        match self {
            Self::One(sender, ..) => {
                let text: String = trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                let _ = sender.send(format!("0\r\n{text}\r\n").into_bytes());
            }
            Self::Two(.., stream) => {
                let pairs =
                    trailers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
                let _ = stream.send_trailers(HeaderMap::from_iter(pairs));
            }
        }
    }

    /// The answer; nothing where the connection or the stream ends without one.
    pub(crate) async fn answer(self) -> Option<Answer> {
        match self {
            Self::One(sender, sending, _) => {
                drop(sender);
                timeout(PATIENCE, sending).await.expect("it is sent in time").expect("a connection").answer().await
            }
            Self::Two(_connection, answer, _stream) => two(answer).await,
        }
    }

    /// Leaves: HTTP/1.1 closes, HTTP/2 resets the stream and keeps the connection for a moment.
    pub(crate) async fn leave(self) {
        match self {
            Self::One(sender, sending, _) => {
                drop(sender);
                let _ = timeout(PATIENCE, sending).await;
            }
            Self::Two(connection, answer, mut stream) => {
                stream.send_reset(h2::Reason::CANCEL);
                tokio::time::sleep(Duration::from_millis(10)).await;
                drop((answer, connection));
            }
        }
    }
}

async fn two(answer: h2::client::ResponseFuture) -> Option<Answer> {
    let (head, mut body) = timeout(PATIENCE, answer).await.expect("an answer in time").ok()?.into_parts();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let mut answer = Answer { status: head.status.as_u16(), headers, ..Answer::default() };
    while let Some(data) = timeout(PATIENCE, body.data()).await.expect("an answer in time") {
        let Ok(data) = data else { return Some(answer) };
        let _ = body.flow_control().release_capacity(data.len());
        answer.body.extend_from_slice(&data);
    }
    answer.complete = true;
    Some(answer)
}

/// A whole chat over HTTP/1.1 or 2, sent at once.
pub(crate) async fn chat(gateway: &Gateway, version: u8, text: &str) -> Option<Answer> {
    let body = chat_body(text).to_string();
    let mut client = Client::open(gateway, version, Framing::Counted(body.len())).await;
    client.data(body.as_bytes(), true);
    client.answer().await
}

/// Holds a refusal against its status and code.
pub(crate) fn refused(answer: Option<&Answer>, status: u16, code: &str, what: &str) {
    let answer = answer.unwrap_or_else(|| panic!("{what}: no answer"));
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {}", answer.text());
}

/// The chats that reached the upstreams.
pub(crate) fn upstream(gateway: &Gateway) -> Vec<Seen> {
    let seen = gateway.upstream.record().into_iter().chain(gateway.upstream_2.record());
    seen.filter(|seen| !seen.path.starts_with("/bulkhead.v1.Gate/")).collect()
}

/// Every report so far.
pub(crate) fn reports(gateway: &Gateway) -> Vec<SyncRequest> {
    let (fake, mut reports) = (gateway.fake(), gateway.fake().syncs());
    reports.extend(fake.leases().into_iter().filter_map(|lease| lease.report));
    reports
}

/// What was settled, once each, by lease and number.
pub(crate) fn settled(gateway: &Gateway) -> BTreeMap<(Vec<u8>, u32), Settlement> {
    let settlements = reports(gateway).into_iter().flat_map(|report| report.settlements);
    let name = |one: Settlement| one.leased.clone().map(|leased| ((leased.lease.to_vec(), leased.number), one));
    settlements.filter_map(name).collect()
}

/// What must hold whatever was done: Envoy and its module live, the next good request is served, what reached the upstreams
/// is what was admitted, once each, and no lease was used beyond what was asked of it.
pub(crate) async fn sound(gateway: &Gateway) {
    gateway.fake().gate(lends());
    gateway.fake().say(word(&grant(gateway, |_| {})));
    good(gateway).await;
    assert!(gateway.is_whole().await, "Envoy or its module did not survive\n{}", gateway.envoy.tail());
    let log = gateway.envoy.log();
    assert!(!log.contains("panicked") && !log.contains("critical"), "{}", gateway.envoy.tail());
    let seen: Vec<String> = upstream(gateway).iter().filter_map(|seen| seen.header("x-request-id")).collect();
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), upstream(gateway).len(), "one request, once upstream");
    eventually("a settlement of each request upstream, as sent, and of each answer a request", async || {
        let settled: BTreeMap<String, Outcome> = settled(gateway)
            .into_values()
            .filter_map(|one| Some((one.leased.clone()?.request_id, one.outcome())))
            .collect();
        let sent = |id: &String| settled.get(id).is_some_and(|outcome| *outcome != Outcome::NotSent);
        let answered = |(id, outcome): (&String, &Outcome)| *outcome != Outcome::Answered || seen.contains(id);
        (seen.iter().all(sent) && settled.iter().all(answered)).then_some(())
    })
    .await;
    within_what_was_asked(gateway);
}

fn within_what_was_asked(gateway: &Gateway) {
    let asks: BTreeMap<Vec<u8>, Ask> =
        gateway.fake().leases().into_iter().flat_map(|lease| lease.asks).map(|ask| (ask.id.to_vec(), ask)).collect();
    let mut used: BTreeMap<Vec<u8>, (u64, u64)> = BTreeMap::new();
    for ((lease, number), settlement) in settled(gateway) {
        let reserved = settlement.leased.and_then(|leased| leased.reserved).expect("what was reserved");
        let sum = used.entry(lease).or_default();
        *sum = (sum.0 + reserved.tokens, sum.1 + 1);
        assert!(number > 0 && reserved.requests == 1);
    }
    for (lease, (tokens, requests)) in used {
        let ask = asks.get(&lease).expect("admitted out of a lease that was asked for");
        let total = |of: fn(&Cost) -> u64| ask.needs.iter().chain(&ask.extra).map(of).sum::<u64>();
        assert!(tokens <= total(|cost| cost.tokens) && requests <= total(|cost| cost.requests), "{ask:?}");
    }
}
