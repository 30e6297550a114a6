//! API keys as SQL: made, rotated, revoked, used. Rows are never deleted: what was revoked stays so.

use rusqlite::{Connection, params};

use super::super::WriteError;
use super::super::command::KeyRow;
use super::super::integer::int;

pub(super) fn create(db: &Connection, key: &KeyRow) -> Result<(), WriteError> {
    let sql = "INSERT OR IGNORE INTO keys (id, tenant, hash, created_ms, revoked_ms, parent, chain, chain_ms)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let created = db.prepare_cached(sql)?.execute(params![
        key.id,
        key.tenant,
        key.hash,
        int(key.created_ms),
        key.revoked_ms.map(int),
        key.parent,
        key.chain.as_ref().map(|(id, _)| id),
        key.chain.as_ref().map(|(_, began_ms)| int(*began_ms)),
    ])?;
    if created == 1 { Ok(()) } else { Err(WriteError::Conflict(format!("key `{}` exists", key.id))) }
}

/// The parent is marked first: who comes second finds it marked, and makes no child.
pub(super) fn rotate(db: &Connection, child: &KeyRow, at_ms: u64, until_ms: u64) -> Result<(), WriteError> {
    let sql = "UPDATE keys SET rotated_ms = ?3, until_ms = ?4
        WHERE id = ?1 AND tenant = ?2 AND rotated_ms IS NULL AND revoked_ms IS NULL";
    let marked = db.prepare_cached(sql)?.execute(params![child.parent, child.tenant, int(at_ms), int(until_ms)])?;
    let parent = child.parent.as_deref().unwrap_or_default();
    if marked != 1 {
        return Err(WriteError::Conflict(format!("key `{parent}` was rotated or revoked before")));
    }
    create(db, child)
}

/// Whoever revokes a key revokes what came of it, however long ago.
pub(super) fn revoke(db: &Connection, id: &str, at_ms: u64) -> Result<(), WriteError> {
    let sql = "INSERT OR IGNORE INTO keys (id, tenant, hash, created_ms) VALUES (?1, '', x'', ?2)";
    db.prepare_cached(sql)?.execute(params![id, int(at_ms)])?;
    let sql =
        "WITH RECURSIVE tree (id) AS (VALUES (?1) UNION SELECT keys.id FROM keys JOIN tree ON keys.parent = tree.id)
        UPDATE keys SET revoked_ms = min(?2, ifnull(revoked_ms, ?2)) WHERE id IN (SELECT id FROM tree)";
    db.prepare_cached(sql)?.execute(params![id, int(at_ms)])?;
    Ok(())
}

pub(super) fn used(db: &Connection, used: &[(String, u64)]) -> Result<(), WriteError> {
    let mut statement = db.prepare_cached("UPDATE keys SET used_ms = max(?2, ifnull(used_ms, 0)) WHERE id = ?1")?;
    for (id, at_ms) in used {
        statement.execute(params![id, int(*at_ms)])?;
    }
    Ok(())
}
