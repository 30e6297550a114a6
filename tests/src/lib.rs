//! What the integration tests are built from: a real Envoy with the shipped configuration and module, the real service, and
//! a model that answers as it is told. Nothing in here decides anything about a request.

pub mod upstream;
