//! Something else where the service should be: an ext_authz server and a Gate that say whatever a test wants, or no gRPC at
//! all.

mod gate;
mod grants;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use envoy_types::pb::google::rpc;
use gateway_core::gate::{LeaseRequest, Revocation, SyncRequest, SyncResponse};
use gateway_core::wire;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tonic::{Request, Response, Status};

pub use gate::{GateWord, lend};
pub use grants::{inline_grant, inline_terms, inline_word, signed};

use gate::Gate;

/// What the fake says to every request that it is asked about.
#[derive(Clone, Debug)]
pub enum Word {
    /// Exactly this.
    Exactly(Box<CheckResponse>),
    /// Nothing, ever; the call stays open.
    Hang,
    /// A gRPC error.
    Fails(tonic::Code),
    /// Bytes that are no HTTP/2, on every connection.
    Garbage,
    /// Every connection is closed at once.
    HangsUp,
}

/// A running fake on a socket of its own; dropping it ends it.
#[derive(Debug)]
pub struct FakeService {
    socket: PathBuf,
    state: Arc<State>,
    serving: Mutex<Option<Runtime>>,
    _directory: TempDir,
}

#[derive(Debug)]
struct State {
    word: Mutex<Word>,
    /// To the last hop, where it is told something else.
    last_hop: Mutex<Option<Word>>,
    /// The room that asked, and what.
    asked: Mutex<Vec<(String, CheckRequest)>>,
    gate: Arc<Gate>,
}

impl FakeService {
    /// Starts one.
    ///
    /// # Panics
    /// There is no place for its socket.
    #[must_use]
    pub fn spawn(word: Word) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("fake.sock");
        let state = Arc::new(State {
            word: Mutex::new(word.clone()),
            last_hop: Mutex::default(),
            asked: Mutex::default(),
            gate: Arc::default(),
        });
        let fake = Self { socket, state, serving: Mutex::default(), _directory: directory };
        fake.comes_back();
        fake
    }

    /// Is gone at once, with every connection; what it was asked stays known.
    pub fn dies(&self) {
        if let Some(serving) = self.serving.lock().unwrap().take() {
            serving.shutdown_background();
        }
    }

    /// Serves on the same socket, on new connections.
    ///
    /// # Panics
    /// There is no place for its socket.
    pub fn comes_back(&self) {
        self.dies();
        let _ = std::fs::remove_file(&self.socket);
        // a runtime of its own: its end is the end of every connection
        let serving = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let serving = serving.expect("a runtime");
        let in_runtime = serving.enter();
        let listener = UnixListener::bind(&self.socket).expect("a socket");
        let word = self.state.word.lock().unwrap().clone();
        match word {
            Word::Garbage | Word::HangsUp => drop(serving.spawn(babble(listener, matches!(word, Word::Garbage)))),
            _ => {
                let server = AuthorizationServer::new(Fake(Arc::clone(&self.state)));
                let checks = tonic::service::Routes::new(server.max_decoding_message_size(8 << 20));
                let router = checks.into_axum_router().merge(gate::router(Arc::clone(&self.state.gate)));
                drop(serving.spawn(async move { axum::serve(listener, router).await }));
            }
        }
        drop(in_runtime);
        *self.serving.lock().unwrap() = Some(serving);
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Says something else from now on; a gRPC server stays one.
    pub fn say(&self, word: Word) {
        *self.state.word.lock().unwrap() = word;
    }

    /// Says something else to the last hop from now on.
    pub fn say_last_hop(&self, word: Word) {
        *self.state.last_hop.lock().unwrap() = Some(word);
    }

    /// What its Gate says from now on, to Lease and Sync.
    pub fn gate(&self, word: GateWord) {
        self.lease(word.clone());
        self.sync(word);
    }

    /// What its Gate says to Lease from now on.
    pub fn lease(&self, word: GateWord) {
        *self.state.gate.lease.lock().unwrap() = word;
    }

    /// What its Gate says to Sync from now on.
    pub fn sync(&self, word: GateWord) {
        *self.state.gate.sync.lock().unwrap() = word;
    }

    /// What its Gate tells every worker from now on that does not know it: epoch, floor, revocations.
    pub fn tell(&self, epoch: u64, floor: u64, revocations: Vec<Revocation>) {
        *self.state.gate.news.lock().unwrap() = SyncResponse { sequence: 0, epoch, revocations, floor };
    }

    /// What ext_authz asked so far, in whichever room.
    #[must_use]
    pub fn asked(&self) -> Vec<CheckRequest> {
        self.state.asked.lock().unwrap().iter().map(|(_, asked)| asked.clone()).collect()
    }

    /// What ext_authz asked so far in one room: a value of `wire::ROOM`, empty in profile `portable`.
    #[must_use]
    pub fn asked_in(&self, room: &str) -> Vec<CheckRequest> {
        let asked = self.state.asked.lock().unwrap();
        asked.iter().filter(|(asker, _)| asker == room).map(|(_, asked)| asked.clone()).collect()
    }

    /// The Lease calls so far, those that were never answered too.
    #[must_use]
    pub fn leases(&self) -> Vec<LeaseRequest> {
        self.state.gate.leases.lock().unwrap().clone()
    }

    /// The Sync calls so far; the reports in Lease calls are not among them.
    #[must_use]
    pub fn syncs(&self) -> Vec<SyncRequest> {
        self.state.gate.syncs.lock().unwrap().clone()
    }
}

