//! What can be written. Each command is durable as a whole or not at all.

use gateway_core::gate::{Cost, Outcome, Usage};

use super::audit::AuditRecord;
use super::certificates::CertificateCommand;
use crate::authorization::Login;
use crate::ledger::{GrantId, Lease, LeaseId, Reservation};

/// One write.
#[derive(Clone, Debug)]
pub enum Command {
    /// A decision's audit record, and what was reserved for it.
    Decision(Box<AuditRecord>, Option<Box<Reservation>>),
    /// The end of a granted request. A grant whose settlement is durable, or that is not known, is left as it is.
    Settle(Box<Settle>),
    /// A reservation that nobody settled is charged; a later [`Command::Settle`] corrects it.
    Spend {
        /// The grant.
        grant_id: GrantId,
        /// What is charged.
        charge: Cost,
        /// When, milliseconds since 1970.
        at_ms: u64,
    },
    /// A reservation whose request never started: the audit record says `undone`, nothing stays reserved.
    Undo {
        /// The grant.
        grant_id: GrantId,
        /// It was answered, so that a settlement may come after all and must find it.
        answered: bool,
    },
    /// An undone reservation is held by a worker after all.
    Reinstate {
        /// The grant.
        grant_id: GrantId,
    },
    /// A lease, before it is told to anybody; one that is known is left as it is.
    Lend(Box<Lease>),
    /// The end of a request that was admitted from a lease. Counts once: one that has its audit line is left as it is.
    SettleLeased(Box<LeasedEnd>),
    /// A lease from which nothing new is started: what `taken` does not hold is given back.
    CloseLease {
        /// Which.
        id: LeaseId,
        /// What its requests took; `requests` says how many.
        taken: Cost,
        /// It has become spend, and stays so.
        expired: bool,
        /// When, milliseconds since 1970.
        at_ms: u64,
    },
    /// A lease's requests that nobody reported are charged as they were lent, and one audit line says how many; settlements
    /// and its end correct both.
    SpendLease {
        /// Which.
        id: LeaseId,
        /// When, milliseconds since 1970.
        at_ms: u64,
    },
    /// What Envoy refused by itself, as one worker reports it; repeats are told by sequence.
    Refusals {
        /// The proxy.
        proxy: String,
        /// Its worker.
        worker: [u8; 16],
        /// One audit line each.
        refusals: Vec<Refusal>,
        /// Refusals that the worker could not keep, and the sequence of the report that says so: one line.
        lost: Option<(u64, u64)>,
        /// When it was reported, milliseconds since 1970.
        at_ms: u64,
    },
    /// A new API key; a conflict where its id exists.
    KeyCreate(KeyRow),
    /// A new API key that takes over from another one, which ends with the overlap; a conflict where that one was rotated or
    /// revoked before, or the new id exists.
    KeyRotate {
        /// The new key, its parent named.
        child: KeyRow,
        /// When, milliseconds since 1970.
        at_ms: u64,
        /// When the parent ends, milliseconds since 1970.
        until_ms: u64,
    },
    /// When API keys were last used, milliseconds since 1970.
    KeysUsed(Vec<(String, u64)>),
    /// An API key and all that came of it by rotation are never valid again; unknown ids are kept too, and stay revoked.
    KeyRevoke {
        /// The key's id.
        id: String,
        /// When, milliseconds since 1970.
        at_ms: u64,
    },
    /// A tenant's sealed provider key; a conflict unless its version is newer than what is there.
    VaultPut(VaultRow),
    /// A key that the service signs its own tokens with; a conflict where its id exists.
    SigningKeyPut(SigningKeyRow),
    /// A job, new or changed; a revocation that is there stays.
    JobPut(Box<JobRow>),
    /// No signing key of before is good for anything any more.
    SigningKeysWithdraw {
        /// When, milliseconds since 1970.
        at_ms: u64,
    },
    /// The last good set of resources.
    KeepSources {
        /// Its version.
        version: String,
        /// The set.
        bytes: Vec<u8>,
    },
    /// A principal's network, new or used again; and one that made room for it.
    Sighted(Box<crate::sightings::Change>),
    /// A client's certificate, or a tenant's CA.
    Certificate(Box<CertificateCommand>),
    /// What an operator did.
    AdminAudit(Box<AuditRecord>),
    /// Drops windows that ended two days ago, and reservations that nothing corrects any more.
    Prune {
        /// Now, milliseconds since 1970.
        now_ms: u64,
    },
    /// Several, all or none.
    Batch(Vec<Command>),
}

