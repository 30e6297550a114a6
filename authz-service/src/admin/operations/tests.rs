//! The operations over a real state file and a real directory of resources.

mod certificates;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::admin::{KeyState, NewKeyBody};
use crate::identity::api_key::{self, ApiKeyText};
use crate::identity::certificate::RevokedSerials;
use crate::identity::job::JobRecord;
use crate::resource;
use crate::store::{Fault, StoreOptions};
use crate::vault::{Sealed, open};

const SET: &str = "\
apiVersion: bulkhead.dev/v1alpha1
kind: Plan
metadata: {name: small}
spec:
  limits:
    - {name: gpu-day, counts: gpuTime, scope: tenant, amount: 2h, window: day}
    - {name: at-once, counts: requests, scope: tenant, amount: 4, inFlight: true}
  caps: {outputTokens: 4k, promptTokens: 32Ki}
---
apiVersion: bulkhead.dev/v1alpha1
kind: ModelCost
metadata: {name: llama}
spec:
  gpuClass: l4
  gpuWeightPermille: 1000
  gpuMsPer1kTokens: {input: 120, output: 9000}
  microUsdPer1mTokens: {input: 50k, output: 200k}
  minBytesPerToken: 1
  meanBytesPerToken: 4
  source: a test
  date: 2026-01-31
---
apiVersion: bulkhead.dev/v1alpha1
kind: ModelCost
metadata: {name: gpt}
spec:
  gpuClass: hosted
  gpuWeightPermille: 1000
  gpuMsPer1kTokens: {input: 0, output: 0}
  microUsdPer1mTokens: {input: 50k, output: 200k}
  minBytesPerToken: 1
  meanBytesPerToken: 4
  source: a test
  date: 2026-01-31
---
apiVersion: bulkhead.dev/v1alpha1
kind: Provider
metadata: {name: pool}
spec:
  dialect: openai
  cluster: pool
  region: eu
  models:
    - {name: llama}
    - {name: gpt}
  credential: bearer
---
apiVersion: bulkhead.dev/v1alpha1
kind: Tenant
metadata: {name: acme}
spec: {plan: small, models: [llama], regions: [eu], namespaces: [acme]}
---
apiVersion: bulkhead.dev/v1alpha1
kind: Tenant
metadata: {name: globex}
spec: {plan: small, models: [gpt], regions: [eu], namespaces: [elsewhere]}
";

pub(super) const BY: Operator = Operator { uid: 1000, pid: Some(7) };

/// A running service's state without its listeners.
pub(super) struct House {
    policies: PathBuf,
    store: Store,
    reader: Arc<Reader>,
    ledger: Ledger,
    kek: Kek,
    registry: StdMutex<Arc<Registry>>,
    keys: StdMutex<Keys>,
    changes: Mutex<()>,
    vault: StdMutex<BTreeMap<(String, String), VaultRow>>,
    revoked: StdMutex<RevokedSerials>,
    disk_fails: Arc<AtomicBool>,
    _directory: tempfile::TempDir,
}

impl Running for House {
    fn registry(&self) -> Arc<Registry> {
        self.registry.lock().unwrap().clone()
    }

