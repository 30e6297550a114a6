//! `bulkhead audit`: the newest records and those that follow, one line each.

use std::io::Write;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::CliError;
use super::amounts::dollars;
use super::command::Output;
use crate::admin::client::Client;
use crate::admin::router::MAX_AUDIT_RECORDS;

/// How often `--follow` asks for more.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn tail(
    client: &Client,
    output: Output,
    limit: u32,
    follow: bool,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    if output == Output::Table {
        writeln!(out, "{}", line(HEADER))?;
    }
    let mut page = client.audit(None, limit).await?;
    loop {
        for record in &page.records {
            match output {
                Output::Json => writeln!(out, "{}", record.get())?,
                Output::Table => writeln!(out, "{}", line(row(record)?.each_ref().map(String::as_str)))?,
            }
        }
        out.flush()?;
        if !follow {
            return Ok(());
        }
        if page.records.is_empty() {
            tokio::time::sleep(PAUSE).await;
        }
        page = client.audit(Some(page.next), MAX_AUDIT_RECORDS).await?;
    }
}

/// What the table shows of a record; the rest is in JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Shown {
    time: String,
    tenant: Option<String>,
    principal: Option<String>,
    actors: Vec<String>,
    decision: String,
    code: Option<String>,
    model: Option<String>,
    provider: Option<String>,
    charged: Option<ShownCost>,
    request_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct ShownCost {
    tokens: u64,
    micro_usd: u64,
}

const HEADER: [&str; 9] =
    ["time", "tenant", "principal", "decision", "code", "model", "provider", "charged", "request id"];
/// Least widths, so that lines that come later stand under those before.
const WIDTHS: [usize; 9] = [24, 12, 20, 9, 22, 20, 12, 24, 36];

fn row(record: &RawValue) -> Result<[String; 9], CliError> {
    let shown: Shown = serde_json::from_str(record.get())?;
    let charged = shown.charged.map(|cost| format!("{} {} tok", dollars(cost.micro_usd), cost.tokens));
    let cells = [
        Some(shown.time),
        shown.tenant,
        shown.principal.map(|principal| [principal].into_iter().chain(shown.actors).collect::<Vec<_>>().join(" < ")),
        Some(shown.decision),
        shown.code,
        shown.model,
        shown.provider,
        charged,
        shown.request_id,
    ];
    Ok(cells.map(|cell| cell.filter(|cell| !cell.is_empty()).map_or_else(|| "-".to_owned(), |cell| printable(&cell))))
}

fn line(cells: [&str; 9]) -> String {
    let padded: Vec<String> = cells.iter().zip(WIDTHS).map(|(cell, width)| format!("{cell:width$}")).collect();
    padded.join("  ").trim_end().to_owned()
}

/// Clients choose some of these texts: none may steer the operator's terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(record: &serde_json::Value) -> String {
        line(row(&serde_json::value::to_raw_value(record).unwrap()).unwrap().each_ref().map(String::as_str))
    }

    #[test]
    fn a_record_is_one_line_under_the_header() {
        assert_eq!(
            line(HEADER),
            "time                      tenant        principal             decision   code                    model                 provider      charged                   request id"
        );
        let record = serde_json::json!({
            "time": "2026-11-22T05:42:10.123Z", "tenant": "acme", "principal": "svc:batch", "decision": "allow",
            "code": null, "model": "llama-3.1-8b", "provider": "local", "requestId": "r-1",
            "charged": {"tokens": 30, "gpuMs": 12, "microUsd": 1_234, "requests": 1}, "proxy": "p1",
        });
        assert_eq!(
            shown(&record),
            "2026-11-22T05:42:10.123Z  acme          svc:batch             allow      -                       llama-3.1-8b          local         $0.001234 30 tok          r-1"
        );
    }

    #[test]
    fn a_clients_text_cannot_steer_the_terminal() {
        let record = serde_json::json!({"time": "t", "decision": "deny", "model": "\u{1b}[2J\u{9b}1m\nx"});
        let text = shown(&record);
        assert!(text.contains("?[2J?1m?x") && !text.contains(char::is_control), "{text:?}");
    }
}
