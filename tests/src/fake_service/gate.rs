//! The fake's Gate, spoken by hand so that it can say what no honest server would: half messages, two for one, none.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::post;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{FutureExt as _, future::BoxFuture, stream};
use gateway_core::gate::{Ask, Cost, LeaseRequest, LeaseResponse, Lent, LimitRefusal, SyncRequest, SyncResponse};
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use prost::Message;

/// What the fake's Gate says to a call.
#[derive(Clone, Debug)]
pub enum GateWord {
    /// The report is taken; every ask gets its needs and its extra, for five seconds.
    Lends,
    /// The report is taken; nothing is lent, for the reason of this code.
    Refuses(&'static str),
    /// What this makes of the request; a Sync is answered as by [`GateWord::Lends`].
    By(fn(&LeaseRequest) -> LeaseResponse),
    /// OK, with these messages, well made or not.
    Messages(Vec<Vec<u8>>),
    /// What the word inside says, each message twice.
    Twice(Box<GateWord>),
    /// What the word inside says, after this long. The request is recorded when it comes.
    Late(Duration, Box<GateWord>),
    /// Nothing, ever; the call stays open.
    Hang,
    /// A gRPC error.
    Fails(tonic::Code),
}

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) lease: Mutex<GateWord>,
    pub(super) sync: Mutex<GateWord>,
    /// Epoch, floor and revocations of every answer.
    pub(super) news: Mutex<SyncResponse>,
    pub(super) leases: Mutex<Vec<LeaseRequest>>,
    pub(super) syncs: Mutex<Vec<SyncRequest>>,
}

impl Default for Gate {
    fn default() -> Self {
        let (lease, sync) = (Mutex::new(GateWord::Lends), Mutex::new(GateWord::Lends));
        Self { lease, sync, news: Mutex::default(), leases: Mutex::default(), syncs: Mutex::default() }
    }
}

/// One call: the report in it, and what is asked.
enum Call {
    Lease(LeaseRequest),
    Sync(SyncRequest),
}

/// The two calls, to be served beside ext_authz.
pub(super) fn router(gate: Arc<Gate>) -> Router {
    Router::new().route("/bulkhead.v1.Gate/{call}", post(answer)).with_state(gate)
}

async fn answer(State(gate): State<Arc<Gate>>, Path(name): Path<String>, request: Request) -> Response {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let message = body.get(5..).unwrap_or_default(); // a frame: flag, four bytes of length
    let (call, word) = match name.as_str() {
        "Lease" => {
            let asked = LeaseRequest::decode(message).expect("a LeaseRequest");
            gate.leases.lock().unwrap().push(asked.clone());
            (Call::Lease(asked), gate.lease.lock().unwrap().clone())
        }
        "Sync" => {
            let asked = SyncRequest::decode(message).expect("a SyncRequest");
            gate.syncs.lock().unwrap().push(asked.clone());
            (Call::Sync(asked), gate.sync.lock().unwrap().clone())
        }
        _ => return framed(Err(tonic::Code::Unimplemented)),
    };
    let news = gate.news.lock().unwrap().clone();
    framed(said(&word, &call, &news).await)
}

/// The messages of an answer.
fn said<'a>(
    word: &'a GateWord,
    call: &'a Call,
    news: &'a SyncResponse,
) -> BoxFuture<'a, Result<Vec<Vec<u8>>, tonic::Code>> {
    async move {
        let by = |lents: fn(&LeaseRequest) -> LeaseResponse| Ok(vec![message(call, news, lents)]);
        match word {
            GateWord::Lends => by(lend),
            GateWord::By(lents) => by(*lents),
            GateWord::Refuses(code) => {
                let Call::Lease(asked) = call else { return by(lend) };
                let refused = |ask: &Ask| {
                    let refused = LimitRefusal { code: (*code).into(), ..LimitRefusal::default() };
                    Lent { id: ask.id.clone(), refused: Some(refused), ..Lent::default() }
                };
                let report = asked.report.as_ref().map(|report| taken(report, news));
                let lents = asked.asks.iter().map(refused).collect();
                Ok(vec![LeaseResponse { report, lents }.encode_to_vec()])
            }
            GateWord::Messages(messages) => Ok(messages.clone()),
            GateWord::Twice(word) => {
                Ok(said(word, call, news).await?.into_iter().flat_map(|one| [one.clone(), one]).collect())
            }
            GateWord::Late(time, word) => {
                tokio::time::sleep(*time).await;
                said(word, call, news).await
            }
            GateWord::Hang => std::future::pending().await,
            GateWord::Fails(code) => Err(*code),
        }
    }
    .boxed()
}

fn message(call: &Call, news: &SyncResponse, lents: fn(&LeaseRequest) -> LeaseResponse) -> Vec<u8> {
    match call {
        Call::Sync(report) => taken(report, news).encode_to_vec(),
        Call::Lease(asked) => {
            let report = asked.report.as_ref().map(|report| taken(report, news));
            LeaseResponse { report, ..lents(asked) }.encode_to_vec()
        }
    }
}

