//! What the decision about an API key costs, in process: with how many keys there are, and whether its time tells an id that
//! exists from one that does not, or where two hashes differ (Welch's t, as dudect does: Reparaz, Balasch and Verbauwhede, 2017).

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use authz_service::decide::{Arrival, Decision, Grounds, OwnKeys, decide};
use authz_service::identity::api_key::{KeyHash, KeyRecord, Keys, NewKey};
use authz_service::identity::certificate::RevokedSerials;
use authz_service::identity::discovery::KeyRing;
use authz_service::identity::jwt::own::Own;
use authz_service::ledger::{GrantId, Ledger};
use authz_service::registry::{KeyAges, KeyTerms, Permits, Registry, WrittenKey};
use authz_service::resource;
use authz_service::sightings::Sightings;
use authz_service::vault::{Secret, system_random};
use bulkhead_tests::policies::Policies;
use gateway_core::denial::Denial;
use gateway_core::headers::Head;
use gateway_core::name::TenantName;
use gateway_core::wire;
use jiff::{SignedDuration, Timestamp};

/// Decisions of each round.
const ROUND: usize = 20_000;
const ROUNDS: usize = 7;
/// Keys that each class of a comparison takes in turn: so many that none of them, by its place in a table, makes the mean.
const POOL: usize = 50_000;
/// Two of unknown ids, two of known ones, and one of known ones whose hash differs elsewhere.
const CLASSES: usize = 5;
/// dudect's line between no evidence and a leak.
const LEAK: f64 = 4.5;

/// Prints a line for each number of keys, and one for each comparison of `samples` a class.
pub(crate) fn print(samples: usize) -> anyhow::Result<()> {
    println!("| keys | µs a good key | to 10 keys | µs an unknown id |");
    println!("|---:|---:|---:|---:|");
    let mut first = None;
    for keys in [10, 10_000, 100_000, 1_000_000] {
        let (good, unknown) = costs(keys)?;
        let first = *first.get_or_insert(good);
        println!("| {keys} | {good:.2} | {:.2} | {unknown:.2} |", good / first);
    }
    println!(
        "\n| classes, {samples} samples each | median ns | median ns | t | t of the lower nine tenths | beyond {LEAK} |"
    );
    println!("|---|---:|---:|---:|---:|---|");
    let mut house = House::new()?;
    // made in turn: a class is not told by where in memory its records lie
    let kept = |number: usize, made: &KeyHash| match number % CLASSES {
        2 | 3 => Some(flipped(made, 31)),
        4 => Some(flipped(made, 0)),
        _ => None,
    };
    let texts = house.texts(POOL * CLASSES, kept)?;
    let class = |of: usize| -> Vec<String> { texts.iter().skip(of).step_by(CLASSES).cloned().collect() };
    let (stranger, again, wrong, wrong_too, wrong_first) = (class(0), class(1), class(2), class(3), class(4));
    for (what, one, other) in [
        ("unknown ids, and others: what the machine itself does", &stranger, &again),
        ("known ids, and others: the same", &wrong, &wrong_too),
        ("unknown id, and known id with a wrong secret", &stranger, &wrong),
        ("hash that differs in the first byte, and in the last", &wrong_first, &wrong),
    ] {
        let compared = house.compare(one, other, samples)?;
        let beyond = if compared.t.abs().max(compared.t_cropped.abs()) > LEAK { "yes" } else { "no" };
        let Compared { medians: [one, other], t, t_cropped } = compared;
        println!("| {what} | {one:.0} | {other:.0} | {t:.2} | {t_cropped:.2} | {beyond} |");
    }
    Ok(())
}

/// What decisions are made from: the standard resources, and keys of acme's.
struct House {
    registry: Registry,
    records: Keys,
    revoked: RevokedSerials,
    published: KeyRing,
    own: Own,
    ledger: Ledger,
    sightings: Sightings,
    tenant: TenantName,
    now: Timestamp,
}

/// No tenant has a provider's key of its own.
struct NoKeys;

impl OwnKeys for NoKeys {
    fn own_key(&self, _: &TenantName, _: &str) -> Result<Option<Secret>, Denial> {
        Ok(None)
    }

    fn has_own_key(&self, _: &TenantName, _: &str) -> bool {
        false
    }
}

struct Compared {
    medians: [f64; 2],
    t: f64,
    /// Of those that took no longer than nine tenths of all did: without what interrupts.
    t_cropped: f64,
}

