//! Calls to the service's Gate, and the way back to a stream that waits for one. Root contexts alone.

use std::time::Duration;

use gateway_core::wire;
use proxy_wasm::hostcalls;
use proxy_wasm::types::BufferType;

use super::logged;

/// The Gate's address, as the host wants it: a serialized `GrpcService{envoy_grpc{cluster_name}}`. A bare cluster name
/// would be parsed as protobuf and can abort Envoy (`mesh.md` §0.1 fact 2).
pub(crate) struct Service(String);

impl Service {
    /// `cluster` has 1 to 125 bytes (checked by the configuration).
    pub(crate) fn new(cluster: &str) -> Self {
        let length = u8::try_from(cluster.len()).unwrap_or(0);
        let mut spelled = String::new();
        spelled.push('\x0a');
        spelled.push(char::from(length.saturating_add(2)));
        spelled.push('\x0a');
        spelled.push(char::from(length));
        spelled.push_str(cluster);
        Self(spelled)
    }
}

/// A call of the Gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Reports.
    Sync,
    /// Reports, and asks for leases.
    Lease,
}

impl Call {
    const fn method(self) -> &'static str {
        match self {
            Self::Sync => "Sync",
            Self::Lease => "Lease",
        }
    }
}

/// Starts a call; the answer comes to `on_grpc_call_response` with this token. Root callbacks alone: a stream's call is
/// cancelled with the stream (`mesh.md` §0.1 fact 11).
pub(crate) fn call(service: &Service, which: Call, proxy: &str, message: &[u8]) -> Option<u32> {
    let metadata = vec![(wire::PROXY, proxy.as_bytes())];
    let timeout = Duration::from_secs(2);
    hostcalls::dispatch_grpc_call(&service.0, "bulkhead.v1.Gate", which.method(), metadata, Some(message), timeout).ok()
}

/// The answer's message. `on_grpc_call_response` alone, after a status of 0.
pub(crate) fn answered(size: usize) -> Vec<u8> {
    hostcalls::get_buffer(BufferType::GrpcReceiveBuffer, 0, size).ok().flatten().unwrap_or_default()
}

/// A queue on which this VM's root context is woken, by a name that no other VM has. `on_configure`.
pub(crate) fn register_queue(name: &str) -> Option<u32> {
    hostcalls::register_shared_queue(name).ok()
}

/// Wakes whoever registered the queue, on its own thread, soon. Any callback.
pub(crate) fn wake(queue: u32) {
    logged("wake", hostcalls::enqueue_shared_queue(queue, Some(b"")));
}

/// Takes one wake-up off the queue; false: there was none. `on_queue_ready`.
pub(crate) fn woken(queue: u32) -> bool {
    hostcalls::dequeue_shared_queue(queue).is_ok_and(|item| item.is_some())
}

/// Does something to a stream from the root context's callback: `act` sees the stream's host calls. Does nothing for a
/// stream that is gone. The host carries resumption and answers out after the callback (`mesh.md` §0.1 fact 18).
pub(crate) fn on_stream(root: u32, stream: u32, act: impl FnOnce()) {
    if hostcalls::set_effective_context(stream).is_ok() {
        act();
    }
    logged("set effective context", hostcalls::set_effective_context(root));
}

/// Breaks the stream off: on HTTP/2 a reset, on HTTP/1.1 the connection's end. Within [`on_stream`] alone.
pub(crate) fn reset() {
    logged("reset", hostcalls::reset_http_request());
}

/// Lets a request go on that every callback has held. Within [`on_stream`] alone.
pub(crate) fn resume_request() {
    logged("resume", hostcalls::resume_http_request());
}
