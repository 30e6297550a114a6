//! How a stream ended, from what this filter saw and what Envoy says of it. In doubt the request was sent.
//!
//! Flags are `response.flags`: bit n is the n-th of Envoy's `CoreResponseFlag` (`envoy/stream_info/stream_info.h`).
//! Details are `response.code_details` (Envoy's "Response Code Details" page), where a space is an underscore.

use bytes::Bytes;
use gateway_core::gate::Outcome;

/// What the caller knows at the end of a stream.
#[derive(Clone, Debug, Default)]
pub struct StreamEnd {
    /// Envoy's `response.code_details`; empty where it says none.
    pub code_details: String,
    /// Envoy's `response.flags`.
    pub response_flags: u64,
    /// The status that the client got, if it got one.
    pub status: Option<u32>,
    /// The caller's clock, in milliseconds.
    pub now_ms: u64,
    /// The code of the module's own denial, if it refused the request or the answer.
    pub denial: Option<&'static str>,
    /// The module cut the stream: its credential was over.
    pub cut: bool,
    /// The serialized `SignedGrant` as it was received; in profile `inline` the grant's handle.
    pub signed: Bytes,
}

/// The most characters of Envoy's details that travel.
const MAX_DETAILS: usize = 256;

/// What this filter saw itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Something of the request was let go.
    pub(crate) sent: bool,
    /// The status in the response headers, of the upstream or of Envoy's own reply.
    pub(crate) status: Option<u16>,
    /// The answer's end has passed.
    pub(crate) ended: bool,
}

mod flag {
    pub(super) const NO_HEALTHY_UPSTREAM: u64 = 1 << 1;
    pub(super) const UPSTREAM_REQUEST_TIMEOUT: u64 = 1 << 2;
    pub(super) const LOCAL_RESET: u64 = 1 << 3;
    pub(super) const UPSTREAM_REMOTE_RESET: u64 = 1 << 4;
    pub(super) const UPSTREAM_CONNECTION_FAILURE: u64 = 1 << 5;
    pub(super) const UPSTREAM_CONNECTION_TERMINATION: u64 = 1 << 6;
    pub(super) const UPSTREAM_OVERFLOW: u64 = 1 << 7;
    pub(super) const NO_ROUTE_FOUND: u64 = 1 << 8;
    pub(super) const DOWNSTREAM_CONNECTION_TERMINATION: u64 = 1 << 14;
    pub(super) const UPSTREAM_RETRY_LIMIT_EXCEEDED: u64 = 1 << 15;
    pub(super) const STREAM_IDLE_TIMEOUT: u64 = 1 << 16;
    pub(super) const UPSTREAM_MAX_STREAM_DURATION_REACHED: u64 = 1 << 19;
    pub(super) const DURATION_TIMEOUT: u64 = 1 << 22;
    pub(super) const UPSTREAM_PROTOCOL_ERROR: u64 = 1 << 23;
    pub(super) const NO_CLUSTER_FOUND: u64 = 1 << 24;
    pub(super) const DNS_RESOLUTION_FAILED: u64 = 1 << 26;
    pub(super) const DROP_OVERLOAD: u64 = 1 << 27;
    pub(super) const DOWNSTREAM_REMOTE_RESET: u64 = 1 << 28;
    pub(super) const UNCONDITIONAL_DROP_OVERLOAD: u64 = 1 << 29;
}

/// No connection to an upstream took the request.
const NEVER_LEFT: u64 = flag::NO_HEALTHY_UPSTREAM
    | flag::UPSTREAM_CONNECTION_FAILURE
    | flag::UPSTREAM_OVERFLOW
    | flag::NO_ROUTE_FOUND
    | flag::NO_CLUSTER_FOUND
    | flag::DNS_RESOLUTION_FAILED
    | flag::DROP_OVERLOAD
    | flag::UNCONDITIONAL_DROP_OVERLOAD;

/// An upstream had the request, or may have had it on an earlier try.
const DID_LEAVE: u64 = flag::UPSTREAM_REQUEST_TIMEOUT
    | flag::LOCAL_RESET
    | flag::UPSTREAM_REMOTE_RESET
    | flag::UPSTREAM_CONNECTION_TERMINATION
    | flag::UPSTREAM_RETRY_LIMIT_EXCEEDED
    | flag::UPSTREAM_MAX_STREAM_DURATION_REACHED
    | flag::UPSTREAM_PROTOCOL_ERROR;

/// A stream that had begun was ended by the upstream, by a timeout, or by Envoy.
const CUT: u64 =
    (DID_LEAVE & !flag::UPSTREAM_RETRY_LIMIT_EXCEEDED) | flag::STREAM_IDLE_TIMEOUT | flag::DURATION_TIMEOUT;