impl House {
    fn new() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        Policies::standard().write(directory.path())?;
        let problems = |problems: Vec<resource::Problem>| anyhow::anyhow!("{problems:?}");
        Ok(Self {
            registry: resource::load(directory.path()).map_err(problems)?.registry,
            records: Keys::new(),
            revoked: RevokedSerials::new(),
            published: KeyRing::offline(),
            own: Own::default(),
            ledger: Ledger::default(),
            sightings: Sightings::default(),
            tenant: TenantName::parse("acme").context("a name")?,
            now: Timestamp::now(),
        })
    }

    /// Texts of that many keys; `kept` says which hash, if any, the store has of each.
    fn texts(
        &mut self,
        count: usize,
        kept: impl Fn(usize, &KeyHash) -> Option<KeyHash>,
    ) -> anyhow::Result<Vec<String>> {
        let mut texts = Vec::with_capacity(count);
        for number in 0..count {
            let made = NewKey::generate(&mut system_random)?;
            texts.push(format!("Bearer {}", made.text.expose()));
            let Some(hash) = kept(number, &made.hash) else { continue };
            let record = KeyRecord::first(&made.id, self.tenant.clone(), hash, self.now);
            self.records.insert(made.id.clone(), record);
            let terms = KeyTerms {
                id: made.id.clone(),
                tenant: self.tenant.clone(),
                permits: Permits::default(),
                limits: Vec::new(),
                sources: None,
                expires_at: self.now + SignedDuration::from_hours(24),
                ages: KeyAges::default(),
                written: WrittenKey::default(),
            };
            self.registry.keys.insert(made.id, Arc::new(terms));
        }
        Ok(texts)
    }

    /// Whether `GET /v1/models` is let through.
    fn decide(&self, authorization: &str) -> bool {
        let jobs = HashMap::new();
        let grounds = Grounds {
            registry: &self.registry,
            published: &self.published,
            keys: &self.records,
            revoked_certificates: &self.revoked,
            vault: &NoKeys,
            own: &self.own,
            jobs: &jobs,
            ledger: &self.ledger,
            sightings: &self.sightings,
            claim_header: wire::CLAIM_HEADER,
        };
        let headers: [(&str, &[u8]); 1] = [("authorization", authorization.as_bytes())];
        let arrival = Arrival {
            head: Head { method: "GET", authority: "ai.example", path: "/v1/models", headers: &headers },
            body: &[],
            request_id: "r-1",
            proxy: "edge-1",
            source: None,
            certificate: "",
            now: self.now,
            grant_id: GrantId([7; 16]),
        };
        matches!(black_box(decide(&grounds, &arrival)), Decision::Allow(_))
    }

    /// Two classes in an order that nobody knows beforehand, each sample timed by itself.
    fn compare(&self, one: &[String], other: &[String], samples: usize) -> anyhow::Result<Compared> {
        let (mut taken, mut coins) = ([Vec::with_capacity(samples), Vec::with_capacity(samples)], Coins::new());
        for number in 0..samples * 2 {
            let class = usize::from(coins.next());
            let pool = if class == 0 { one } else { other };
            let text = pool.get(number % pool.len()).context("a text")?;
            let began = Instant::now();
            let allowed = self.decide(text);
            let took = began.elapsed();
            ensure!(!allowed, "a wrong key was let through");
            taken.get_mut(class).context("a class")?.push(took.as_nanos() as f64);
        }
        let mut all = taken.concat();
        all.sort_unstable_by(f64::total_cmp);
        let bound = all.get(all.len() * 9 / 10).copied().context("samples")?;
        let t = welch(&taken[0], &taken[1]);
        let medians = [median(&taken[0])?, median(&taken[1])?];
        let cropped = taken.map(|class| class.into_iter().filter(|took| *took <= bound).collect::<Vec<_>>());
        Ok(Compared { medians, t, t_cropped: welch(&cropped[0], &cropped[1]) })
    }
}

/// Microseconds of one decision, good key and unknown id, in the median round; every key is asked about in turn.
fn costs(keys: usize) -> anyhow::Result<(f64, f64)> {
    let mut house = House::new()?;
    let known = house.texts(keys, |_, made| Some(made.clone()))?;
    let strangers = house.texts(keys.min(10_000), |_, _| None)?;
    let micros = |texts: &[String], want: bool| -> anyhow::Result<f64> {
        let mut rounds = Vec::with_capacity(ROUNDS);
        // a stride that meets no two neighbours: what is near in memory was not asked about just now
        let asked = |number: usize| texts.get(number.wrapping_mul(7_919) % texts.len());
        for round in 0..ROUNDS {
            let began = Instant::now();
            for number in 0..ROUND {
                ensure!(house.decide(asked(round * ROUND + number).context("a text")?) == want, "decided otherwise");
            }
            rounds.push(began.elapsed());
        }
        rounds.sort_unstable();
        Ok(rounds.get(ROUNDS / 2).context("a round")?.as_secs_f64() * 1e6 / ROUND as f64)
    };
    Ok((micros(&known, true)?, micros(&strangers, false)?))
}

fn flipped(hash: &KeyHash, at: usize) -> KeyHash {
    let mut bytes = *hash.as_bytes();
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 0xff;
    }
    KeyHash::from_bytes(bytes)
}

/// Welch's t: the difference of two means in units of its own standard error.
fn welch(one: &[f64], other: &[f64]) -> f64 {
    let spread = |class: &[f64]| {
        let mean = mean(class);
        let squares: f64 = class.iter().map(|took| (took - mean).powi(2)).sum();
        squares / (class.len() as f64 - 1.0) / class.len() as f64
    };
    (mean(one) - mean(other)) / (spread(one) + spread(other)).sqrt()
}

fn median(class: &[f64]) -> anyhow::Result<f64> {
    let mut class = class.to_vec();
    class.sort_unstable_by(f64::total_cmp);
    class.get(class.len() / 2).copied().context("samples")
}

fn mean(class: &[f64]) -> f64 {
    class.iter().sum::<f64>() / class.len() as f64
}

/// Which class comes next.
struct Coins(u64);

impl Coins {
    fn new() -> Self {
        Self(Timestamp::now().as_nanosecond() as u64 | 1)
    }

    fn next(&mut self) -> bool {
        // xorshift64 (Marsaglia, 2003)
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 & 1 == 1
    }
}
