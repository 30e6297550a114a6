//! Clients of the gateway: a well-behaved HTTP/1.1 one, a raw socket, and HTTP/2 for whoever wants single frames.

mod h2;
mod raw;
mod volley;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

pub use h2::{H2, Part};
pub use raw::{Raw, RawAnswer};
pub use volley::{Shot, volley};

/// No answer takes longer in any test but those that say so themselves.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Header fields; values that are not UTF-8 are shown with replacements.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
    /// Whether the body came to its end.
    pub complete: bool,
}

impl Answer {
    /// A header that stands at most once.
    ///
    /// # Panics
    /// It stands twice.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(have, _)| have.eq_ignore_ascii_case(name));
        let first = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "`{name}` stands twice in {self:?}");
        first
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {} {}", self.status, self.text()))
    }

    /// The `error.code` of a refusal, or nothing.
    #[must_use]
    pub fn code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["error"]["code"].as_str().unwrap_or_default().into()
    }

    /// The data of each server-sent event, without `[DONE]`.
    ///
    /// # Panics
    /// A line is none of OpenAI's.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let text = self.text();
        let data = text
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| line.strip_prefix("data: ").unwrap_or_else(|| panic!("no data line: `{line}` in {text}")));
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).expect("JSON data")).collect()
    }
}

/// An answer whose body is read piece by piece; dropping it hangs up.
#[derive(Debug)]
pub struct Streamed {
    /// Status.
    pub status: u16,
    /// Header fields.
    pub headers: Vec<(String, String)>,
    body: Incoming,
}

impl Streamed {
    /// The next piece of the body; nothing at its end or break.
    ///
    /// # Panics
    /// Nothing comes for [`PATIENCE`].
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            let frame = timeout(PATIENCE, self.body.frame()).await.expect("a piece of the answer in time")?;
            if let Ok(data) = frame.ok()?.into_data() {
                return Some(data);
            }
        }
    }

    /// Reads on until what was read holds `text`; all that was read.
    ///
    /// # Panics
    /// The body ends before.
    pub async fn until(&mut self, text: &str) -> String {
        let mut read = String::new();
        while !read.contains(text) {
            let piece = self.next().await.unwrap_or_else(|| panic!("the answer ended before `{text}`: {read}"));
            read.push_str(&String::from_utf8_lossy(&piece));
        }
        read
    }
}

/// One request on a connection of its own; the head of its answer, the body as it comes.
///
/// # Errors
/// The connection broke before the answer's head.
pub async fn stream(addr: SocketAddr, request: Request<Full<Bytes>>) -> anyhow::Result<Streamed> {
    let socket = TcpStream::connect(addr).await?;
    socket.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    let (head, body) = timeout(PATIENCE, sender.send_request(request)).await??.into_parts();
    Ok(Streamed { status: head.status.as_u16(), headers: fields(&head.headers), body })
}

/// One request on a connection of its own, and its whole answer.
///
/// # Errors
/// The connection broke before the answer's head.
pub async fn request(addr: SocketAddr, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
    collect(stream(addr, request).await?).await
}

/// The same over a Unix socket.
///
/// # Errors
/// The connection broke before the answer's head.
pub async fn request_unix(path: &std::path::Path, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
    let socket = TokioIo::new(UnixStream::connect(path).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(socket).await?;
    tokio::spawn(connection);
    let (head, body) = timeout(PATIENCE, sender.send_request(request)).await??.into_parts();
    collect(Streamed { status: head.status.as_u16(), headers: fields(&head.headers), body }).await
}

/// `GET` of a loopback address, for probes.
///
/// # Errors
/// Nobody answers, or not with 200.
pub async fn get(addr: SocketAddr, path: &str) -> anyhow::Result<String> {
    let asked = Request::get(path).header("host", addr.to_string()).body(Full::default())?;
    let answer = request(addr, asked).await?;
    anyhow::ensure!(answer.status == StatusCode::OK, "{path}: {} {}", answer.status, answer.text());
    Ok(answer.text())
}

async fn collect(streamed: Streamed) -> anyhow::Result<Answer> {
    let Streamed { status, headers, mut body } = streamed;
    let mut answer = Answer { status, headers, ..Answer::default() };
    loop {
        match timeout(PATIENCE, body.frame()).await? {
            None => {
                answer.complete = true;
                return Ok(answer);
            }
            Some(Err(_)) => return Ok(answer),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => answer.body.extend_from_slice(&data),
                Err(other) => answer.trailers = other.into_trailers().map(|all| fields(&all)).unwrap_or_default(),
            },
        }
    }
}

fn fields(headers: &http::HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}
