//! The upstream's port: reads requests to their end or their break, and writes answers as they are meant to come.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::answer::{self, Answer};
use super::directives::{Cut, Directives, Hold};
use super::gzip::gzip;
use super::record::{Seen, Ticket};
use super::{State, scripted};

pub(super) type Pieces = StreamBody<ReceiverStream<io::Result<Frame<Bytes>>>>;

pub(super) async fn run(listener: TcpListener, state: Arc<State>, closing: watch::Receiver<bool>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(connection(stream, Arc::clone(&state), closing.clone()));
    }
}

async fn connection(stream: TcpStream, state: Arc<State>, mut closing: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let number = state.record.connection();
    let service = service_fn(|request| serve(Arc::clone(&state), number, request));
    let builder = auto::Builder::new(TokioExecutor::new());
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        ended = served => if let Err(error) = ended {
            // what the upstream broke itself is no finding
            let own = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_user);
            if !own {
                state.record.error(format!("connection {number}: {error:?}"));
            }
        },
        _ = closing.wait_for(|closing| *closing) => {}
    }
}

async fn serve(state: Arc<State>, connection: u64, request: Request<Incoming>) -> io::Result<Response<Pieces>> {
    let (head, body) = request.into_parts();
    let seen = seen(connection, &head);
    let path = head.uri.path().to_owned();
    let signed = seen.headers.iter().any(|(name, value)| match name.as_str() {
        "authorization" => value.len() > 7 && value[..7].eq_ignore_ascii_case(b"bearer "),
        "x-api-key" | "x-goog-api-key" => !value.is_empty(),
        _ => false,
    });
    let ticket = state.record.open(seen);
    let body = receive(&state, ticket, body).await?;
    if let Some(script) = &*state.script.lock().unwrap() {
        return Ok(scripted::respond(script));
    }
    let standing = state.behaviour.lock().unwrap().clone();

    let mut directives = Directives::parse(&standing);
    let answer = if !signed {
        answer::error(
            401,
            "",
            "You didn't provide an API key. You need to provide your API key in an Authorization header.",
        )
    } else if head.method == "GET" && path == "/v1/models" {
        answer::models(&state.models)
    } else if let Some(name) = path.strip_prefix("/v1/models/").filter(|_| head.method == "GET") {
        answer::model_of(&state.models, name)
    } else if head.method == "POST" && path.ends_with("/chat/completions") {
        chat(&state, &standing, &body, connection, &mut directives)
    } else {
        let message = format!("Unknown request URL: {} {path}. Please check the URL for typos.", head.method);
        answer::error(404, "unknown_url", &message)
    };
    match directives.hold {
        None => {}
        Some(Hold::For(time)) => tokio::time::sleep(time).await,
        Some(Hold::Released) => state.wait_for_release().await,
        Some(Hold::Hang) => std::future::pending().await,
    }
    if directives.drop {
        return Err(io::Error::other("dropped"));
    }
    Ok(respond(state, ticket, answer, directives))
}

fn seen(connection: u64, head: &http::request::Parts) -> Seen {
    let host = head.headers.get("host").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    Seen {
        connection,
        version: format!("{:?}", head.version),
        method: head.method.to_string(),
        authority: head.uri.authority().map(ToString::to_string).or(host).unwrap_or_default(),
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: fields(&head.headers),
        ..Seen::default()
    }
}

fn fields(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

/// Reads the body, recording each piece as it comes.
async fn receive(state: &State, ticket: Ticket, mut body: Incoming) -> io::Result<Vec<u8>> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(io::Error::other)?;
        match frame.into_data() {
            Ok(data) => {
                whole.extend_from_slice(&data);
                state.record.update(ticket, |seen| seen.body.extend_from_slice(&data));
            }
            Err(other) => {
                let trailers = other.into_trailers().map(|trailers| fields(&trailers)).unwrap_or_default();
                state.record.update(ticket, |seen| seen.trailers = trailers);
            }
        }
    }
    state.record.update(ticket, |seen| seen.complete = true);
    Ok(whole)
}