/// The answer to a report: what the worker does not know yet.
fn taken(report: &SyncRequest, news: &SyncResponse) -> SyncResponse {
    let mut news = SyncResponse { sequence: report.sequence, ..news.clone() };
    news.revocations.retain(|revocation| revocation.epoch > report.epoch);
    news
}

/// Everything that is asked, for five seconds; the report's answer is put in by the fake.
#[must_use]
pub fn lend(asked: &LeaseRequest) -> LeaseResponse {
    LeaseResponse { report: None, lents: asked.asks.iter().map(lend_one).collect() }
}

fn lend_one(ask: &Ask) -> Lent {
    let amount = ask.needs.iter().chain(&ask.extra).fold(Cost::default(), |sum, cost| Cost {
        tokens: sum.tokens.saturating_add(cost.tokens),
        gpu_ms: sum.gpu_ms.saturating_add(cost.gpu_ms),
        micro_usd: sum.micro_usd.saturating_add(cost.micro_usd),
        requests: sum.requests.saturating_add(cost.requests),
    });
    let served = u32::try_from(ask.needs.len()).expect("a count");
    Lent { id: ask.id.clone(), served, amount: Some(amount), expires_in_ms: 5_000, ..Lent::default() }
}

/// gRPC over HTTP/2: each message in a frame, the status in the trailers, or in the head where there is no message.
fn framed(said: Result<Vec<Vec<u8>>, tonic::Code>) -> Response {
    let head = Response::builder().header("content-type", "application/grpc");
    let messages = match said {
        Ok(messages) => messages,
        Err(code) => return head.header("grpc-status", code as i32).body(Body::empty()).expect("a head"),
    };
    let mut frames: Vec<Result<Frame<Bytes>, Infallible>> = Vec::new();
    for message in messages {
        let mut frame = BytesMut::with_capacity(message.len() + 5);
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len()).expect("a length"));
        frame.put_slice(&message);
        frames.push(Ok(Frame::data(frame.freeze())));
    }
    let status = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    frames.push(Ok(Frame::trailers(status)));
    head.body(Body::new(StreamBody::new(stream::iter(frames)))).expect("an answer")
}

#[cfg(test)]
mod tests {
    use authz_service::gate_service::gate_client::GateClient;
    use gateway_core::gate::Revocation;
    use tonic::Code;

    use super::*;
    use crate::fake_service::{FakeService, Word};

    #[tokio::test]
    async fn it_says_what_it_is_told_and_records_what_it_is_asked() {
        let fake = FakeService::spawn(Word::Hang);
        let socket = format!("unix:{}", fake.socket().display());
        let mut client = GateClient::connect(socket).await.unwrap();
        let cost = |tokens| Cost { tokens, gpu_ms: 1, micro_usd: 2, requests: 1 };
        let ask = Ask { id: vec![3; 16].into(), needs: vec![cost(5), cost(6)], extra: Some(cost(7)), ..Ask::default() };
        let report = SyncRequest { sequence: 9, epoch: 4, ..SyncRequest::default() };
        let asked = LeaseRequest { report: Some(report.clone()), asks: vec![ask] };

        fake.tell(6, 2, [3, 5].map(|epoch| Revocation { epoch, ..Revocation::default() }).into());
        let said = client.lease(asked.clone()).await.unwrap().into_inner();
        let amount = Cost { tokens: 18, gpu_ms: 3, micro_usd: 6, requests: 3 };
        assert_eq!((said.lents[0].served, said.lents[0].amount), (2, Some(amount)));
        let news = said.report.unwrap();
        assert_eq!((news.sequence, news.epoch, news.floor), (9, 6, 2));
        assert_eq!(
            news.revocations.iter().map(|one| one.epoch).collect::<Vec<_>>(),
            [5],
            "what the worker knows is not told"
        );

        fake.lease(GateWord::Refuses("insufficient_quota"));
        let refused = client.lease(asked.clone()).await.unwrap().into_inner();
        assert_eq!(refused.lents[0].refused.clone().unwrap().code, "insufficient_quota");
        assert_eq!((refused.lents[0].served, refused.lents[0].amount), (0, None));
        fake.lease(GateWord::Late(Duration::from_millis(30), Box::new(GateWord::Fails(Code::Unavailable))));
        assert_eq!(client.lease(asked.clone()).await.unwrap_err().code(), Code::Unavailable);
        fake.lease(GateWord::Messages(vec![b"\xff\xff".to_vec()]));
        assert!(client.lease(asked.clone()).await.is_err());
        fake.lease(GateWord::Messages(Vec::new()));
        assert!(client.lease(asked.clone()).await.is_err());
        fake.lease(GateWord::Twice(Box::new(GateWord::By(lend))));
        let _ = client.lease(asked.clone()).await; // tonic reads one of the two
        assert_eq!(client.sync(report.clone()).await.unwrap().into_inner().sequence, 9, "told apart");

        assert_eq!((fake.leases(), fake.syncs()), (vec![asked; 6], vec![report]));
        assert!(fake.asked().is_empty());
    }
}
