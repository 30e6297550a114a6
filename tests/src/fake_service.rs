//! Something else where the service should be: an ext_authz server that says whatever a test wants, or no gRPC at all.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use envoy_types::pb::google::rpc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use crate::runtime;

/// What the fake says to every request.
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
    tasks: Vec<JoinHandle<()>>,
    _directory: TempDir,
}

#[derive(Debug)]
struct State {
    word: Mutex<Word>,
    asked: Mutex<Vec<CheckRequest>>,
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
        let state = Arc::new(State { word: Mutex::new(word.clone()), asked: Mutex::default() });
        let _in_runtime = runtime().enter();
        let listener = UnixListener::bind(&socket).expect("a socket");
        let task = match word {
            Word::Garbage | Word::HangsUp => runtime().spawn(babble(listener, matches!(word, Word::Garbage))),
            _ => {
                let server = AuthorizationServer::new(Fake(Arc::clone(&state))).max_decoding_message_size(8 << 20);
                let serving = tonic::transport::Server::builder().add_service(server);
                runtime().spawn(async move {
                    let _ = serving.serve_with_incoming(UnixListenerStream::new(listener)).await;
                })
            }
        };
        Self { socket, state, tasks: vec![task], _directory: directory }
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

    /// What it was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<CheckRequest> {
        self.state.asked.lock().unwrap().clone()
    }
}

impl Drop for FakeService {
    fn drop(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
    }
}

struct Fake(Arc<State>);

#[tonic::async_trait]
impl Authorization for Fake {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        self.0.asked.lock().unwrap().push(request.into_inner());
        let word = self.0.word.lock().unwrap().clone();
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
