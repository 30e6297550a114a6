//! `bulkhead key`: make, revoke, list. The key itself is printed once, on standard output, and nowhere else.

use std::io::Write;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;

use super::CliError;
use super::command::{NewKey, Output};
use crate::admin::client::Client;
use crate::admin::{KeyRow, NewKeyBody};

pub(super) async fn create(client: &Client, asked: NewKey, out: &mut dyn Write) -> Result<(), CliError> {
    let NewKey { tenant, models, endpoints, role, ttl, namespace, output } = asked;
    let listed = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
    let body =
        NewKeyBody { tenant, models: listed(models), endpoints: listed(endpoints), role, ttl: Some(ttl), namespace };
    let created = client.create_key(&body).await?;
    if output == Output::Json {
        return Ok(writeln!(out, "{}", serde_json::to_string(&created)?)?);
    }
    writeln!(out, "key      {}", created.key.expose())?;
    writeln!(out, "id       {}", created.id)?;
    writeln!(out, "expires  {}", created.expires_at)?;
    writeln!(out, "file     {}", created.file)?;
    Ok(writeln!(out, "\nThe key is shown this once: the service keeps only its hash.")?)
}

pub(super) async fn revoke(client: &Client, id: &str, out: &mut dyn Write) -> Result<(), CliError> {
    let row = client.revoke_key(id).await?;
    let whose = row.tenant.map(|tenant| format!(" of {tenant}")).unwrap_or_default();
    Ok(writeln!(out, "key {}{whose} is revoked", row.id)?)
}

pub(super) async fn list(
    client: &Client,
    tenant: Option<&str>,
    output: Output,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let rows = client.list_keys(tenant).await?;
    match output {
        Output::Json => Ok(writeln!(out, "{}", serde_json::to_string(&rows)?)?),
        Output::Table => Ok(writeln!(out, "{}", table(&rows))?),
    }
}

fn table(rows: &[KeyRow]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["id", "tenant", "state", "expires", "models", "endpoints"]);
    let list = |list: &Option<Vec<String>>| list.as_ref().map_or_else(|| "all".to_owned(), |list| list.join("\n"));
    for row in rows {
        table.add_row([
            row.id.clone(),
            row.tenant.clone().unwrap_or_default(),
            row.state.as_str().to_owned(),
            row.expires_at.map(|at| at.to_string()).unwrap_or_default(),
            list(&row.models),
            list(&row.endpoints),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::KeyState;

    #[test]
    fn keys_are_listed_with_what_they_open() {
        let active = KeyRow {
            id: "k1".into(),
            tenant: Some("acme".into()),
            state: KeyState::Active,
            models: Some(vec!["llama".into(), "gpt".into()]),
            endpoints: None,
            expires_at: Some("2026-11-23T08:00:00Z".parse().unwrap()),
        };
        let stray = KeyRow {
            id: "k2".into(),
            tenant: None,
            state: KeyState::NoResource,
            models: None,
            endpoints: None,
            expires_at: None,
        };
        assert_eq!(
            table(&[active, stray]).to_string(),
            "\
┌────┬────────┬─────────────┬──────────────────────┬────────┬───────────┐
│ id ┆ tenant ┆ state       ┆ expires              ┆ models ┆ endpoints │
╞════╪════════╪═════════════╪══════════════════════╪════════╪═══════════╡
│ k1 ┆ acme   ┆ active      ┆ 2026-11-23T08:00:00Z ┆ llama  ┆ all       │
│    ┆        ┆             ┆                      ┆ gpt    ┆           │
│ k2 ┆        ┆ no_resource ┆                      ┆ all    ┆ all       │
└────┴────────┴─────────────┴──────────────────────┴────────┴───────────┘"
        );
    }
}
