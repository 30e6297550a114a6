//! The bench: both profiles beside bare Envoy and beside Envoy's own filters, in one run, as ratios. Never a test: it fails
//! only when requests fail. What the columns are: tests/bench/README.md.

mod allow_all;
mod decisions;
mod keys;
mod load;
mod report;
mod stage;
mod subject;
mod verification;

use std::path::PathBuf;

use anyhow::ensure;
use bulkhead_tests::configuration::repository;
use clap::Parser;

use crate::load::{Figures, measure};
use crate::stage::Stage;
use crate::subject::{Subject, subjects};

/// Measures what the chain costs.
#[derive(Parser)]
struct Options {
    /// Rounds; each runs every subject once.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds for each subject and round.
    #[arg(long, default_value_t = 8)]
    seconds: u32,
    /// Client connections.
    #[arg(long, default_value_t = 16)]
    connections: u32,
    /// A few subjects alone: that it runs, not what it costs.
    #[arg(long)]
    smoke: bool,
    /// Only subjects with this text in their names, and bare Envoy.
    #[arg(long)]
    only: Option<String>,
    /// Instead of all this: what a decision about roles and rules costs, in process.
    #[arg(long)]
    decisions: bool,
    /// Instead of all this: what verifying a token costs by each algorithm, beside the native library, in process.
    #[arg(long)]
    verification: bool,
    /// Instead of all this: what the decision about an API key costs by the number of keys, and whether its time tells an id
    /// that exists from one that does not; so many samples of each.
    #[arg(long, value_name = "SAMPLES", num_args = 0..=1, default_missing_value = "1000000")]
    keys: Option<usize>,
    /// Instead of all this: an ext_authz server on this socket that allows everything.
    #[arg(long, hide = true)]
    allow_all: Option<PathBuf>,
}

impl Options {
    fn takes(&self, subject: &Subject<'_>) -> bool {
        let wanted = |text: &String| subject.name.contains(text.as_str()) || subject.is_bare();
        (subject.smoke || !self.smoke) && self.only.as_ref().is_none_or(wanted)
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(socket) = &options.allow_all {
        return allow_all::serve(socket).await;
    }
    if options.decisions {
        return decisions::print();
    }
    if options.verification {
        return verification::print();
    }
    if let Some(samples) = options.keys {
        return keys::print(samples);
    }
    let tenants = if options.smoke { 10 } else { 1_000 };
    let stage = Stage::set(tenants).await?;
    let mut subjects = subjects(&stage)?;
    subjects.retain(|subject| options.takes(subject));
    ensure!(!subjects.is_empty(), "no subject has that in its name");
    let mut rounds: Vec<Figures> = Vec::new();
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for subject in &subjects {
            // warm: connections, held grants, leases, caches
            measure(subject, &stage, 1, options.connections).await?;
            rounds.push(measure(subject, &stage, options.seconds, options.connections).await?);
        }
    }
    let result = repository().join("target/bench");
    std::fs::create_dir_all(&result)?;
    report::print(&subjects, &rounds);
    report::write(&result.join("result.json"), options.connections, &subjects, &rounds)
}