    fn policies(&self) -> &Path {
        &self.policies
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn reader(&self) -> Arc<Reader> {
        self.reader.clone()
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn kek(&self) -> &Kek {
        &self.kek
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::new(self.keys.lock().unwrap().clone())
    }

    fn keep_keys(&self, records: Vec<KeyRecord>) {
        let mut keys = self.keys.lock().unwrap();
        for mut record in records {
            if let Some(known) = keys.get(&record.id) {
                record.keep_ended(known);
            }
            keys.insert(record.id.clone(), record);
        }
    }

    fn last_used(&self, _id: &str) -> Option<Timestamp> {
        None
    }

    fn changes(&self) -> &Mutex<()> {
        &self.changes
    }

    fn provider_key_version(&self, tenant: &TenantName, provider: &str) -> u64 {
        self.vault.lock().unwrap().get(&(tenant.to_string(), provider.to_owned())).map_or(0, |row| row.version)
    }

    fn keep_provider_key(&self, row: VaultRow) {
        self.vault.lock().unwrap().insert((row.tenant.clone(), row.provider.clone()), row);
    }

    fn revoke_certificate(&self, tenant: &TenantName, serial: &Serial) {
        self.revoked.lock().unwrap().insert((tenant.clone(), serial.clone()));
    }

    fn jobs(&self) -> Vec<JobRecord> {
        Vec::new()
    }

    async fn end_job(&self, _id: &str, _with: Vec<Command>) -> Result<Option<JobRecord>, WriteError> {
        Ok(None)
    }

    fn time(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn rotate_signing_key(
        &self,
        rotation: Rotation,
        with: Vec<Command>,
    ) -> Result<(String, u64), NewSigningKeyError> {
        self.store.write(Command::Batch(with)).await?;
        Ok((format!("{rotation:?}"), 1_000))
    }

    async fn reload(&self) -> Result<(), Vec<Problem>> {
        let loaded = resource::load(&self.policies)?;
        *self.registry.lock().unwrap() = Arc::new(loaded.registry);
        Ok(())
    }
}

impl House {
    pub(super) fn fail_disk(&self, fails: bool) {
        self.disk_fails.store(fails, Ordering::SeqCst);
    }

    /// Changes the set and puts it in force.
    pub(super) async fn edit(&self, from: &str, to: &str) {
        let file = self.policies.join("set.yaml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(file, text.replacen(from, to, 1)).unwrap();
        self.reload().await.unwrap();
    }

    /// The keys as the state file has them.
    pub(super) fn revoked_on_disk(&self) -> Vec<(String, bool)> {
        let file = self.policies.parent().unwrap().join("state.db");
        let db = rusqlite::Connection::open(file).unwrap();
        let mut rows = db.prepare("SELECT id, revoked_ms IS NOT NULL FROM keys").unwrap();
        rows.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    }
}

pub(super) fn house() -> (Administration<House>, Arc<House>) {
    let directory = tempfile::tempdir().unwrap();
    let policies = directory.path().join("policies");
    fs::create_dir(&policies).unwrap();
    fs::write(policies.join("set.yaml"), SET).unwrap();
    let disk_fails = Arc::new(AtomicBool::new(false));
    let fails = disk_fails.clone();
    let fault = Arc::new(move || if fails.load(Ordering::SeqCst) { Fault::FailCommit } else { Fault::None });
    let options = StoreOptions { fault, ..StoreOptions::default() };
    let (store, _) = Store::open_with(&directory.path().join("state.db"), options).unwrap();
    let house = Arc::new(House {
        reader: Arc::new(store.reader().unwrap()),
        store,
        ledger: Ledger::default(),
        kek: Kek::from_bytes(&[7; 32]).unwrap(),
        registry: StdMutex::new(Arc::new(resource::load(&policies).unwrap().registry)),
        keys: StdMutex::default(),
        changes: Mutex::default(),
        vault: StdMutex::default(),
        revoked: StdMutex::default(),
        disk_fails,
        policies,
        _directory: directory,
    });
    (Administration::new(house.clone()), house)
}

pub(super) fn asked(tenant: &str) -> NewKeyBody {
    NewKeyBody { tenant: tenant.into(), ..NewKeyBody::default() }
}

pub(super) async fn create(admin: &Administration<House>, body: NewKeyBody) -> Result<CreatedKey, AdminError> {
    admin.create_key(BY, body.try_into().unwrap()).await
}

pub(super) async fn actions(admin: &Administration<House>) -> Vec<String> {
    let page = admin.audit(None, 100).await.unwrap();
    let records = page.records.iter().map(|record| serde_json::from_str::<serde_json::Value>(record.get()).unwrap());
    records
        .map(|record| {
            format!(
                "{} {} {}",
                record["code"].as_str().unwrap(),
                record["tenant"].as_str().unwrap(),
                record["principal"].as_str().unwrap()
            )
        })
        .collect()
}

#[tokio::test]
async fn a_key_that_is_answered_works_and_is_nowhere_in_the_clear() {
    let (admin, house) = house();
    let models = Some(vec!["llama".into()]);
    let body = NewKeyBody { models, endpoints: Some(vec!["chat".into()]), ttl: Some("2h".into()), ..asked("acme") };
    let created = create(&admin, body).await.unwrap();
    let registry = house.registry();
    let parsed = ApiKeyText::parse(created.key.expose()).unwrap();
    let records = house.keys();
    let terms = registry.keys.get(&created.id).map(|terms| &**terms);
    let identity = api_key::check(&parsed, records.get(&created.id), || terms, None, Timestamp::now());
    assert_eq!(identity.unwrap().tenant.as_str(), "acme");
    assert_eq!(created.expires_at.subsec_nanosecond(), 0);
    assert_eq!(actions(&admin).await, ["key.create acme uid:1000"]);
    let row = &admin.list_keys(None).await.unwrap()[0];
    assert_eq!((row.state, row.tenant.as_deref()), (KeyState::Active, Some("acme")));
    assert_eq!(
        (row.models.as_deref(), row.endpoints.as_deref()),
        (Some(&["llama".to_owned()][..]), Some(&["chat".to_owned()][..]))
    );
    let secret = created.key.expose().rsplit('_').next().unwrap();
    assert!(!fs::read_to_string(&created.file).unwrap().contains(secret));
    for file in
        fs::read_dir(house.policies.parent().unwrap()).unwrap().filter_map(|entry| fs::read(entry.unwrap().path()).ok())
    {
        assert!(!file.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
}

#[tokio::test]
async fn what_does_not_exist_is_named_and_nothing_is_written() {
    let (admin, house) = house();
    let cases = [
        (asked("acm"), "unknown tenant `acm`, did you mean `acme`?"),
        (
            NewKeyBody { models: Some(vec!["lama".into()]), ..asked("acme") },
            "unknown model `lama`, did you mean `llama`?",
        ),
        (NewKeyBody { models: Some(vec!["gpt".into()]), ..asked("acme") }, "tenant `acme` has no model `gpt`"),
        (
            NewKeyBody { endpoints: Some(vec!["chatt".into()]), ..asked("acme") },
            "unknown endpoint `chatt`, did you mean `chat`?",
        ),
    ];
    for (body, message) in cases {
        assert_eq!(create(&admin, body).await.unwrap_err().to_string(), message);
    }
    assert!(house.keys().is_empty() && actions(&admin).await.is_empty());
}

#[tokio::test]
async fn a_key_whose_resource_is_refused_is_revoked_and_leaves_no_file() {
    let (admin, house) = house();
    let refused = create(&admin, NewKeyBody { role: Some("nobody".into()), ..asked("acme") }).await.unwrap_err();
    let AdminError::PoliciesRefused { problems, .. } = refused else { panic!("{refused}") };
    assert!(problems[0].starts_with("api-keys/") && problems[0].contains("nobody"), "{problems:?}");
    assert!(create(&admin, asked("globex")).await.is_err(), "its namespace is not the tenant's");
    assert!(house.keys().is_empty());
    assert_eq!(fs::read_dir(house.policies.join("api-keys")).unwrap().count(), 0);
    assert!(admin.reload(BY).await.is_ok(), "the set is as good as before");
    let said = actions(&admin).await;
    assert_eq!(said.iter().filter(|line| line.starts_with("key.withdraw")).count(), 2, "{said:?}");
    let elsewhere = NewKeyBody { namespace: Some("elsewhere".into()), ..asked("globex") };
    assert!(create(&admin, elsewhere).await.is_ok());
}

#[tokio::test]
async fn a_key_that_cannot_be_recorded_is_not_made() {
    let (admin, house) = house();
    house.disk_fails.store(true, Ordering::SeqCst);
    assert!(matches!(create(&admin, asked("acme")).await, Err(AdminError::Unavailable(_))));
    assert!(house.keys().is_empty() && !house.policies.join("api-keys").exists());
}

#[tokio::test]
async fn a_revoked_key_is_refused_before_it_is_on_the_disk_and_stays_so() {
    let (admin, house) = house();
    let id = create(&admin, asked("acme")).await.unwrap().id;
    house.disk_fails.store(true, Ordering::SeqCst);
    let error = admin.revoke_key(BY, id.clone()).await.unwrap_err();
    assert!(error.to_string().contains("revoke it again"), "{error}");
    assert_eq!(admin.list_keys(None).await.unwrap()[0].state, KeyState::Revoked);
    house.disk_fails.store(false, Ordering::SeqCst);
    let row = admin.revoke_key(BY, id.clone()).await.unwrap().remove(0);
    assert_eq!((row.state, row.tenant.as_deref()), (KeyState::Revoked, Some("acme")));
    assert_eq!(actions(&admin).await.last().unwrap(), "key.revoke acme uid:1000");
    let mut short = id.clone();
    short.pop();
    let near = admin.revoke_key(BY, short.clone()).await.unwrap_err();
    assert_eq!(near.to_string(), format!("unknown key `{short}`, did you mean `{id}`?"));
}

#[tokio::test]
async fn a_hash_without_a_resource_opens_nothing_and_is_listed() {
    let (admin, house) = house();
    let created = create(&admin, asked("acme")).await.unwrap();
    fs::remove_file(&created.file).unwrap();
    admin.reload(BY).await.unwrap();
    let rows = admin.list_keys(Some(TenantName::parse("acme").unwrap())).await.unwrap();
    assert_eq!((rows.len(), rows[0].state), (1, KeyState::NoResource));
    assert!(admin.list_keys(Some(TenantName::parse("globex").unwrap())).await.unwrap().is_empty());
    assert!(house.registry().keys.is_empty());
}

#[tokio::test]
async fn a_provider_key_is_sealed_for_its_place_and_replaced_by_the_next() {
    let (admin, house) = house();
    let acme = TenantName::parse("acme").unwrap();
    for (version, text) in [(1, b"sk-first-canary"), (2, b"sk-other-canary")] {
        admin.put_provider_key(BY, acme.clone(), "pool".into(), Secret::new(text.to_vec())).await.unwrap();
        let row = house.vault.lock().unwrap()[&("acme".to_owned(), "pool".to_owned())].clone();
        assert_eq!(row.version, version);
        let sealed = Sealed::from_bytes(&row.sealed).unwrap();
        let number = u32::try_from(row.version).unwrap();
        assert_eq!(open(&house.kek, &sealed, &acme, "pool", &row.key_id, number).unwrap().expose(), text);
        assert!(!row.sealed.windows(6).any(|window| window == b"canary"));
    }
    assert_eq!(actions(&admin).await, ["vault.put acme uid:1000"; 2]);
    let unknown = admin.put_provider_key(BY, acme, "pol".into(), Secret::new(b"x".to_vec())).await.unwrap_err();
    assert_eq!(unknown.to_string(), "unknown provider `pol`, did you mean `pool`?");
}

#[tokio::test]
async fn a_bad_set_leaves_the_good_one_and_both_attempts_are_audited() {
    let (admin, house) = house();
    let version = house.registry().version.clone();
    assert_eq!(admin.reload(BY).await.unwrap(), Reloaded { version: version.clone(), changed: false });
    fs::write(
        house.policies.join("bad.yaml"),
        "apiVersion: bulkhead.dev/v1alpha1\nkind: Tennant\nmetadata: {name: x}\nspec: {}\n",
    )
    .unwrap();
    let refused = admin.reload(BY).await.unwrap_err();
    let AdminError::PoliciesRefused { version: stays, problems } = refused else { panic!("{refused}") };
    assert_eq!(stays, version);
    assert!(problems[0].starts_with("bad.yaml:2:") && problems[0].contains("`Tenant`"), "{problems:?}");
    assert_eq!(actions(&admin).await, ["policies.reload  uid:1000"; 2]);
}

#[tokio::test]
async fn a_change_that_was_begun_is_carried_to_its_end() {
    let (admin, house) = house();
    let waiting = admin.create_key(BY, asked("acme").try_into().unwrap());
    assert!(tokio::time::timeout(Duration::from_nanos(1), waiting).await.is_err(), "the operator hung up");
    for _ in 0..500 {
        if !house.keys().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(admin.list_keys(None).await.unwrap()[0].state, KeyState::Active);
}

#[tokio::test]
async fn every_tenant_has_a_row_with_what_is_left() {
    let (admin, _house) = house();
    let usage = admin.usage().await.unwrap();
    let names: Vec<&str> = usage.tenants.iter().map(|tenant| tenant.tenant.as_str()).collect();
    assert_eq!(names, ["acme", "globex"]);
    let limits = &usage.tenants[0].limits;
    assert_eq!((limits[0].name.as_str(), limits[0].counts.as_str(), limits[0].left), ("gpu-day", "gpu_ms", 7_200_000));
    assert_eq!((limits[1].counts.as_str(), limits[1].left, limits[1].resets_at), ("requests", 4, None));
}

#[tokio::test]
async fn the_audit_log_is_read_page_by_page() {
    let (admin, _house) = house();
    for _ in 0..3 {
        admin.reload(BY).await.unwrap();
    }
    let newest = admin.audit(None, 2).await.unwrap();
    assert_eq!(newest.records.len(), 2);
    let rest = admin.audit(Some(newest.next - 2), 10).await.unwrap();
    assert_eq!((rest.records.len(), rest.next), (2, newest.next));
    let nothing = admin.audit(Some(newest.next), 10).await.unwrap();
    assert_eq!((nothing.records.len(), nothing.next), (0, newest.next));
}
