//! The grant of a stream: how a request gets one, and the request compared with it.
//!
//! Two places of the chain, sans-I/O, without a clock: [`front`] ahead of ext_authz (profile `inline`), where held grants
//! answer for the service, and [`TenantContext`] behind it. What may be held, and until when, is [`held`]'s and
//! [`revocations`]' to say.

pub mod front;
mod gateway;
pub mod held;
mod request_key;
pub mod revocations;

pub use gateway::{Arrival, Held, QUICK_MS, TenantContext, answer_tag};
