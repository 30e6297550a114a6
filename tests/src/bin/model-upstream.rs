//! The model of the quickstart and the bench as a process of its own; everything it does is `bulkhead_tests::upstream`.

use std::net::SocketAddr;
use std::path::PathBuf;

use bulkhead_tests::upstream;
use clap::Parser;

/// A model provider that speaks OpenAI's API and answers as the last user message tells it.
#[derive(Parser)]
struct Arguments {
    /// Where it serves, HTTP/1.1 and h2c; once for each provider.
    #[arg(long, required = true)]
    listen: Vec<SocketAddr>,
    /// Where it is asked (`/_record`) and told (`/_behave`, `/_release`); for the first `--listen` only.
    #[arg(long)]
    control: Option<SocketAddr>,
    /// Writes what reached it to this file as JSON when it is stopped.
    #[arg(long)]
    record: Option<PathBuf>,
    /// Keeps no record: for the bench.
    #[arg(long, conflicts_with_all = ["record", "control"])]
    no_record: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut upstreams = Vec::new();
    for (number, listen) in arguments.listen.into_iter().enumerate() {
        let control = arguments.control.filter(|_| number == 0);
        let options =
            upstream::Options { listen, control, record: !arguments.no_record, ..upstream::Options::default() };
        let upstream = upstream::spawn(options).await?;
        println!("model-upstream listens on {}", upstream.addr());
        upstreams.push(upstream);
    }
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    if let Some(path) = arguments.record {
        let requests: Vec<_> =
            upstreams.iter().flat_map(|upstream| upstream.record()).map(|seen| seen.shown()).collect();
        std::fs::write(path, serde_json::to_vec_pretty(&requests)?)?;
    }
    Ok(())
}
