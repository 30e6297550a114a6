//! The history checker: workers, messages, a ledger and its state file, all of them failing at random, from a seed. After
//! each step what the ledger counts is compared with what really happened, and with a flat list of what was acknowledged.

mod bank;
mod book;
mod random;
mod worker;
mod world;

use std::collections::BTreeMap;

use super::*;
use bank::{Bank, Call, Reply};
use book::Book;
use random::Random;
use worker::Worker;
use world::World;

/// A message is not under way for longer: its connection is closed by then.
const MESSAGE_MS: u64 = 10_000;
/// A worker waits this long for an answer.
const CALL_MS: u64 = 2_000;
/// Who is counted apart from whom; both share the tenant's limits.
const PRINCIPALS: [&str; 2] = ["ana", "ben"];

/// What is broken on purpose, to show that it is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sabotage {
    None,
    /// The answer leaves, and nothing was written.
    AnsweredUnsaved,
    /// What nobody reported is given back.
    FreedAtExpiry,
    /// A worker closes a lease and forgets what is under way.
    ClosedTooEarly,
}

/// One request that a worker has admitted: what really happened, whoever knows of it.
#[derive(Clone, Debug)]
pub(super) struct Truth {
    lease: LeaseId,
    number: u32,
    reserved: Cost,
    /// What it has used; not known while it is under way, or when its worker died.
    charge: Option<Cost>,
    /// The service has said that it has this.
    acknowledged: bool,
}

type Requests = BTreeMap<(LeaseId, u32), Truth>;

fn run(seed: u64, sabotage: Sabotage) -> Result<(), String> {
    let mut world = World::new(seed, sabotage);
    for step in 0..160 {
        let what = world.step();
        world.check().map_err(|error| format!("step {step}, {what}: {error}"))?;
    }
    world.settle_down();
    world.check_end().map_err(|error| format!("at the end: {error}"))
}

fn check_seeds(seeds: std::ops::Range<u64>) {
    let failed: Vec<String> = seeds
        .clone()
        .filter_map(|seed| run(seed, Sabotage::None).err().map(|error| format!("seed {seed}: {error}")))
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {} histories: {:#?}",
        failed.len(),
        seeds.count(),
        failed.iter().take(5).collect::<Vec<_>>()
    );
}

#[test]
fn no_history_loses_what_was_acknowledged_or_lends_what_is_not_there() {
    let full = std::env::var_os("BULKHEAD_FULL").is_some_and(|value| value == "1");
    check_seeds(0..if full { 5_000 } else { 200 });
}

#[test]
fn the_checker_sees_each_kind_of_loss() {
    for sabotage in [Sabotage::AnsweredUnsaved, Sabotage::FreedAtExpiry, Sabotage::ClosedTooEarly] {
        let seen = (0..40).filter_map(|seed| run(seed, sabotage).err()).count();
        assert!(seen > 0, "{sabotage:?} was never seen");
        eprintln!("{sabotage:?}: seen in {seen} of 40 histories");
    }
}