fn chat(state: &State, standing: &str, body: &[u8], id: u64, directives: &mut Directives) -> Answer {
    let Ok(request) = serde_json::from_slice::<Value>(body) else {
        return answer::error(400, "", "We could not parse the JSON body of your request.");
    };
    *directives = Directives::parse(&format!("{standing} {}", answer::last_user_text(&request)));
    if let Some(status) = directives.status {
        let code = match status {
            401 => "invalid_api_key",
            404 => "model_not_found",
            429 => "rate_limit_exceeded",
            _ => "",
        };
        return answer::error(status, code, "The model answers with the status that was asked for.");
    }
    if let Some(name) = &directives.answer {
        let kept = state.answers.lock().unwrap().get(name).cloned();
        let missing = || answer::error(500, "", "No answer of that name is kept.");
        return kept.map_or_else(missing, |(content_type, body)| Answer {
            status: 200,
            content_type,
            pieces: vec![body],
        });
    }
    if !request["model"].is_string() {
        return answer::error(400, "", "you must provide a model parameter");
    }
    if !request["messages"].is_array() {
        return answer::error(400, "missing_required_parameter", "Missing required parameter: 'messages'.");
    }
    answer::chat(&request, directives, id)
}

fn respond(state: Arc<State>, ticket: Ticket, answer: Answer, directives: Directives) -> Response<Pieces> {
    let mut response = Response::builder()
        .status(answer.status)
        .header("content-type", answer.content_type)
        .header("server", "model-upstream")
        .header("x-powered-by", "bulkhead-tests")
        .header("openai-version", "2020-10-01")
        .header("openai-processing-ms", "1")
        .header("x-ratelimit-limit-requests", "10000")
        .header("x-ratelimit-remaining-requests", "9999");
    if answer.status == 429 {
        response = response.header("retry-after", "7");
    }
    if let Some(tag) = &directives.tag {
        response = response.header("x-bulkhead-tenant", tag);
    }
    if directives.close {
        response = response.header("connection", "close");
    }
    if directives.trailers {
        response = response.header("trailer", answer::TRAILERS.join(", "));
    }
    let stream = answer.content_type.starts_with("text/event-stream");
    let mut pieces = answer.pieces;
    if directives.gzip {
        response = response.header("content-encoding", "gzip");
        pieces = vec![gzip(&pieces.concat()).into()];
    }
    if directives.empty {
        pieces.clear();
    }
    if !stream || directives.counted {
        response = response.header("content-length", pieces.iter().map(Bytes::len).sum::<usize>());
    }
    if let Some(size) = directives.split {
        let whole = Bytes::from(pieces.concat());
        pieces = (0..whole.len()).step_by(size).map(|at| whole.slice(at..whole.len().min(at + size))).collect();
    } else if !stream && directives.cut.is_some() {
        let whole = Bytes::from(pieces.concat());
        let middle = whole.len() / 2;
        pieces = vec![whole.slice(..middle), whole.slice(middle..)];
    }
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(send(state, ticket, pieces, directives, sender));
    response.body(StreamBody::new(ReceiverStream::new(receiver))).unwrap()
}

/// Sends the pieces; ends early when the other side is gone, which leaves `answered` false.
async fn send(
    state: Arc<State>,
    ticket: Ticket,
    pieces: Vec<Bytes>,
    directives: Directives,
    sender: mpsc::Sender<io::Result<Frame<Bytes>>>,
) {
    if directives.empty {
        // between the head and the frame that ends it
        tokio::time::sleep(directives.drip).await;
    }
    for (number, piece) in pieces.into_iter().enumerate() {
        match directives.cut {
            Some(Cut::Break(after)) if number == after => {
                // what was sent before must be on its way when the connection breaks
                tokio::time::sleep(Duration::from_millis(30)).await;
                let _ = sender.send(Err(io::Error::other("cut"))).await;
                return;
            }
            Some(Cut::Stall(after)) if number == after => return sender.closed().await,
            _ => {}
        }
        if !directives.drip.is_zero() {
            tokio::time::sleep(directives.drip).await;
        }
        if sender.send(Ok(Frame::data(piece))).await.is_err() {
            return;
        }
        state.record.update(ticket, |seen| seen.pieces_sent += 1);
    }
    if directives.trailers {
        let names = answer::TRAILERS.iter().map(|name| name.parse().unwrap());
        let trailers = HeaderMap::from_iter(names.map(|name| (name, HeaderValue::from_static("yes"))));
        let _ = sender.send(Ok(Frame::trailers(trailers))).await;
    }
    state.record.update(ticket, |seen| seen.answered = true);
}
