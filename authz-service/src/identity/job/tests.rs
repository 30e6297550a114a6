//! A job's life by an injected clock, without store or network.

use crate::identity::api_key::Keys;

use super::*;
use crate::decide::tests::{NOW, World};
use crate::registry::EndpointKind;
use crate::vault::system_random;

const HOUR: Duration = Duration::from_secs(3600);
const TERMS: Jobs = Jobs { longest: Duration::from_secs(72 * 3600), renew_every: HOUR };

fn at(minutes: i64) -> Timestamp {
    NOW.parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
}

fn tenant() -> TenantName {
    TenantName::parse("acme").unwrap()
}

fn started(party: &Party, hours: u64, certificate: Option<&str>) -> (JobRecord, String) {
    let certificate = certificate.map(str::to_owned);
    let start =
        Start { tenant: &tenant(), name: "nightly", max: HOUR * hours as u32, party, certificate, login: login() };
    let (record, text) = JobRecord::start(&start, &TERMS, at(0), &mut system_random).unwrap();
    (record, text.expose().to_owned())
}

fn login() -> Login {
    Login { class: Some("gold".into()), methods: vec!["hwk".into()], at: Some(at(-1).as_second()) }
}

fn key(id: &str) -> Party {
    Party { name: format!("key:{id}"), origin: None }
}

fn shown(record: &JobRecord, text: &str, minutes: i64) -> Result<Shown, &'static str> {
    let parsed = parse(text).map_err(|error| error.reason())?;
    check(&parsed, Some(record), "", at(minutes)).map(|(_, shown, _)| shown).map_err(|error| error.reason())
}

#[test]
fn a_job_of_26_hours_is_renewed_without_a_gap_and_ends() {
    let (mut record, mut text) = started(&key("k"), 26, None);
    let mut minutes = 0;
    while minutes + 50 < 26 * 60 {
        minutes += 50;
        assert_eq!(shown(&record, &text, minutes), Ok(Shown::Current), "{minutes}");
        let (next, credential) = record.renew(Shown::Current, &TERMS, at(minutes), &mut system_random).unwrap();
        assert_eq!(shown(&next, &text, minutes + 4), Ok(Shown::Former), "{minutes}");
        assert_eq!(shown(&next, &text, minutes + 5), Err("job: the credential has expired"), "{minutes}");
        (record, text) = (next, credential.expose().to_owned());
    }
    assert_eq!(record.current.expires_at, at(26 * 60), "no credential outlives its job");
    assert_eq!(shown(&record, &text, 26 * 60 - 1), Ok(Shown::Current));
    assert_eq!(shown(&record, &text, 26 * 60), Err("job: revoked or over"));
    let (late, text) = record.renew(Shown::Current, &TERMS, at(26 * 60), &mut system_random).unwrap();
    assert_eq!(shown(&late, text.expose(), 26 * 60), Err("job: revoked or over"));
}

#[test]
fn who_lost_the_answer_renews_with_the_former_credential() {
    let (record, first) = started(&key("k"), 26, None);
    let (once, lost) = record.renew(Shown::Current, &TERMS, at(10), &mut system_random).unwrap();
    let (twice, second) = once.renew(Shown::Former, &TERMS, at(12), &mut system_random).unwrap();
    assert_eq!(shown(&twice, lost.expose(), 12), Err("job: wrong secret"));
    assert_eq!(shown(&twice, &first, 12), Ok(Shown::Former));
    assert_eq!(shown(&twice, &first, 15), Err("job: the credential has expired"), "no overlap is prolonged");
    assert_eq!(shown(&twice, second.expose(), 12), Ok(Shown::Current));
}

#[test]
fn nothing_else_opens_a_job() {
    let (record, text) = started(&key("k"), 26, None);
    let (other, others) = started(&key("k"), 26, None);
    assert!(text.starts_with("bhj_") && !format!("{record:?}").contains(&text));
    assert_eq!(shown(&record, &others, 1), Err("job: wrong secret"));
    assert_eq!(shown(&other, &others, 1), Ok(Shown::Current));
    assert_eq!(check(&parse(&text).unwrap(), None, "", at(1)).unwrap_err().reason(), "job: unknown");
    assert_eq!(shown(&record, &text, 60), Err("job: the credential has expired"));
    let revoked = JobRecord { revoked_at: Some(at(1)), ..record.clone() };
    assert_eq!(shown(&revoked, &text, 1), Err("job: revoked or over"));
    let (cut, _) = text.split_at(text.len() - 1);
    for bad in ["", "bhj_", &text.replace("bhj_", "bh_"), cut, &format!("{text}0")] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    assert!(ApiKeyText::parse(&text).is_err(), "it is no API key");
    let (bound, text) = started(&key("k"), 26, Some("thumbprint"));
    assert_eq!(shown(&bound, &text, 1), Err("job: bound to a certificate that was not shown"));
}

#[test]
fn no_job_is_longer_than_the_plan_says() {
    assert_eq!(started(&key("k"), 100, None).0.ends_at, at(72 * 60));
    let short = Jobs { longest: Duration::from_secs(600), renew_every: HOUR };
    let start = Start { tenant: &tenant(), name: "x", max: HOUR, party: &key("k"), certificate: None, login: login() };
    let (record, _) = JobRecord::start(&start, &short, at(0), &mut system_random).unwrap();
    assert_eq!((record.ends_at, record.current.expires_at), (at(10), at(10)));
}

#[test]
fn a_job_may_what_its_starter_may_now() {
    let mut world = World::new();
    let id = world.registry.keys.values().find(|key| key.permits.models.is_some()).unwrap().id.clone();
    let (record, _) = started(&key(&id), 26, None);
    // the key has expired by then; what it started goes on
    let identity = |world: &World, keys: &Keys| {
        let standing = Standing { registry: &world.registry, keys, source: None, now: at(25 * 60) };
        Identity::of_job(&record, Shown::Current, at(26 * 60), &standing, EndpointKind::Chat)
    };
    let found = identity(&world, &world.keys).unwrap();
    assert_eq!(
        (found.principal, found.key_id, found.kind),
        (format!("key:{id}"), Some(id.clone()), CredentialKind::Job)
    );
    assert_eq!(found.actors[0].name, format!("job:nightly/{}", record.id));
    assert_eq!(found.login, login(), "as it was at the start");
    assert_eq!(found.permits.models.map(|models| models.len()), Some(1));
    let mut revoked = world.keys.clone();
    revoked.get_mut(&id).unwrap().revoked_at = Some(at(1));
    assert_eq!(identity(&world, &revoked).unwrap_err().reason(), "api key: revoked");
    let kept = world.keys.clone();
    world.registry.keys.clear();
    assert_eq!(identity(&world, &kept).unwrap_err().reason(), "api key: no resource");
}

#[test]
fn a_jobs_name_is_plain() {
    assert!(["a", "nightly-1", "a.b_c", &"x".repeat(63)].into_iter().all(is_name));
    assert!(!["", "A", "a b", "a/b", "ä", &"x".repeat(64)].into_iter().any(is_name));
}
