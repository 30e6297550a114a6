//! The one integration binary: every case here goes through a real Envoy, the shipped configuration and the real module,
//! and unless its subject is another one, through the real service. Run by `tests/run.sh NAME`; one file per subject.

mod answers;
mod arrows;
mod bodies;
mod configuration;
mod data_endpoint;
mod first_steps;
mod framing;
mod gate;
mod grants;
mod own_refusals;
mod sdk;
