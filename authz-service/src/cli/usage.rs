//! `bulkhead usage`: what every tenant has used and has left, as a table or as the service's own JSON.

use std::io::Write;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use super::CliError;
use super::amounts::{counted, dollars, gpu_seconds};
use super::command::Output;
use crate::admin::client::Client;
use crate::admin::{LimitLeft, TenantUsage, Usage};

pub(super) async fn usage(client: &Client, output: Output, out: &mut dyn Write) -> Result<(), CliError> {
    let usage = client.usage().await?;
    match output {
        Output::Json => Ok(writeln!(out, "{}", serde_json::to_string(&usage)?)?),
        Output::Table => Ok(writeln!(out, "{}", table(&usage))?),
    }
}

const HEADER: [&str; 8] = ["tenant", "requests", "denied", "tokens in", "tokens out", "GPU-s", "dollars", "left"];
/// Columns of numbers.
const RIGHT: [usize; 5] = [1, 3, 4, 5, 6];

fn table(usage: &Usage) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(HEADER);
    for column in RIGHT {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for tenant in &usage.tenants {
        table.add_row(row(tenant));
    }
    table
}

fn row(used: &TenantUsage) -> [String; 8] {
    let requests = used.denied.values().fold(used.admitted, |sum, count| sum.saturating_add(*count));
    let denied: Vec<String> = used.denied.iter().map(|(code, count)| format!("{count} {code}")).collect();
    let left: Vec<String> = used.limits.iter().map(left).collect();
    [
        if used.tenant.is_empty() { "(none)".to_owned() } else { used.tenant.clone() },
        requests.to_string(),
        if denied.is_empty() { "0".to_owned() } else { denied.join("\n") },
        used.input_tokens.to_string(),
        used.output_tokens.to_string(),
        gpu_seconds(used.gpu_ms),
        dollars(used.micro_usd),
        left.join("\n"),
    ]
}

fn left(limit: &LimitLeft) -> String {
    let amount = counted(&limit.counts, limit.amount);
    let left = counted(&limit.counts, limit.left);
    // `12 of 100 tokens`, not `12 tokens of 100 tokens`.
    let unit = amount.split_once(' ').map(|(_, unit)| unit).unwrap_or_default();
    format!("{}: {} of {amount}", limit.name, left.trim_end_matches(unit).trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(name: &str, counts: &str, left: u64, amount: u64) -> LimitLeft {
        LimitLeft { name: name.into(), counts: counts.into(), amount, left, resets_at: None }
    }

    #[test]
    fn a_tenants_use_is_one_row_with_exact_amounts() {
        let acme = TenantUsage {
            tenant: "acme".into(),
            admitted: 12,
            denied: [("model_not_allowed".into(), 2), ("rate_limit_exceeded".into(), 1)].into(),
            input_tokens: 1_200,
            output_tokens: 345,
            gpu_ms: 6_789,
            micro_usd: 1_234,
            limits: vec![
                limit("gpu-hour", "gpu_ms", 3_193_211, 3_200_000),
                limit("tokens", "tokens", 98_455, 100_000),
                limit("day", "micro_usd", 998_766, 1_000_000),
            ],
        };
        let strangers = TenantUsage { denied: [("missing_credential".into(), 4)].into(), ..TenantUsage::default() };
        assert_eq!(
            table(&Usage { tenants: vec![strangers, acme] }).to_string(),
            "\
┌────────┬──────────┬───────────────────────┬───────────┬────────────┬───────┬───────────┬──────────────────────────────────────┐
│ tenant ┆ requests ┆ denied                ┆ tokens in ┆ tokens out ┆ GPU-s ┆   dollars ┆ left                                 │
╞════════╪══════════╪═══════════════════════╪═══════════╪════════════╪═══════╪═══════════╪══════════════════════════════════════╡
│ (none) ┆        4 ┆ 4 missing_credential  ┆         0 ┆          0 ┆ 0.000 ┆ $0.000000 ┆                                      │
│ acme   ┆       15 ┆ 2 model_not_allowed   ┆      1200 ┆        345 ┆ 6.789 ┆ $0.001234 ┆ gpu-hour: 3193.211 of 3200.000 GPU-s │
│        ┆          ┆ 1 rate_limit_exceeded ┆           ┆            ┆       ┆           ┆ tokens: 98455 of 100000 tokens       │
│        ┆          ┆                       ┆           ┆            ┆       ┆           ┆ day: $0.998766 of $1.000000          │
└────────┴──────────┴───────────────────────┴───────────┴────────────┴───────┴───────────┴──────────────────────────────────────┘"
        );
    }
}
