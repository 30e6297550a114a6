//! What the ledger and the state file count, against what was told and what is true.

use std::collections::BTreeSet;

use super::*;

impl Bank {
    /// The ledger's counters against what it was told, added up.
    pub(in crate::ledger::tests::history) fn check_books(&self, now: Now) -> Result<(), String> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        for (limit, hold) in self.holds(now) {
            let of = |lease| self.leases[&lease].holds.contains(&hold);
            let (used, under_way) = self.told.used(limit.counts, of);
            let state = self.ledger.lock();
            let (counted, expected) = match limit.refill {
                Refill::InFlight => (state.counters.in_flight(&hold).into(), under_way),
                _ => (state.counters.window(&hold).outstanding + state.counters.window(&hold).settled, used),
            };
            if counted != u128::from(expected) {
                return Err(format!("{}: {counted} are counted, {expected} add up", limit.name));
            }
        }
        Ok(())
    }

    /// Every budget of the present, and what is lent or spent of it.
    pub(in crate::ledger::tests::history) fn used(&self, now: Now) -> Vec<(Budget, u64)> {
        let state = self.ledger.lock();
        let budgets = self.holds(now).into_iter().filter(|(limit, _)| limit.refill != Refill::InFlight);
        let used = budgets.map(|(limit, hold)| {
            let used = state.counters.window(&hold);
            let budget = Budget { name: limit.name.clone(), amount: limit.amount, hold, counts: limit.counts };
            (budget, u64::try_from(used.outstanding + used.settled).unwrap())
        });
        used.collect()
    }

    /// What requests have really used of a budget, or may have: those that nobody knows about count in full.
    pub(in crate::ledger::tests::history) fn real(&self, budget: &Budget, requests: &Requests) -> u64 {
        let of = requests.values().filter(|request| self.leases[&request.lease].holds.contains(&budget.hold));
        of.map(|request| amount_of(&request.charge.unwrap_or(request.reserved), budget.counts)).sum()
    }

    /// What is reserved or under way anywhere.
    pub(in crate::ledger::tests::history) fn outstanding(&self) -> u128 {
        let state = self.ledger.lock();
        let windows = state.counters.budgets.values().flat_map(BTreeMap::values).map(|used| used.outstanding);
        windows.sum::<u128>() + state.counters.in_flight.values().map(|count| u128::from(*count)).sum::<u128>()
    }

    /// What the audit log says that requests were charged.
    pub(in crate::ledger::tests::history) fn charged(&self) -> BTreeMap<GrantId, Cost> {
        let lines = self.store.as_ref().unwrap().reader().unwrap().audit_after(0, u64::MAX).unwrap();
        let allowed = lines.into_iter().filter(|line| line.record.decision == Decision::Allow);
        allowed.map(|line| (line.record.grant_id.unwrap(), line.charged.unwrap())).collect()
    }

    /// A lease is forgotten when its longest stream has passed twice; what is settled after that is not counted.
    pub(in crate::ledger::tests::history) fn may_forget(&self, lease: LeaseId, number: u32) -> bool {
        self.forgets() && !self.kept.has(lease, number)
    }

    pub(in crate::ledger::tests::history) fn forgets(&self) -> bool {
        self.longest_ms < 100_000
    }

    /// Each limit with each counter that it has in the present.
    fn holds(&self, now: Now) -> Vec<(&Limit, Hold)> {
        let mut seen = BTreeSet::new();
        let sets = (0..2).flat_map(|set| self.limits.iter().map(move |limit| (set, limit)));
        let holds = sets.map(|(set, limit)| (limit, self.with_subject(set, |s| Hold::new(limit, s, false, now))));
        holds.filter(|(_, hold)| seen.insert(hold.key.to_text())).collect()
    }

    pub(in crate::ledger::tests::history) fn with_subject<T>(
        &self,
        set: u64,
        use_it: impl FnOnce(&Subject<'_>) -> T,
    ) -> T {
        let (tenant, model) = (TenantName::parse("acme").unwrap(), ModelName::parse("llama").unwrap());
        use_it(&Subject {
            tenant: &tenant,
            time_zone: &TimeZone::UTC,
            principal: PRINCIPALS[usize::try_from(set).unwrap()],
            key_id: None,
            model: &model,
            limits: &self.limits,
            key_limits: &[],
            watched: &[],
            longest_stream: Duration::from_millis(self.longest_ms),
        })
    }
}
