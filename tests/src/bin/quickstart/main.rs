//! The driver of `examples/quickstart/run.sh`: starts a model, the service and Envoy with the shipped configuration, sends
//! about twenty requests, and prints each with what was expected and what happened. It decides nothing about a request.

mod kept;
mod page;
mod providers;
mod stack;
mod stage;
mod story;
mod tenants;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use stack::Stack;
use stage::Stage;

/// What `examples/quickstart/run.sh` hands over; its `--help` is the one that teaches.
#[derive(Parser)]
struct Arguments {
    /// Envoy's binary.
    #[arg(long, required_unless_present = "stop")]
    envoy: Option<PathBuf>,
    /// The module, as wasm-build.sh left it.
    #[arg(long, required_unless_present = "stop")]
    wasm: Option<PathBuf>,
    /// Leaves everything running.
    #[arg(long)]
    keep: bool,
    /// Ends what `--keep` left running.
    #[arg(long, conflicts_with = "keep")]
    stop: bool,
}

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        let said = panic.payload_as_str().unwrap_or("it broke off");
        eprintln!("\nquickstart: {said}\nquickstart: logs are in {}", stack::directory().display());
    }));
    let arguments = Arguments::parse();
    let runtime = bulkhead_tests::runtime();
    let ended = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            ended = run(arguments) => ended,
            _ = terminate.recv() => anyhow::bail!("stopped"),
            _ = interrupt.recv() => anyhow::bail!("stopped"),
        }
    });
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("quickstart: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether every expectation held.
async fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let directory = stack::directory();
    if arguments.stop {
        return kept::stop(&directory).await.map(|()| true);
    }
    let (Some(envoy), Some(wasm)) = (arguments.envoy, arguments.wasm) else { anyhow::bail!("no Envoy, no module") };
    let mut issuers = tenants::Issuers::new();
    let stack = Stack::start(&directory, &envoy, &wasm, &issuers, arguments.keep).await?;
    let keys = tenants::Keys::create(stack.service()).await;
    let mut stage = Stage::new(&stack, &keys, &mut issuers);
    story::tell(&mut stage).await;
    let held = stage.page.close(&stack);
    if arguments.keep {
        kept::write_env(&stack, &keys, &issuers)?;
        kept::teach(&stack);
        stack.leave();
    } else {
        kept::point_on(&stack);
        stack.end()?;
    }
    Ok(held)
}
