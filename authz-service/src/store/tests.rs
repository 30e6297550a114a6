//! What the state file holds: durability, groups, one writer, one process.
