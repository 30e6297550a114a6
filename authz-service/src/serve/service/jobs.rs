//! Long jobs as the running service holds them: in memory what the state file has, changed only after it has the change; but
//! a revocation is in force at once.

use std::collections::HashMap;
use std::sync::Arc;

use gateway_core::name::TenantName;
use jiff::Timestamp;

use super::Service;
use crate::identity::api_key::{ApiKeyText, KeyHash};
use crate::identity::job::{Issued, JobRecord};
use crate::identity::{Origin, Party};
use crate::store::{AuditRecord, Command, IssuedRow, JobRow, WriteError};

/// Jobs of one tenant that run at once, at most: what is in memory is bounded.
const MOST: usize = 1_000;

/// Running jobs, and those that were over not long ago, by id.
pub(super) type JobBook = HashMap<String, Arc<JobRecord>>;

/// What became of a wish for a job.
pub(in crate::serve) enum StartedJob {
    Kept,
    TooMany,
    Failed,
}

/// A job as the state file has it.
pub(super) fn restored(row: JobRow) -> Option<(String, Arc<JobRecord>)> {
    let issued = |row: IssuedRow| Some(Issued { hash: KeyHash::from_bytes(row.hash), expires_at: at(row.expires_ms)? });
    let origin = Some(row.issuer).filter(|issuer| !issuer.is_empty()).map(|issuer| Origin {
        issuer,
        scopes: row.scopes.split(' ').filter(|scope| !scope.is_empty()).map(ToOwned::to_owned).collect(),
    });
    let record = JobRecord {
        tenant: TenantName::parse(&row.tenant).ok()?,
        name: row.name,
        party: Party { name: row.principal, origin },
        certificate: Some(row.certificate).filter(|thumbprint| !thumbprint.is_empty()),
        login: row.login,
        started_at: at(row.started_ms)?,
        ends_at: at(row.ends_ms)?,
        revoked_at: row.revoked_ms.map(|ms| at(ms).unwrap_or(Timestamp::MIN)),
        current: issued(row.current)?,
        former: match row.former {
            None => None,
            Some(former) => Some(issued(former)?),
        },
        id: row.id,
    };
    Some((record.id.clone(), Arc::new(record)))
}

fn row(job: &JobRecord) -> JobRow {
    let issued = |issued: &Issued| IssuedRow { hash: *issued.hash.as_bytes(), expires_ms: ms(issued.expires_at) };
    let origin = job.party.origin.as_ref();
    JobRow {
        id: job.id.clone(),
        tenant: job.tenant.to_string(),
        name: job.name.clone(),
        principal: job.party.name.clone(),
        issuer: origin.map(|origin| origin.issuer.clone()).unwrap_or_default(),
        scopes: origin.map(|origin| origin.scopes.join(" ")).unwrap_or_default(),
        certificate: job.certificate.clone().unwrap_or_default(),
        login: job.login.clone(),
        started_ms: ms(job.started_at),
        ends_ms: ms(job.ends_at),
        revoked_ms: job.revoked_at.map(ms),
        current: issued(&job.current),
        former: job.former.as_ref().map(issued),
    }
}

fn at(ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
}

fn ms(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}

impl Service {
    /// Keeps a new job and its audit line.
    pub(in crate::serve) async fn start_job(&self, job: JobRecord, audit: AuditRecord) -> StartedJob {
        let _one = self.changing_jobs.lock().await;
        let now = self.time();
        let running = self.jobs.load().values().filter(|other| other.tenant == job.tenant && other.runs(now)).count();
        if running >= MOST {
            return StartedJob::TooMany;
        }
        let commands = vec![Command::AdminAudit(Box::new(audit)), Command::JobPut(Box::new(row(&job)))];
        match self.write(Command::Batch(commands)).await {
            Ok(()) => {
                self.put_job(job);
                StartedJob::Kept
            }
            Err(_) => StartedJob::Failed,
        }
    }

    /// Keeps a job with another credential; `None`: it does not run any more, or cannot be kept.
    pub(in crate::serve) async fn renew_job(
        &self,
        id: &str,
        renew: impl FnOnce(&JobRecord) -> Option<(JobRecord, ApiKeyText, AuditRecord)>,
    ) -> Option<(JobRecord, ApiKeyText)> {
        let _one = self.changing_jobs.lock().await;
        let job = self.jobs.load().get(id).cloned().filter(|job| job.runs(self.time()))?;
        let (renewed, text, audit) = renew(&job)?;
        let commands = vec![Command::AdminAudit(Box::new(audit)), Command::JobPut(Box::new(row(&renewed)))];
        self.write(Command::Batch(commands)).await.ok()?;
        self.put_job(renewed.clone());
        Some((renewed, text))
    }

    /// Ends a job: nobody's request is decided by it from here on, and workers drop what they hold of its tenant.
    ///
    /// # Errors
    /// [`WriteError`]: it has ended until the service restarts, and the state file does not have it.
    pub(in crate::serve) async fn end_job(
        &self,
        id: &str,
        with: Vec<Command>,
    ) -> Result<Option<JobRecord>, WriteError> {
        let _one = self.changing_jobs.lock().await;
        let Some(job) = self.jobs.load().get(id).cloned() else { return Ok(None) };
        let now = self.time();
        let ended = JobRecord { revoked_at: job.revoked_at.or(Some(now)), ..(*job).clone() };
        self.put_job(ended.clone());
        self.revocations.revoke(ended.tenant.as_str(), "");
        let commands = [with, vec![Command::JobPut(Box::new(row(&ended)))]].concat();
        self.write(Command::Batch(commands)).await?;
        Ok(Some(ended))
    }

    /// Every job that is known.
    pub(in crate::serve) fn all_jobs(&self) -> Vec<JobRecord> {
        self.jobs.load().values().map(|job| (**job).clone()).collect()
    }

    /// Once a minute: jobs that ended a day ago are forgotten, here as in the state file.
    pub(super) fn forget_jobs(&self, now: Timestamp) {
        let old = |job: &JobRecord| now.duration_since(job.ends_at) > jiff::SignedDuration::from_hours(24);
        if self.jobs.load().values().any(|job| old(job)) {
            self.jobs.rcu(|jobs| -> JobBook {
                jobs.iter().filter(|(_, job)| !old(job)).map(|(id, job)| (id.clone(), Arc::clone(job))).collect()
            });
        }
    }

    fn put_job(&self, job: JobRecord) {
        let job = Arc::new(job);
        self.jobs.rcu(|jobs| {
            let mut jobs = HashMap::clone(jobs);
            jobs.insert(job.id.clone(), Arc::clone(&job));
            jobs
        });
    }
}
