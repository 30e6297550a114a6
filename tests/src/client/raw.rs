//! A bare socket: bytes as they are written, answers as far as they come. For requests that no library would send.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Answer, PATIENCE};

/// A connection.
#[derive(Debug)]
pub struct Raw {
    socket: TcpStream,
    read: Vec<u8>,
}

/// What came back: nothing at all when the connection was closed without a word.
pub type RawAnswer = Option<Answer>;

impl Raw {
    /// Connects.
    ///
    /// # Panics
    /// Nobody listens.
    pub async fn connect(addr: SocketAddr) -> Self {
        let socket = TcpStream::connect(addr).await.expect("the gateway listens");
        socket.set_nodelay(true).expect("a socket");
        Self { socket, read: Vec::new() }
    }

    /// Sends bytes; that the other side has closed already is told by the answer.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes).await;
    }

    /// Sends no more.
    pub async fn finish(&mut self) {
        let _ = self.socket.shutdown().await;
    }

    /// The next answer on this connection, with its whole body (RFC 9112 section 6). 1xx answers are passed over.
    ///
    /// # Panics
    /// Nothing comes for [`PATIENCE`], or it is no HTTP/1.1.
    pub async fn answer(&mut self) -> RawAnswer {
        loop {
            let answer = self.one().await?;
            if answer.status >= 200 {
                return Some(answer);
            }
        }
    }

    /// The next answer, also when it is a 1xx.
    ///
    /// # Panics
    /// As [`Raw::answer`].
    pub async fn interim(&mut self) -> RawAnswer {
        self.one().await
    }

    /// Whether the other side closes without another byte.
    ///
    /// # Panics
    /// Nothing happens for [`PATIENCE`].
    pub async fn closed(&mut self) -> bool {
        self.read.is_empty() && !self.more().await
    }

    async fn one(&mut self) -> RawAnswer {
        let end = loop {
            if let Some(at) = find(&self.read, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more().await {
                assert!(self.read.is_empty(), "half an answer: {:?}", String::from_utf8_lossy(&self.read));
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.read.drain(..end).collect::<Vec<u8>>()).into_owned();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        let mut answer = Answer { status: status.expect("a status line"), headers, ..Answer::default() };
        if answer.status < 200 || matches!(answer.status, 204 | 304) {
            answer.complete = true;
        } else if answer.header("transfer-encoding").is_some() {
            self.chunks(&mut answer).await;
        } else if let Some(size) = answer.header("content-length").map(|size| size.parse().expect("a length")) {
            answer.complete = self.fill(size).await;
            answer.body = self.read.drain(..size.min(self.read.len())).collect();
        } else {
            while self.more().await {}
            answer.body = std::mem::take(&mut self.read);
            answer.complete = true;
        }
        Some(answer)
    }

    async fn chunks(&mut self, answer: &mut Answer) {
        loop {
            let Some(line) = self.line().await else { return };
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16).expect("a chunk's size");
            if size == 0 {
                break;
            }
            if !self.fill(size + 2).await {
                return answer.body.append(&mut self.read);
            }
            answer.body.extend(self.read.drain(..size));
            self.read.drain(..2);
        }
        while let Some(line) = self.line().await {
            let Some((name, value)) = line.split_once(':') else {
                answer.complete = true;
                return;
            };
            answer.trailers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.read, b"\r\n") {
                let line: Vec<u8> = self.read.drain(..at + 2).collect();
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn fill(&mut self, size: usize) -> bool {
        while self.read.len() < size {
            if !self.more().await {
                return false;
            }
        }
        true
    }

    /// Reads once; false at the end.
    async fn more(&mut self) -> bool {
        let mut buffer = [0; 16_384];
        let read = timeout(PATIENCE, self.socket.read(&mut buffer)).await.expect("bytes or an end in time");
        let count = read.unwrap_or_default();
        self.read.extend_from_slice(&buffer[..count]);
        count > 0
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}
