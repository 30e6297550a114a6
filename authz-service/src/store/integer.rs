//! Integers without a sign, in columns that have one: the greatest that a column holds stands for everything above.

use rusqlite::types::Type;
use rusqlite::{Error, Row};

/// As a column holds it.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A column that is never null and never negative.
pub(super) fn uint(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    optional(row, column)?.ok_or_else(|| Error::InvalidColumnType(column, column.to_string(), Type::Null))
}

/// A column that is never negative.
pub(super) fn optional(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    let value: Option<i64> = row.get(column)?;
    value.map(|value| u64::try_from(value).map_err(|_| Error::IntegralValueOutOfRange(column, value))).transpose()
}
