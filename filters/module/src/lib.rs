//! `bulkhead.wasm`: the shell that runs the three filters inside Envoy.
//!
//! It turns Envoy's callbacks into the filters' values and their steps into host calls, and decides nothing. The only
//! caller of the proxy-wasm SDK is `host`; a stream's phases are in `stream`, what a worker sends to the service in
//! `worker`, what an operator writes in `config`.

#![expect(missing_docs, reason = "the one public item is the entry point that the SDK's macro makes")]

mod config;
mod host;
mod stream;
mod worker;

host::start!();
