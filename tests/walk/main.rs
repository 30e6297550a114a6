//! The one integration binary: every case here goes through a real Envoy, the shipped configuration and the real module,
//! and unless its subject is another one, through the real service. Run by `tests/run.sh NAME`; one file per subject.

mod budget;
mod configuration;
mod crash;
mod first_steps;
mod limits;
mod operating;
mod own_refusals;
mod settlement;
mod vault;
