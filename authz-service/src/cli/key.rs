//! `bulkhead key`: make, revoke, list. The key itself is printed once, on standard output, and nowhere else.

use std::io::Write;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;

use super::CliError;
use super::command::{NewKey, Output};
use crate::admin::client::Client;
use crate::admin::{KeyRow, NewKeyBody};

pub(super) async fn create(client: &Client, asked: NewKey, out: &mut dyn Write) -> Result<(), CliError> {
    let NewKey { tenant, models, endpoints, sources, role, ttl, namespace, output } = asked;
    let listed = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
    let (models, endpoints, sources) = (listed(models), listed(endpoints), listed(sources));
    let body = NewKeyBody { tenant, models, endpoints, sources, role, ttl: Some(ttl), namespace };
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
    for row in client.revoke_key(id).await? {
        let whose = row.tenant.map(|tenant| format!(" of {tenant}")).unwrap_or_default();
        let with = if row.id == id { "" } else { ", which came of it by rotation," };
        writeln!(out, "key {}{whose}{with} is revoked", row.id)?;
    }
    Ok(())
}

pub(super) async fn revoke_all(client: &Client, tenant: &str, out: &mut dyn Write) -> Result<(), CliError> {
    let rows = client.revoke_keys(tenant).await?;
    for row in &rows {
        writeln!(out, "key {} of {tenant} is revoked", row.id)?;
    }
    Ok(writeln!(out, "all {} keys of {tenant} are revoked", rows.len())?)
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
    let header = ["id", "tenant", "state", "expires", "last used", "parent", "child", "models", "endpoints", "sources"];
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    let list = |list: &Option<Vec<String>>| list.as_ref().map_or_else(|| "all".to_owned(), |list| list.join("\n"));
    for row in rows {
        table.add_row([
            row.id.clone(),
            row.tenant.clone().unwrap_or_default(),
            row.state.as_str().to_owned(),
            row.expires_at.map(|at| at.to_string()).unwrap_or_default(),
            row.last_used.map(|at| format!("{at:.0}")).unwrap_or_default(),
            row.parent.clone().unwrap_or_default(),
            row.child.clone().unwrap_or_default(),
            list(&row.models),
            list(&row.endpoints),
            list(&row.sources),
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
        let stray = KeyRow {
            id: "k2".into(),
            tenant: None,
            state: KeyState::NoResource,
            models: None,
            endpoints: None,
            sources: None,
            expires_at: None,
            parent: None,
            child: None,
            last_used: None,
        };
        let active = KeyRow {
            id: "k1".into(),
            tenant: Some("acme".into()),
            state: KeyState::Active,
            models: Some(vec!["llama".into(), "gpt".into()]),
            sources: Some(vec!["10.0.0.0/8".into()]),
            expires_at: Some("2026-11-23T08:00:00Z".parse().unwrap()),
            parent: Some("k0".into()),
            child: Some("k3".into()),
            last_used: Some("2026-11-22T08:00:00.499Z".parse().unwrap()),
            ..stray.clone()
        };
        let table = table(&[active, stray]).to_string();
        assert_eq!(
            table,
            "\
┌────┬────────┬─────────────┬──────────────────────┬──────────────────────┬────────┬───────┬────────┬───────────┬────────────┐
│ id ┆ tenant ┆ state       ┆ expires              ┆ last used            ┆ parent ┆ child ┆ models ┆ endpoints ┆ sources    │
╞════╪════════╪═════════════╪══════════════════════╪══════════════════════╪════════╪═══════╪════════╪═══════════╪════════════╡
│ k1 ┆ acme   ┆ active      ┆ 2026-11-23T08:00:00Z ┆ 2026-11-22T08:00:00Z ┆ k0     ┆ k3    ┆ llama  ┆ all       ┆ 10.0.0.0/8 │
│    ┆        ┆             ┆                      ┆                      ┆        ┆       ┆ gpt    ┆           ┆            │
│ k2 ┆        ┆ no_resource ┆                      ┆                      ┆        ┆       ┆ all    ┆ all       ┆ all        │
└────┴────────┴─────────────┴──────────────────────┴──────────────────────┴────────┴───────┴────────┴───────────┴────────────┘"
        );
    }
}