/// The end of a granted request.
#[derive(Clone, Debug)]
pub struct Settle {
    /// The grant.
    pub grant_id: GrantId,
    /// What is charged.
    pub charge: Cost,
    /// What it was charged for.
    pub usage: Usage,
    /// The usage is our estimate, not the provider's word.
    pub estimated: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// What the client got; 0: nothing.
    pub status: u16,
    /// Code of the module's own denial, or empty.
    pub denial: String,
    /// Envoy's response code details.
    pub details: String,
    /// How long it took.
    pub duration_ms: u64,
    /// When it was settled, milliseconds since 1970.
    pub at_ms: u64,
}

/// A request that Envoy refused without the service.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Per worker, ascending.
    pub sequence: u64,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// Envoy's request id.
    pub request_id: String,
    /// What the client got.
    pub status: u16,
    /// Envoy's response code details.
    pub details: String,
    /// Code of the denial.
    pub code: String,
    /// What the grant says that the module refused it under: then it is a decision like the service's own.
    pub under: Option<Box<AuditRecord>>,
}

/// The end of a request that was admitted from a lease.
#[derive(Clone, Debug)]
pub struct LeasedEnd {
    /// Which lease.
    pub lease: LeaseId,
    /// The request's audit line, with its grant id.
    pub record: AuditRecord,
    /// What it took of the lease.
    pub reserved: Cost,
    /// How it ended.
    pub settle: Settle,
}

/// An API key as the store knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRow {
    /// Its id.
    pub id: String,
    /// Whose.
    pub tenant: String,
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    /// When it was made, milliseconds since 1970.
    pub created_ms: u64,
    /// Since when it is not valid any more.
    pub revoked_ms: Option<u64>,
    /// The key that it took over from.
    pub parent: Option<String>,
    /// The first key of its chain and when that was made, milliseconds since 1970; none: itself.
    pub chain: Option<(String, u64)>,
    /// When it was rotated, and when it ends for that.
    pub rotated: Option<(u64, u64)>,
    /// When it was last used.
    pub used_ms: Option<u64>,
}

/// A tenant's provider key, sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultRow {
    /// Whose.
    pub tenant: String,
    /// For which provider.
    pub provider: String,
    /// The key that it is sealed under.
    pub key_id: String,
    /// Grows with each new key.
    pub version: u64,
    /// Ciphertext.
    pub sealed: Vec<u8>,
}

/// A key that the service signs its own tokens with, sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeyRow {
    /// Key id.
    pub id: String,
    /// Since when it signs, milliseconds since 1970.
    pub signs_from_ms: u64,
    /// Since when it is good for nothing.
    pub withdrawn_ms: Option<u64>,
    /// Ciphertext.
    pub sealed: Vec<u8>,
}

/// A long job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRow {
    /// Its id.
    pub id: String,
    /// Whose.
    pub tenant: String,
    /// What its owner calls it.
    pub name: String,
    /// Who started it.
    pub principal: String,
    /// Issuer of the token that started it; empty: an API key did.
    pub issuer: String,
    /// Scopes of that token, with spaces between.
    pub scopes: String,
    /// SHA-256 of the certificate that it is bound to, or empty.
    pub certificate: String,
    /// How the one who started it had logged in.
    pub login: Login,
    /// When it was started, milliseconds since 1970.
    pub started_ms: u64,
    /// When it is over.
    pub ends_ms: u64,
    /// Since when it is revoked.
    pub revoked_ms: Option<u64>,
    /// The credential that was made last.
    pub current: IssuedRow,
    /// The one before it.
    pub former: Option<IssuedRow>,
}

/// A job's credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedRow {
    /// SHA-256 of its text.
    pub hash: [u8; 32],
    /// When it expires, milliseconds since 1970.
    pub expires_ms: u64,
}
