//! The tables. Amounts are 64-bit integers; times are milliseconds since 1970; STRICT, so that a column holds its type.

/// `BULK`: marks the file as ours.
pub(super) const APPLICATION_ID: i32 = 0x4255_4c4b;

/// One step per version: step `n` leads from `user_version` n to n + 1. Never edited once released, only appended to.
pub(super) const STEPS: &[&str] = &[
    "
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    principal TEXT NOT NULL,
    key_id TEXT NOT NULL,
    credential TEXT NOT NULL,
    policy_version TEXT NOT NULL,
    decision TEXT NOT NULL CHECK (decision IN ('allow', 'deny', 'refused', 'admin', 'undone')),
    code TEXT NOT NULL,
    status INTEGER NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    region TEXT NOT NULL,
    proxy TEXT NOT NULL,
    detail TEXT NOT NULL,
    grant_id BLOB UNIQUE,
    worker BLOB,
    sequence INTEGER,
    reserved_tokens INTEGER, reserved_gpu_ms INTEGER, reserved_micro_usd INTEGER, reserved_requests INTEGER,
    settled_ms INTEGER,
    outcome TEXT,
    estimated INTEGER,
    duration_ms INTEGER,
    details TEXT,
    charged_tokens INTEGER, charged_gpu_ms INTEGER, charged_micro_usd INTEGER, charged_requests INTEGER,
    input INTEGER, cached_input INTEGER, output INTEGER, reasoning INTEGER
) STRICT;
CREATE INDEX audit_time ON audit (at_ms);
CREATE UNIQUE INDEX audit_report ON audit (worker, sequence) WHERE worker IS NOT NULL;

CREATE TABLE reservations (
    grant_id BLOB PRIMARY KEY REFERENCES audit (grant_id),
    state TEXT NOT NULL CHECK (state IN ('open', 'undone', 'expired')),
    proxy TEXT NOT NULL,
    model TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    longest_stream_ms INTEGER NOT NULL,
    reserved_tokens INTEGER NOT NULL, reserved_gpu_ms INTEGER NOT NULL,
    reserved_micro_usd INTEGER NOT NULL, reserved_requests INTEGER NOT NULL,
    charged_tokens INTEGER NOT NULL, charged_gpu_ms INTEGER NOT NULL,
    charged_micro_usd INTEGER NOT NULL, charged_requests INTEGER NOT NULL,
    input_estimate INTEGER NOT NULL,
    holds TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE windows (
    key TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    settled INTEGER NOT NULL CHECK (settled >= 0),
    PRIMARY KEY (key, start_ms)
) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) IN (0, 32)),
    created_ms INTEGER NOT NULL,
    revoked_ms INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE vault (
    tenant TEXT NOT NULL,
    provider TEXT NOT NULL,
    key_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (tenant, provider)
) STRICT, WITHOUT ROWID;

CREATE TABLE sources (only INTEGER PRIMARY KEY CHECK (only = 1), version TEXT NOT NULL, bytes BLOB NOT NULL) STRICT;
",
    "
-- Partial, and so small: what one request's two reports are joined by.
CREATE INDEX audit_refused ON audit (request_id) WHERE decision = 'refused';
CREATE INDEX audit_unsettled ON audit (request_id) WHERE settled_ms IS NULL AND worker IS NULL;
",
    "
-- Decision `grant`. SQLite changes a CHECK by copying the table; foreign keys are off while it does.
CREATE TABLE audit_next (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    principal TEXT NOT NULL,
    key_id TEXT NOT NULL,
    credential TEXT NOT NULL,
    policy_version TEXT NOT NULL,
    decision TEXT NOT NULL CHECK (decision IN ('allow', 'grant', 'deny', 'refused', 'admin', 'undone', 'gap')),
    code TEXT NOT NULL,
    status INTEGER NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    region TEXT NOT NULL,
    proxy TEXT NOT NULL,
    detail TEXT NOT NULL,
    grant_id BLOB UNIQUE,
    worker BLOB,
    sequence INTEGER,
    reserved_tokens INTEGER, reserved_gpu_ms INTEGER, reserved_micro_usd INTEGER, reserved_requests INTEGER,
    settled_ms INTEGER,
    outcome TEXT,
    estimated INTEGER,
    duration_ms INTEGER,
    details TEXT,
    charged_tokens INTEGER, charged_gpu_ms INTEGER, charged_micro_usd INTEGER, charged_requests INTEGER,
    input INTEGER, cached_input INTEGER, output INTEGER, reasoning INTEGER
) STRICT;
INSERT INTO audit_next SELECT * FROM audit;
DROP TABLE audit;
ALTER TABLE audit_next RENAME TO audit;
CREATE INDEX audit_time ON audit (at_ms);
CREATE UNIQUE INDEX audit_report ON audit (worker, sequence) WHERE worker IS NOT NULL;
CREATE INDEX audit_refused ON audit (request_id) WHERE decision = 'refused';
CREATE INDEX audit_unsettled ON audit (request_id) WHERE settled_ms IS NULL AND worker IS NULL;
",
    "
