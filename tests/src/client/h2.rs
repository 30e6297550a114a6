//! HTTP/2 with prior knowledge, frame by frame: trailers, resets, single DATA frames.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Answer, PATIENCE, fields};

/// A connection; a clone is another user of the same one.
#[derive(Clone, Debug)]
pub struct H2 {
    sender: SendRequest<Bytes>,
    authority: String,
}

/// What is sent after the request's headers, in order; without any the headers end the stream.
#[derive(Clone, Debug)]
pub enum Part {
    /// A piece of the body: one DATA frame where it fits one (16 KiB) and the window is open.
    Data(Bytes),
    /// The same, and the stream ends with it.
    Last(Bytes),
    /// Trailers, which end the stream.
    Trailers(Vec<(&'static str, &'static str)>),
    /// A reset.
    Reset(Reason),
    /// A pause, so that what was sent before arrives by itself.
    Pause(std::time::Duration),
}

impl H2 {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens, or not for HTTP/2.
    pub async fn connect(addr: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(addr).await?;
        socket.set_nodelay(true)?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 24);
        let (sender, connection) = builder.handshake(socket).await?;
        tokio::spawn(connection);
        Ok(Self { sender, authority: addr.to_string() })
    }

    /// Opens a stream and leaves the rest to the caller.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn open(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        end: bool,
    ) -> anyhow::Result<(ResponseFuture, SendStream<Bytes>)> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.authority));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut ready = self.sender.clone().ready().await?;
        Ok(ready.send_request(request.body(())?, end)?)
    }

    /// A whole exchange. A stream that is reset before its answer's head is an error that names the reason.
    ///
    /// # Errors
    /// The stream or the connection broke.
    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        parts: Vec<Part>,
    ) -> anyhow::Result<Answer> {
        let (answer, mut stream) = self.open(method, path, headers, parts.is_empty()).await?;
        let sending = async {
            for part in parts {
                if send(&mut stream, part).await.is_err() {
                    break; // refused before its end: the answer says why
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = receive(answer) => answer,
            () = sending => unreachable!("sending never ends before the answer"),
        }
    }
}

async fn send(stream: &mut SendStream<Bytes>, part: Part) -> anyhow::Result<()> {
    match part {
        Part::Data(data) => all(stream, data, false).await?,
        Part::Last(data) => all(stream, data, true).await?,
        Part::Trailers(trailers) => {
            let trailers = trailers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            stream.send_trailers(HeaderMap::from_iter(trailers))?;
        }
        Part::Reset(reason) => stream.send_reset(reason),
        Part::Pause(time) => tokio::time::sleep(time).await,
    }
    Ok(())
}

/// Sends a piece as the window opens; its end mark goes on the frame that carries its last byte.
async fn all(stream: &mut SendStream<Bytes>, mut data: Bytes, end: bool) -> anyhow::Result<()> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let open = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
        let size = open.ok_or_else(|| anyhow::anyhow!("the stream is closed"))??.min(data.len());
        let piece = data.split_to(size);
        stream.send_data(piece, end && data.is_empty())?;
    }
    Ok(())
}

async fn receive(answer: ResponseFuture) -> anyhow::Result<Answer> {
    let (head, mut body) = timeout(PATIENCE, answer).await??.into_parts();
    let mut answer = Answer { status: head.status.as_u16(), headers: fields(&head.headers), ..Answer::default() };
    while let Some(data) = timeout(PATIENCE, body.data()).await? {
        let Ok(data) = data else { return Ok(answer) };
        let _ = body.flow_control().release_capacity(data.len());
        answer.body.extend_from_slice(&data);
    }
    answer.complete = true;
    if let Some(trailers) = body.trailers().await? {
        answer.trailers = fields(&trailers);
    }
    Ok(answer)
}