impl Drop for FakeService {
    fn drop(&mut self) {
        self.dies();
    }
}

struct Fake(Arc<State>);

#[tonic::async_trait]
impl Authorization for Fake {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let room = request.metadata().get(wire::ROOM).and_then(|room| room.to_str().ok()).unwrap_or_default();
        let last_hop = if room == wire::ROOM_LAST_HOP { self.0.last_hop.lock().unwrap().clone() } else { None };
        self.0.asked.lock().unwrap().push((room.to_owned(), request.into_inner()));
        let word = last_hop.unwrap_or_else(|| self.0.word.lock().unwrap().clone());
        match word {
            Word::Exactly(response) => Ok(Response::new(*response)),
            Word::Fails(code) => Err(Status::new(code, "as told")),
            Word::Hang | Word::Garbage | Word::HangsUp => std::future::pending().await,
        }
    }
}

/// Answers each connection with bytes that are no HTTP/2, or with its end.
async fn babble(listener: UnixListener, talks: bool) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while talks && stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                if stream.write_all(&[0x0a, 0xff, 0x00, b'{', 0x80, b'\n'].repeat(64)).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// An allow (status 0) with these ext_authz metadata and these request headers.
#[must_use]
pub fn allow(metadata: &[(&str, &str)], headers: &[(&str, &str)]) -> CheckResponse {
    let ok = OkHttpResponse { headers: header_options(headers), ..OkHttpResponse::default() };
    CheckResponse {
        status: Some(rpc::Status::default()),
        dynamic_metadata: Some(strings(metadata)),
        http_response: Some(HttpResponse::OkResponse(ok)),
    }
}

/// A denial with this gRPC code, HTTP status and body; code 0 contradicts itself.
#[must_use]
pub fn deny(code: i32, status: i32, body: &str, metadata: &[(&str, &str)]) -> CheckResponse {
    let denied =
        DeniedHttpResponse { status: Some(HttpStatus { code: status }), headers: Vec::new(), body: body.into() };
    CheckResponse {
        status: Some(rpc::Status { code, ..rpc::Status::default() }),
        dynamic_metadata: Some(strings(metadata)),
        http_response: Some(HttpResponse::DeniedResponse(denied)),
    }
}

fn strings(metadata: &[(&str, &str)]) -> Struct {
    let value = |text: &str| Value { kind: Some(Kind::StringValue(text.into())) };
    Struct { fields: metadata.iter().map(|(key, text)| ((*key).to_owned(), value(text))).collect() }
}

fn header_options(headers: &[(&str, &str)]) -> Vec<HeaderValueOption> {
    let option = |(key, value): &(&str, &str)| HeaderValueOption {
        header: Some(HeaderValue { key: (*key).into(), value: (*value).into(), ..HeaderValue::default() }),
        ..HeaderValueOption::default()
    };
    headers.iter().map(option).collect()
}