const CLIENT_GONE: u64 = flag::DOWNSTREAM_CONNECTION_TERMINATION | flag::DOWNSTREAM_REMOTE_RESET;

/// Envoy's own replies in the router before it has an upstream.
const DETAILS_NEVER_LEFT: &[&str] = &[
    "no_healthy_upstream",
    "cluster_not_found",
    "route_not_found",
    "route_configuration_not_found",
    "maintenance_mode",
    "drop_overload",
    "unconditional_drop_overload",
    "direct_response",
    "filter_removed_required_request_headers",
];

/// Reset by the connection pool before a connection took the request: `{reason}` with Envoy's transport detail behind.
const POOL_NEVER_LEFT: &[&str] =
    &["connection_failure", "local_connection_failure", "remote_connection_failure", "connection_timeout", "overflow"];

const RESET_BEFORE_ANSWER: &str = "upstream_reset_before_response_started";
const RESET_AFTER_ANSWER: &str = "upstream_reset_after_response_started";

/// What stands for Envoy's details where the module cut the stream.
const DETAILS_CUT: &str = "credential_ended";

/// The details of a stream's end, as they travel.
pub(crate) fn details(end: &StreamEnd) -> String {
    if end.cut { DETAILS_CUT.to_owned() } else { end.code_details.chars().take(MAX_DETAILS).collect() }
}

/// The outcome of a stream.
pub(crate) fn of(end: &StreamEnd, seen: Seen) -> Outcome {
    let details = end.code_details.as_str();
    let answered = is_upstreams(details);
    if !answered && (!seen.sent || never_left(end)) {
        return Outcome::NotSent;
    }
    match seen.status {
        Some(200..300) if end.cut && seen.ended => Outcome::Answered,
        // as with a client that went away: the model may have done all of its work
        _ if end.cut => Outcome::HungUp,
        // what the upstream answered was withheld: the client got an error instead
        _ if end.denial.is_some() => Outcome::Failed,
        Some(200..300) if seen.ended => Outcome::Answered,
        Some(200..300) if was_cut(end) => Outcome::Failed,
        Some(200..300) => Outcome::HungUp,
        // before the answer's head: the model may have done all of its work by then
        None if end.response_flags & CLIENT_GONE != 0 => Outcome::HungUp,
        // with another reason in its details the status is Envoy's own: a timeout, a reset, a limit
        Some(300..500) if answered || details.is_empty() || details.starts_with("downstream_") => Outcome::Refused,
        _ => Outcome::Failed,
    }
}

/// Whether Envoy says that the status came from the upstream.
fn is_upstreams(details: &str) -> bool {
    details == "via_upstream" || details.starts_with(RESET_AFTER_ANSWER)
}

fn never_left(end: &StreamEnd) -> bool {
    let details = end.code_details.as_str();
    let reset = details.strip_prefix(RESET_BEFORE_ANSWER).map(|rest| rest.trim_start_matches('{'));
    let reason = reset.and_then(|reason| reason.split(['|', '}']).next());
    let by_details = DETAILS_NEVER_LEFT.contains(&details) || reason.is_some_and(|r| POOL_NEVER_LEFT.contains(&r));
    (by_details || end.response_flags & NEVER_LEFT != 0) && end.response_flags & DID_LEAVE == 0
}

