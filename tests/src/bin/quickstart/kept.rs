//! What outlives one run: the list of processes that `--keep` left, the file to be sourced, and the lines to try.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::bail;
use bulkhead_tests::process::built;

use crate::stack::{Stack, write_private};
use crate::tenants::{Issuers, Keys, TENANTS};

const STOP: &str = "./examples/quickstart/run.sh --stop";

/// One process of the list. Ids are used again by the system; with its start time it is the same one.
struct Running {
    pid: u32,
    since: String,
    name: String,
}

/// Writes the list.
pub(crate) fn record(stack: &Stack) -> std::io::Result<()> {
    let line = |pid, name| started(pid).map(|since| format!("{pid} {since} {name}\n"));
    let lines: String = stack.processes().filter_map(|process| line(process.pid(), process.name())).collect();
    fs::write(list(stack.directory()), lines)
}

/// Removes the list.
pub(crate) fn forget(directory: &Path) -> anyhow::Result<()> {
    Ok(fs::remove_file(list(directory))?)
}

/// Refuses to go on beside another quickstart in the same directory.
pub(crate) fn ensure_nothing_runs(directory: &Path) -> anyhow::Result<()> {
    if running(directory).is_empty() {
        return Ok(());
    }
    bail!("one is running here already; end it with\n\n    {STOP}\n")
}

/// Ends what is on the list: in order, then by force.
pub(crate) async fn stop(directory: &Path) -> anyhow::Result<()> {
    let all = running(directory);
    if all.is_empty() {
        println!("nothing runs");
        return Ok(());
    }
    for one in &all {
        println!("ending {} ({})", one.name, one.pid);
        signal(one, "TERM");
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) && !running(directory).is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    running(directory).iter().for_each(|one| signal(one, "KILL"));
    forget(directory)
}

/// Writes `target/quickstart/env`, readable by its owner alone: it holds credentials.
pub(crate) fn write_env(stack: &Stack, keys: &Keys, issuers: &Issuers) -> std::io::Result<()> {
    let mut text = String::from("# source this; the credentials live for half a day and longer\n");
    let mut export = |name: &str, value: &str| _ = writeln!(text, "export {name}='{value}'");
    export("BULKHEAD_GATEWAY", &format!("http://{}", stack.gateway()));
    export("BULKHEAD_ADMIN", &stack.service().admin());
    export("BULKHEAD", &built("bulkhead").display().to_string());
    for (tenant, _) in TENANTS {
        let name = tenant.to_uppercase();
        export(&format!("{name}_KEY"), keys.of(tenant));
        export(&format!("{name}_JWT"), &issuers.long_token(tenant));
    }
    write_private(&stack.directory().join("env"), &text)
}

/// Where to look next, when all has ended.
pub(crate) fn point_on(stack: &Stack) {
    println!(
        r"
Where to look next
  ./examples/quickstart/run.sh --keep    leave it running, with curl lines to try
  {}
      envoy.yaml, policies/              what it ran with: the shipped configuration, three tenants
      access.jsonl, bulkhead.log         what Envoy and the service wrote
  examples/quickstart/README.md          what each row shows
  envoy/standalone/portable.yaml         the filter chain, commented; ARCHITECTURE.md: how the code is cut
  ./tests/run.sh                         every test, through the same Envoy",
        stack.directory().display()
    );
}

/// What to do with what runs.
pub(crate) fn teach(stack: &Stack) {
    let directory = stack.directory().display();
    println!(
        r#"
It goes on running. In this or another terminal, from the repository:

  source target/quickstart/env

  # a chat completion, and a stream
  curl -s $BULKHEAD_GATEWAY/v1/chat/completions -H "Authorization: Bearer $ACME_KEY" -H 'Content-Type: application/json' \
    -d '{{"model": "llama", "messages": [{{"role": "user", "content": "hello"}}]}}'
  curl -sN $BULKHEAD_GATEWAY/v1/chat/completions -H "Authorization: Bearer $GLOBEX_JWT" -H 'Content-Type: application/json' \
    -d '{{"model": "llama", "stream": true, "messages": [{{"role": "user", "content": "slowly [tokens=20] [drip=200ms]"}}]}}'

  # somebody else's tenant; a budget that is used up; the limits, in the answer's headers
  curl -si $BULKHEAD_GATEWAY/api/v1/tenants/globex/models/llama/predict -H "Authorization: Bearer $ACME_KEY" \
    -H 'Content-Type: application/json' -d '{{"messages": [{{"role": "user", "content": "hello"}}]}}'
  curl -si $BULKHEAD_GATEWAY/v1/chat/completions -H "x-api-key: $INITECH_KEY" -H 'Content-Type: application/json' \
    -d '{{"model": "gpt-4o-mini", "messages": [{{"role": "user", "content": "hello"}}]}}'

  # the operator's side
  $BULKHEAD usage
  $BULKHEAD audit tail --limit 5
  $BULKHEAD key create --tenant globex --model llama --ttl 1h
  $EDITOR target/quickstart/policies/plans.yaml && $BULKHEAD reload

Files, logs, Envoy's configuration: {directory}
To end it: {STOP}"#
    );
}

fn list(directory: &Path) -> std::path::PathBuf {
    directory.join("running")
}

/// Those of the list that still run.
fn running(directory: &Path) -> Vec<Running> {
    let text = fs::read_to_string(list(directory)).unwrap_or_default();
    text.lines().filter_map(Running::read).filter(|one| started(one.pid).as_ref() == Some(&one.since)).collect()
}

impl Running {
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let pid = words.next()?.parse().ok()?;
        Some(Self { pid, since: words.next()?.into(), name: words.next()?.into() })
    }
}

/// When a process was started, as proc_pid_stat(5) counts it: field 22, behind a name that may hold anything. Nothing for
/// one that is gone or a zombie.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18).map(ToOwned::to_owned)
}

fn signal(one: &Running, name: &str) {
    let _ = Command::new("sh").args(["-c", &format!("kill -s {name} {}", one.pid)]).status();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_with_its_id() {
        let own = std::process::id();
        let since = started(own).unwrap();
        assert!(since.parse::<u64>().unwrap() > 0);
        let directory = tempfile::tempdir().unwrap();
        fs::write(list(directory.path()), format!("{own} {since} quickstart\n{own} 1 another\n")).unwrap();
        let running = running(directory.path());
        assert_eq!(running.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["quickstart"]);
    }
}
