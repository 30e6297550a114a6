//! `bulkhead job`: list and end long jobs. Their credentials are never shown.

use std::io::Write;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;

use super::CliError;
use super::command::{JobCommand, Output};
use crate::admin::JobRow;
use crate::admin::client::Client;

pub(super) async fn run(client: &Client, command: JobCommand, out: &mut dyn Write) -> Result<(), CliError> {
    match command {
        JobCommand::List { tenant, output } => {
            let rows = client.list_jobs(tenant.as_deref()).await?;
            match output {
                Output::Json => Ok(writeln!(out, "{}", serde_json::to_string(&rows)?)?),
                Output::Table => Ok(writeln!(out, "{}", table(&rows))?),
            }
        }
        JobCommand::Revoke { id } => {
            let row = client.revoke_job(&id).await?;
            Ok(writeln!(out, "job {} ({}) of {} is revoked", row.id, row.job, row.tenant)?)
        }
    }
}

fn table(rows: &[JobRow]) -> Table {
    let mut table = Table::new();
    let header = ["id", "tenant", "job", "started by", "state", "started", "credential until", "ends"];
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    for row in rows {
        table.add_row([
            row.id.clone(),
            row.tenant.clone(),
            row.job.clone(),
            row.principal.clone(),
            row.state.as_str().to_owned(),
            row.started_at.to_string(),
            row.expires_at.to_string(),
            row.ends_at.to_string(),
        ]);
    }
    table
}
