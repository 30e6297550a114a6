//! An answer given word for word, in small pieces, whatever was asked.

use bytes::Bytes;
use http::Response;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::serve::Pieces;

/// The answer to every request.
#[derive(Clone, Debug)]
pub struct Scripted {
    /// Status.
    pub status: u16,
    /// Fields in order.
    pub headers: Vec<(String, String)>,
    /// Body, without a length unless the fields have one.
    pub body: Bytes,
}

/// Bytes of a piece.
const PIECE: usize = 61;

pub(super) fn respond(script: &Scripted) -> Response<Pieces> {
    let head = Response::builder().status(script.status);
    let response = script.headers.iter().fold(head, |head, (name, value)| head.header(name, value));
    let (sender, receiver) = mpsc::channel(1);
    let body = script.body.clone();
    tokio::spawn(async move {
        for at in (0..body.len()).step_by(PIECE) {
            let piece = body.slice(at..body.len().min(at + PIECE));
            if sender.send(Ok(Frame::data(piece))).await.is_err() {
                return;
            }
        }
    });
    response.body(StreamBody::new(ReceiverStream::new(receiver))).expect("a response")
}
