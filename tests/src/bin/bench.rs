//! The bench: the whole chain beside bare Envoy proxying, in one run, as ratios. Never a test: it fails only when a
//! request fails.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use bulkhead_tests::configuration::{replaced, repository};
use bulkhead_tests::gateway::{Gateway, chat_body, start_envoy};
use bulkhead_tests::process::Process;
use clap::Parser;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Measures what the chain costs.
#[derive(Parser)]
struct Options {
    /// Rounds; each runs every subject once.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds for each subject and round.
    #[arg(long, default_value_t = 8)]
    seconds: u32,
    /// Bytes of the prompt.
    #[arg(long, default_value_t = 1024)]
    prompt: usize,
    /// Client connections.
    #[arg(long, default_value_t = 16)]
    connections: u32,
}

/// What is measured: where requests go, with which credential, and whose CPU counts.
struct Subject<'a> {
    name: &'static str,
    address: std::net::SocketAddr,
    authorization: String,
    processes: Vec<&'a Process>,
}

/// What wrk says.
#[derive(Deserialize)]
struct Load {
    requests: u64,
    seconds: f64,
    p50_us: u64,
    p99_us: u64,
    bad_status: u64,
    broken: u64,
}

/// One subject in one round.
#[derive(Clone, Debug, Serialize)]
struct Figures {
    subject: &'static str,
    requests: u64,
    requests_per_second: f64,
    cpu_us_per_request: f64,
    service_us_per_request: f64,
    p50_us: u64,
    p99_us: u64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let gateway = Gateway::builder().quiet_upstream().start().await;
    let directory = gateway.directory();
    let bare = std::fs::read_to_string(repository().join("tests/bench/bare.yaml"))?;
    let bare = replaced(&bare, "port_value: 8001}", &format!("port_value: {}}}", gateway.upstream.addr().port()));
    let bare =
        replaced(&replaced(&bare, "port_value: 9901}", "port_value: 0}"), "port_value: 10000}", "port_value: 0}");
    let bare_directory = directory.join("bare");
    std::fs::create_dir_all(&bare_directory)?;
    std::fs::write(bare_directory.join("envoy.yaml"), bare)?;
    let (bare, _, bare_address) = start_envoy(&bare_directory, &bare_directory.join("envoy.yaml"), 1).await;
    let body = directory.join("body.json");
    std::fs::write(&body, chat_body(&format!("[tokens=16] {}", "word ".repeat(options.prompt / 5))).to_string())?;

    let chain = vec![&gateway.envoy, gateway.service().process()];
    let subjects = [
        Subject {
            name: "bare Envoy",
            address: bare_address,
            authorization: "Bearer sk-bare".into(),
            processes: vec![&bare],
        },
        Subject {
            name: "chain, API key",
            address: gateway.addr,
            authorization: gateway.bearer("acme"),
            processes: chain.clone(),
        },
        Subject { name: "chain, ES256", address: gateway.addr, authorization: gateway.jwt("acme"), processes: chain },
    ];
    for subject in &subjects {
        measure(subject, &body, 1, options.connections).await.context("warming up")?;
    }
    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for subject in &subjects {
            rounds.push(measure(subject, &body, options.seconds, options.connections).await?);
        }
    }
    report(&options, &subjects.map(|subject| subject.name), &rounds)
}

/// One run of wrk, and the CPU that it cost the subject's processes (user and system).
async fn measure(subject: &Subject<'_>, body: &Path, seconds: u32, connections: u32) -> anyhow::Result<Figures> {
    let before: Vec<f64> = subject.processes.iter().map(|process| process.cpu_seconds()).collect();
    let output = tokio::process::Command::new("wrk")
        .args(["--threads", "1", "--connections", &connections.to_string(), "--duration", &format!("{seconds}s")])
        .args(["--timeout", "10s", "--script"])
        .arg(repository().join("tests/bench/post.lua"))
        .arg(format!("http://{}/v1/chat/completions", subject.address))
        .env("BENCH_BODY", body)
        .env("BENCH_AUTHORIZATION", &subject.authorization)
        .output()
        .await
        .context("wrk")?;
    let used = subject.processes.iter().zip(&before).map(|(process, before)| process.cpu_seconds() - before);
    let used: Vec<f64> = used.collect();
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().rfind(|line| line.starts_with('{')).with_context(|| format!("wrk said: {said}"))?;
    let load: Load = serde_json::from_str(line)?;
    ensure!(load.bad_status == 0 && load.broken == 0 && load.requests > 0, "{}: requests failed: {line}", subject.name);
    Ok(Figures {
        subject: subject.name,
        requests: load.requests,
        requests_per_second: load.requests as f64 / load.seconds,
        cpu_us_per_request: used.iter().sum::<f64>() * 1e6 / load.requests as f64,
        service_us_per_request: used.get(1).copied().unwrap_or_default() * 1e6 / load.requests as f64,
        p50_us: load.p50_us,
        p99_us: load.p99_us,
    })
}

/// Medians over the rounds, and each beside the bare proxy.
fn report(options: &Options, names: &[&'static str], rounds: &[Figures]) -> anyhow::Result<()> {
    let median = |name: &str, of: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = rounds.iter().filter(|figures| figures.subject == name).map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let bare = median(names[0], |figures| figures.cpu_us_per_request);
    println!(
        "{:<16} {:>10} {:>10} {:>9} {:>9} {:>9} {:>7}",
        "", "CPU µs/req", "of service", "req/s", "p50 µs", "p99 µs", "ratio"
    );
    let mut rows = Vec::new();
    for name in names {
        let cpu = median(name, |figures| figures.cpu_us_per_request);
        let service = median(name, |figures| figures.service_us_per_request);
        let rate = median(name, |figures| figures.requests_per_second);
        let p50 = median(name, |figures| figures.p50_us as f64);
        let p99 = median(name, |figures| figures.p99_us as f64);
        let ratio = cpu / bare;
        println!("{name:<16} {cpu:>10.0} {service:>10.0} {rate:>9.0} {p50:>9.0} {p99:>9.0} {ratio:>6.2}x");
        rows.push(json!({
            "subject": name, "cpuUsPerRequest": cpu, "serviceUsPerRequest": service, "requestsPerSecond": rate, "p50Us": p50, "p99Us": p99,
            "cpuRatioToBare": ratio,
        }));
    }
    println!(
        "CPU: Envoy and service, user and system; {}-byte prompt, plaintext loopback, audit on disk.",
        options.prompt
    );
    let target = repository().join("target/bench");
    std::fs::create_dir_all(&target)?;
    let result = json!({"promptBytes": options.prompt, "connections": options.connections, "build": build(), "medians": rows, "rounds": rounds});
    let path: PathBuf = target.join("result.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&result)?)?;
    println!("{}", path.display());
    Ok(())
}

const fn build() -> &'static str {
    if cfg!(debug_assertions) { "dev (a smoke, not a figure)" } else { "release" }
}
