//! Long jobs: listed and ended.

use gateway_core::name::TenantName;
use jiff::Timestamp;

use super::{Inner, Running, tenant_of};
use crate::admin::{AdminError, JobRow, JobState, Operator};
use crate::identity::job::JobRecord;

impl<R: Running> Inner<R> {
    pub(super) fn list_jobs(&self, tenant: Option<&TenantName>) -> Result<Vec<JobRow>, AdminError> {
        if let Some(tenant) = tenant {
            tenant_of(&self.running.registry(), tenant)?;
        }
        let mut jobs = self.running.jobs();
        jobs.retain(|job| tenant.is_none_or(|tenant| job.tenant == *tenant));
        jobs.sort_by(|a, b| (&a.tenant, a.started_at, &a.id).cmp(&(&b.tenant, b.started_at, &b.id)));
        let now = self.running.time();
        Ok(jobs.iter().map(|job| row(job, now)).collect())
    }

    pub(super) async fn revoke_job(&self, by: Operator, id: String) -> Result<JobRow, AdminError> {
        let known = self.running.jobs();
        let Some(job) = known.iter().find(|job| job.id == id) else {
            return Err(AdminError::unknown("job", &id, known.iter().map(|job| job.id.as_str())));
        };
        let audit = self.about(by, "job.revoke", job.tenant.as_str(), "", job.actor());
        let ended = self.running.end_job(&id, vec![audit]).await.map_err(|error| {
            let until = "the job is ended until this service restarts, but that is not on the disk: revoke it again";
            AdminError::Unavailable(format!("{until} ({error})"))
        })?;
        let ended = ended.ok_or_else(|| AdminError::unknown("job", &id, []))?;
        Ok(row(&ended, self.running.time()))
    }
}

fn row(job: &JobRecord, now: Timestamp) -> JobRow {
    let state = match job {
        _ if job.revoked_at.is_some() => JobState::Revoked,
        _ if now >= job.ends_at => JobState::Ended,
        _ if now >= job.current.expires_at => JobState::Lapsed,
        _ => JobState::Active,
    };
    JobRow {
        id: job.id.clone(),
        tenant: job.tenant.to_string(),
        job: job.name.clone(),
        principal: job.party.name.clone(),
        state,
        started_at: job.started_at,
        expires_at: job.current.expires_at,
        ends_at: job.ends_at,
    }
}