-- A lease in sums: lent, taken (once it is closed), ended and charged.
CREATE TABLE leases (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    expired INTEGER NOT NULL,
    proxy TEXT NOT NULL,
    worker BLOB NOT NULL CHECK (length(worker) = 16),
    tenant TEXT NOT NULL,
    scope_set TEXT NOT NULL,
    model TEXT NOT NULL,
    prices TEXT NOT NULL,
    served INTEGER NOT NULL,
    rate_tokens INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    longest_stream_ms INTEGER NOT NULL,
    holds TEXT NOT NULL,
    lent_tokens INTEGER NOT NULL, lent_gpu_ms INTEGER NOT NULL,
    lent_micro_usd INTEGER NOT NULL, lent_requests INTEGER NOT NULL,
    ended_tokens INTEGER NOT NULL, ended_gpu_ms INTEGER NOT NULL,
    ended_micro_usd INTEGER NOT NULL, ended_requests INTEGER NOT NULL,
    charged_tokens INTEGER NOT NULL, charged_gpu_ms INTEGER NOT NULL,
    charged_micro_usd INTEGER NOT NULL, charged_requests INTEGER NOT NULL,
    closed_tokens INTEGER, closed_gpu_ms INTEGER, closed_micro_usd INTEGER, closed_requests INTEGER
) STRICT, WITHOUT ROWID;
",
    "
-- From where principals have been let through; seconds since 1970.
CREATE TABLE sightings (
    tenant TEXT NOT NULL,
    principal TEXT NOT NULL,
    network TEXT NOT NULL,
    first_s INTEGER NOT NULL,
    last_s INTEGER NOT NULL,
    PRIMARY KEY (tenant, principal, network)
) STRICT, WITHOUT ROWID;
",
    "
-- A key's rotation, its place in a chain (null: it is the first), and its last use.
ALTER TABLE keys ADD COLUMN parent TEXT;
ALTER TABLE keys ADD COLUMN chain TEXT;
ALTER TABLE keys ADD COLUMN chain_ms INTEGER;
ALTER TABLE keys ADD COLUMN rotated_ms INTEGER;
ALTER TABLE keys ADD COLUMN until_ms INTEGER;
ALTER TABLE keys ADD COLUMN used_ms INTEGER;
-- Whoever races, a key has one child.
CREATE UNIQUE INDEX keys_parent ON keys (parent) WHERE parent IS NOT NULL;
",
    super::certificates::STEP,
    "
-- Who acted for a principal; and the keys that the service signs its own tokens with.
ALTER TABLE audit ADD COLUMN actors TEXT NOT NULL DEFAULT '';
CREATE TABLE signing_keys (
    id TEXT PRIMARY KEY,
    signs_from_ms INTEGER NOT NULL,
    withdrawn_ms INTEGER,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;
",
    "
-- Long jobs, with the hashes of their last two credentials. Empty text: none.
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    principal TEXT NOT NULL,
    issuer TEXT NOT NULL,
    scopes TEXT NOT NULL,
    certificate TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    ends_ms INTEGER NOT NULL,
    revoked_ms INTEGER,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    expires_ms INTEGER NOT NULL,
    former_hash BLOB CHECK (length(former_hash) = 32),
    former_expires_ms INTEGER
) STRICT, WITHOUT ROWID;
",
    "
-- How a job's starter had logged in: null, an empty list, null where the credential did not say.
ALTER TABLE jobs ADD COLUMN acr TEXT;
ALTER TABLE jobs ADD COLUMN amr TEXT NOT NULL DEFAULT '[]';
ALTER TABLE jobs ADD COLUMN auth_s INTEGER;
",
];
