//! `bulkhead.wasm`: the shell that runs the three filters inside Envoy.
//!
//! It turns Envoy's callbacks into the filters' values and their steps into host calls, and decides nothing. The only
//! caller of the proxy-wasm SDK is `host`. One image has two root ids: `gateway`, whose streams are in `stream`, and, in
//! profile `inline` ahead of ext_authz, `tenant-context`, whose streams are in `front`. Both run in one VM per worker and
//! share what is in `shared`; what a worker says to the service is in `worker`, what an operator writes in `config`.

#![expect(missing_docs, reason = "the one public item is the entry point that the SDK's macro makes")]

mod config;
mod cut;
mod front;
mod host;
mod root;
mod shared;
mod stream;
mod worker;

host::start!();
