//! The one integration binary: every case here goes through a real Envoy, the shipped configuration and the real module,
//! and unless its subject is another one, through the real service. Run by `tests/run.sh NAME`; one file per subject.

mod answers;
mod arrows;
mod bad_input;
mod bodies;
mod budget;
mod cases_envoy;
mod cases_pure;
mod claims;
mod configuration;
mod crash;
mod data_endpoint;
mod first_steps;
mod framing;
mod gate;
mod grants;
mod hostile_upstream;
mod jwt;
mod limits;
mod memory;
mod oidc;
mod operating;
mod own_refusals;
mod reserved;
mod resets;
mod sdk;
mod settlement;
mod sources;
mod strangers;
mod vault;