/// A reset or a timeout, not the client, ended an answer that had begun.
fn was_cut(end: &StreamEnd) -> bool {
    let by_details = end.code_details.starts_with(RESET_AFTER_ANSWER) || end.code_details.contains("timeout");
    (by_details || end.response_flags & CUT != 0) && end.response_flags & CLIENT_GONE == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: Seen = Seen { sent: true, status: None, ended: false };

    fn end(details: &str, flags: u64) -> StreamEnd {
        StreamEnd { code_details: details.into(), response_flags: flags, ..StreamEnd::default() }
    }

    fn outcome(details: &str, flags: u64, status: u16, ended: bool) -> Outcome {
        of(&end(details, flags), Seen { status: Some(status), ended, ..SENT })
    }

    #[test]
    fn nothing_left() {
        for (details, flags, status) in [
            (
                "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_111}",
                1 << 5,
                503,
            ),
            ("upstream_reset_before_response_started{connection_failure}", 0, 503),
            ("upstream_reset_before_response_started{connection_timeout}", 1 << 5, 503),
            ("upstream_reset_before_response_started{overflow}", 1 << 7, 503),
            ("no_healthy_upstream", 1 << 1, 503),
            ("cluster_not_found", 1 << 24, 503),
            ("route_not_found", 1 << 8, 404),
            ("maintenance_mode", 0, 503),
            ("direct_response", 0, 200),
            // the client went away while it read Envoy's own reply
            ("downstream_remote_disconnect", 1 << 5 | 1 << 14, 503),
        ] {
            assert_eq!(outcome(details, flags, status, true), Outcome::NotSent, "{details}");
        }
    }

    #[test]
    fn in_doubt_it_was_sent() {
        for (details, flags, status) in [
            ("upstream_reset_before_response_started{connection_termination}", 1 << 6, 503),
            ("upstream_reset_before_response_started{remote_reset}", 1 << 4, 503),
            ("upstream_reset_before_response_started{protocol_error}", 1 << 23, 502),
            // retried: an earlier try may have been served
            ("upstream_reset_before_response_started{remote_connection_failure}", 1 << 5 | 1 << 15, 503),
            ("upstream_reset_before_response_started", 0, 503),
            ("upstream_reset_before_response_started{overflowing}", 0, 503),
            ("response_timeout", 1 << 2, 504),
            ("upstream_per_try_timeout", 1 << 2, 504),
            ("stream_idle_timeout", 1 << 16, 408),
            ("request_payload_too_large", 0, 413),
            ("something_new", 0, 403),
            ("via_upstream", 0, 500),
            // retries are exhausted, yet the answer is the upstream's
            ("via_upstream", 1 << 7, 503),
            ("", 0, 502),
        ] {
            assert_eq!(outcome(details, flags, status, true), Outcome::Failed, "{details}");
        }
        for details in ["", "stream_idle_timeout", "something_new"] {
            assert_eq!(of(&end(details, 1 << 16), SENT), Outcome::Failed, "{details}");
        }
    }

    #[test]
    fn who_hangs_up_before_the_head_has_hung_up() {
        for (details, flags) in [("downstream_remote_disconnect", 1 << 14), ("http2.remote_reset", 1 << 28)] {
            assert_eq!(of(&end(details, flags), SENT), Outcome::HungUp, "{details}");
        }
        let connecting = 1 << 5 | 1 << 14;
        assert_eq!(of(&end("downstream_remote_disconnect", connecting), SENT), Outcome::NotSent);
    }

    #[test]
    fn a_success_by_who_ended_it() {
        assert_eq!(outcome("via_upstream", 0, 200, true), Outcome::Answered);
        assert_eq!(outcome("downstream_remote_disconnect", 1 << 14, 200, true), Outcome::Answered);
        for (details, flags) in [
            ("downstream_remote_disconnect", 1 << 14),
            ("http2.remote_reset", 1 << 28),
            ("downstream_local_disconnect(http2_ping_timeout)", 1 << 14),
            ("via_upstream", 0),
            ("", 0),
        ] {
            assert_eq!(outcome(details, flags, 200, false), Outcome::HungUp, "{details}");
        }
        for (details, flags) in [
            ("upstream_reset_after_response_started{connection_termination}", 1 << 6),
            ("upstream_reset_after_response_started{remote_reset}", 0),
            ("via_upstream", 1 << 4),
            ("stream_idle_timeout", 1 << 16),
            ("max_duration_timeout", 0),
            ("upstream_max_stream_duration_reached", 1 << 19),
        ] {
            assert_eq!(outcome(details, flags, 200, false), Outcome::Failed, "{details}");
        }
    }

    #[test]
    fn a_refusal_is_the_upstreams_own() {
        for status in [301, 400, 429, 499] {
            assert_eq!(outcome("via_upstream", 0, status, true), Outcome::Refused);
            assert_eq!(outcome("downstream_remote_disconnect", 1 << 14, status, false), Outcome::Refused);
        }
    }

    #[test]
    fn an_answer_proves_that_the_request_was_sent() {
        let unsent = Seen { sent: false, status: Some(200), ended: true };
        assert_eq!(of(&end("via_upstream", 0), unsent), Outcome::Answered);
        assert_eq!(of(&end("", 0), unsent), Outcome::NotSent);
    }

    #[test]
    fn a_withheld_answer_failed() {
        let denied = |details: &str| StreamEnd { denial: Some("upstream_encoded"), ..end(details, 0) };
        assert_eq!(of(&denied("via_upstream"), Seen { status: Some(200), ..SENT }), Outcome::Failed);
        assert_eq!(of(&denied(""), Seen { status: Some(200), ..SENT }), Outcome::Failed);
        assert_eq!(of(&denied(""), Seen { sent: false, status: Some(500), ended: true }), Outcome::NotSent);
    }
}
