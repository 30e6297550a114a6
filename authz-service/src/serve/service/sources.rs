//! Sources that fail to log in: who must wait, what counts as a failure, and what the audit log says of those who wait.

use std::sync::Once;
use std::time::Duration;

use gateway_core::denial::Code;
use gateway_core::wire;

use super::Service;
use crate::decide::Deny;
use crate::ledger::Now;
use crate::store::{self, AuditRecord, Command};
use crate::throttle::{Refused, Source};

/// Sources that have a line of their own in one second; the others share one, so that a botnet does not fill the disk.
const LINES: usize = 100;

impl Service {
    /// How long this source must wait before it may ask again, if it must.
    pub(in crate::serve) fn must_wait(&self, source: Option<Source>) -> Option<Duration> {
        static TOLD: Once = Once::new();
        if source.is_none() {
            TOLD.call_once(|| {
                tracing::error!(
                    metadata = wire::SOURCE,
                    "a proxy does not say where requests come from: none is slowed"
                );
            });
        }
        self.throttle.refuse(source?, self.now())
    }

    /// Counts a refusal that proved nobody.
    pub(in crate::serve) fn count_failure(&self, source: Option<Source>, deny: &Deny) {
        let failed = matches!(
            deny.denial.code,
            Code::MissingCredential | Code::AmbiguousCredentials | Code::CredentialInUrl | Code::InvalidCredential
        );
        if let Some(source) = source.filter(|_| failed) {
            self.throttle.failed(source, self.now());
        }
    }

    /// Writes down what was refused to sources that must wait: once a second, and when the service ends.
    pub(in crate::serve) async fn record_refused_sources(&self, now: Now) {
        let Refused { by_source, mut others } = self.throttle.take_refused(now);
        for (at, (source, count)) in by_source.into_iter().enumerate() {
            if at < LINES {
                self.record_refused(now, &format!("source {source}: {count} requests")).await;
            } else {
                others = others.saturating_add(count);
            }
        }
        if others > 0 {
            self.record_refused(now, &format!("other sources: {others} requests")).await;
        }
    }

    async fn record_refused(&self, now: Now, which: &str) {
        let row = Code::RateLimited.row();
        let record = AuditRecord {
            at_ms: now.unix_ms,
            decision: store::Decision::Deny,
            code: row.code.to_owned(),
            status: row.status,
            detail: format!("{which} after too many failed logins"),
            ..AuditRecord::default()
        };
        if self.write(Command::Decision(Box::new(record), None)).await.is_err() {
            tracing::error!(which, "refused after too many failed logins, and the audit log does not say so");
        }
    }
}
