//! Many requests over a few connections that stay open: for matrices of some thousand.

use std::net::SocketAddr;

use futures_util::future::join_all;

use super::{H2, Part, Raw, RawAnswer};

/// One request of a volley: what stands in it is sent as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shot {
    /// Method.
    pub method: String,
    /// Path with its query.
    pub path: String,
    /// Header fields in order; over HTTP/1.1 `host` and `content-length` are added.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Body.
    pub body: Vec<u8>,
    /// Over HTTP/2: header fields must be lower-case and UTF-8 then.
    pub http2: bool,
}

impl Shot {
    /// `POST` of JSON text.
    #[must_use]
    pub fn post(path: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        let shot = Self { method: "POST".into(), path: path.into(), body: body.into(), ..Self::default() };
        shot.header("content-type", "application/json")
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// The bytes of HTTP/1.1.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\nhost: ai.example\r\n", self.method, self.path).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        let length =
            if self.method == "POST" { format!("content-length: {}\r\n", self.body.len()) } else { String::new() };
        bytes.extend([length.as_bytes(), b"\r\n", &self.body].concat());
        bytes
    }
}

/// Sends every request, spread over so many connections of each protocol, and gives the answers in the same order. An
/// HTTP/2 stream that is reset has none, nor has a connection that is closed without a word.
///
/// # Panics
/// Nobody listens, or an answer takes longer than any test waits.
pub async fn volley(addr: SocketAddr, shots: &[Shot], connections: usize) -> Vec<RawAnswer> {
    let lanes = (0..connections).map(|lane| async move {
        let mut connection = Lane { addr, raw: None, h2: None };
        let mut answers = Vec::new();
        for (place, shot) in shots.iter().enumerate().skip(lane).step_by(connections) {
            answers.push((place, connection.send(shot).await));
        }
        answers
    });
    let mut answers: Vec<(usize, RawAnswer)> = join_all(lanes).await.into_iter().flatten().collect();
    answers.sort_unstable_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

struct Lane {
    addr: SocketAddr,
    raw: Option<Raw>,
    h2: Option<H2>,
}

impl Lane {
    async fn send(&mut self, shot: &Shot) -> RawAnswer {
        if shot.http2 { self.two(shot).await } else { self.one(shot).await }
    }

    async fn one(&mut self, shot: &Shot) -> RawAnswer {
        let mut raw = match self.raw.take() {
            Some(raw) => raw,
            None => Raw::connect(self.addr).await,
        };
        raw.send(&shot.bytes()).await;
        let answer = raw.answer().await;
        if answer.as_ref().is_some_and(|answer| answer.header("connection").is_none()) {
            self.raw = Some(raw);
        }
        answer
    }

    async fn two(&mut self, shot: &Shot) -> RawAnswer {
        let mut h2 = match self.h2.take() {
            Some(h2) => h2,
            None => H2::connect(self.addr).await.expect("the gateway listens"),
        };
        let text = |value: &Vec<u8>| String::from_utf8(value.clone()).expect("UTF-8");
        let headers: Vec<(&str, String)> =
            shot.headers.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let body = if shot.body.is_empty() { Vec::new() } else { vec![Part::Last(shot.body.clone().into())] };
        let answer = h2.request(&shot.method, &shot.path, &headers, body).await.ok();
        if answer.is_some() {
            self.h2 = Some(h2);
        }
        answer
    }
}
