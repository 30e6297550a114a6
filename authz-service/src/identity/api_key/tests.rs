//! Security.md group C, as far as it needs neither store nor network.

use super::*;
use crate::registry::{Counts, KeyAges, Refill, Scope, WrittenKey};
use crate::vault::system_random;

fn new_key() -> NewKey {
    NewKey::generate(&mut system_random).unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn tenant(name: &str) -> TenantName {
    TenantName::parse(name).unwrap()
}

fn record(key: &NewKey) -> KeyRecord {
    KeyRecord::first(&key.id, tenant("acme"), key.hash.clone(), time("2026-01-01T00:00:00Z"))
}

fn terms(key: &NewKey) -> KeyTerms {
    let limit =
        Limit { name: "own".into(), counts: Counts::Requests, scope: Scope::Key, amount: 5, refill: Refill::InFlight };
    KeyTerms {
        id: key.id.clone(),
        tenant: tenant("acme"),
        permits: Permits { models: Some([].into()), ..Permits::default() },
        limits: vec![limit],
        sources: None,
        expires_at: time("2026-01-02T00:00:00Z"),
        ages: KeyAges::default(),
        written: WrittenKey::default(),
    }
}

fn with_checksum(body: &str) -> String {
    format!("{body}{}", String::from_utf8(checksum(body.as_bytes()).to_vec()).unwrap())
}

#[test]
fn a_new_key_reads_back_and_never_shows() {
    let key = new_key();
    let text = key.text.expose();
    assert_eq!(text.len(), 65);
    let parsed = ApiKeyText::parse(text).unwrap();
    assert_eq!((&parsed.id, &parsed.hash), (&key.id, &key.hash));
    assert!(text.starts_with(&format!("bh_{}_", key.id)));
    let shown = format!("{key:?} {parsed:?} {:?}", record(&key));
    let secret = text.get(16..59).unwrap();
    assert!(!shown.contains(secret) && shown.contains(&key.id), "{shown}");
    assert_ne!(new_key().text.expose(), text);
}

#[test]
fn the_form_is_fixed() {
    // Text and hash computed apart from this code (Python's zlib and hashlib).
    let parsed = ApiKeyText::parse("bh_abcdefghijkl_000000000000000000000000000000000000000000z1GtJJI").unwrap();
    let hash: String = parsed.hash.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(parsed.id, "abcdefghijkl");
    assert_eq!(hash, "44dd32ce70280305e48589aa29c07906c5508e661d733afe8879b53a5d5e28b6");
}

#[test]
fn base62_keeps_every_bit() {
    let most = base62::<43>(&[0xff; 32]);
    let mut number = vec![0_u8; 33];
    for digit in most.iter() {
        let mut carry = BASE62.iter().position(|d| d == digit).unwrap() as u32;
        for byte in number.iter_mut().rev() {
            let value = u32::from(*byte) * 62 + carry;
            *byte = value as u8;
            carry = value >> 8;
        }
    }
    assert_eq!(number, [vec![0], vec![0xff; 32]].concat());
    assert_eq!(*base62::<6>(&[0, 0, 0, 61]), *b"00000z");
    assert_eq!(*base62::<6>(&[0, 0, 0, 62]), *b"000010");
    assert_eq!(*base62::<6>(&[0xff; 4]), *b"4gfFC3");
}

#[test]
fn what_is_no_key_is_refused_without_a_look_up() {
    let text = new_key().text.expose().to_owned();
    for at in 0..text.len() {
        for other in [b'0', b'z', b'Z', b'_', b'-', b' ', b'\n', 0] {
            let mut bytes = text.clone().into_bytes();
            if std::mem::replace(&mut bytes[at], other) == other {
                continue;
            }
            let changed = String::from_utf8(bytes).unwrap();
            assert!(ApiKeyText::parse(&changed).is_err(), "{changed:?}");
        }
        assert!(ApiKeyText::parse(text.get(..at).unwrap()).is_err());
    }
    let secret = "a".repeat(43);
    for bad in [
        format!("{text}x"),
        format!("{text}\n"),
        format!(" {text}"),
        format!("\"{text}\""),
        format!("{text}="),
        text.replace('_', "%5F"),
        text.to_uppercase(),
        text.replacen("bh_", "bҺ_", 1),
        with_checksum(&format!("gh_abcdefghijkl_{secret}")),
        with_checksum(&format!("bh_ABCDEFGHIJKL_{secret}")),
        with_checksum(&format!("bh_abcdefghijk-_{secret}")),
        with_checksum(&format!("bh_abcdefghijkl-{secret}")),
        with_checksum(&format!("bh_abcdefghijkl_{}-", "a".repeat(42))),
        with_checksum(&format!("bh_abcdefghijkl_{secret}a")),
        with_checksum(&format!("bh_abcdefghijkl_{}", "a".repeat(42))),
        with_checksum(&format!("bh_éééééé_{secret}")),
        with_checksum(&format!("bh_abcdefghijké{secret}")),
    ] {
        assert!(ApiKeyText::parse(&bad).is_err(), "{bad:?}");
    }
    assert!(ApiKeyText::parse(&with_checksum(&format!("bh_abcdefghijkl_{secret}"))).is_ok());
}

#[test]
fn a_broken_source_makes_no_key() {
    assert_eq!(NewKey::generate(&mut |_| Err(RandomError)).unwrap_err(), RandomError);
    assert_eq!(NewKey::generate(&mut |_| Ok(())).unwrap_err(), RandomError);
    let stuck = NewKey::generate(&mut |buffer| {
        buffer.fill(0xff);
        Ok(())
    });
    assert_eq!(stuck.unwrap_err(), RandomError);
    let mut calls = 0;
    let late = NewKey::generate(&mut |buffer| {
        calls += 1;
        if calls == 1 { system_random(buffer) } else { Ok(()) }
    });
    assert_eq!(late.unwrap_err(), RandomError);
}

#[test]
fn bytes_that_would_favour_some_characters_are_drawn_again() {
    let mut next = (252..=255).chain(36..44).cycle();
    let key = NewKey::generate(&mut |buffer| {
        buffer.fill_with(|| next.next().unwrap());
        Ok(())
    });
    assert_eq!(key.unwrap().id, "012345670123");
}

#[test]
fn a_key_is_good_until_it_expires_or_is_three_days_old() {
    let key = new_key();
    let parsed = ApiKeyText::parse(key.text.expose()).unwrap();
    let long = KeyTerms { expires_at: time("2027-01-01T00:00:00Z"), ..terms(&key) };
    let ok = |terms: &KeyTerms, now| check(&parsed, Some(&record(&key)), || Some(terms), None, time(now)).is_ok();
    assert!(ok(&terms(&key), "2026-01-01T23:59:59Z"));
    assert!(!ok(&terms(&key), "2026-01-02T00:00:00Z"));
    assert!(ok(&long, "2026-01-03T23:59:59.999999999Z"));
    assert!(!ok(&long, "2026-01-04T00:00:00Z"));
    let written = terms(&key);
    let short = check(&parsed, Some(&record(&key)), || Some(&written), None, time("2026-01-01T00:00:01Z")).unwrap();
    assert_eq!(short.expires_at, time("2026-01-02T00:00:00Z"));
    let got = check(&parsed, Some(&record(&key)), || Some(&long), None, time("2026-01-01T00:00:01Z")).unwrap();
    let expires_at = time("2026-01-04T00:00:00Z");
    let (chain, permits, limits) = (key.id.clone(), long.permits, long.limits);
    let want = KeyIdentity { id: key.id, tenant: long.tenant, permits, limits, chain, placed: false, expires_at };
    assert_eq!(got, want);
}

#[test]
fn unknown_revoked_expired_and_wrong_are_one_to_strangers() {
    let (key, other) = (new_key(), new_key());
    let parsed = ApiKeyText::parse(key.text.expose()).unwrap();
    let now = time("2026-01-01T12:00:00Z");
    let (good, good_terms) = (record(&key), terms(&key));
    let revoked = KeyRecord { revoked_at: Some(now), ..record(&key) };
    let wrong = KeyRecord { hash: other.hash.clone(), ..record(&key) };
    let wrong_and_revoked = KeyRecord { revoked_at: Some(now), ..wrong.clone() };
    let misfiled = KeyRecord { id: other.id.clone(), ..record(&key) };
    let globex = KeyTerms { tenant: tenant("globex"), ..terms(&key) };
    let other_terms = terms(&other);
    let expired = KeyTerms { expires_at: now, ..terms(&key) };
    assert!(check(&parsed, Some(&good), || Some(&good_terms), None, now).is_ok());
    let cases: [(Option<&KeyRecord>, Option<&KeyTerms>, &str); 10] = [
        (None, Some(&good_terms), "api key: unknown"),
        (None, None, "api key: unknown"),
        (Some(&wrong), Some(&good_terms), "api key: wrong secret"),
        (Some(&wrong_and_revoked), Some(&good_terms), "api key: wrong secret"),
        (Some(&misfiled), Some(&good_terms), "api key: unknown"),
        (Some(&revoked), Some(&good_terms), "api key: revoked"),
        (Some(&good), None, "api key: no resource"),
        (Some(&good), Some(&globex), "api key: the resource is another tenant's"),
        (Some(&good), Some(&other_terms), "api key: the resource is another tenant's"),
        (Some(&good), Some(&expired), "api key: expired"),
    ];
    for (record, terms, reason) in cases {
        let error = check(&parsed, record, || terms, None, now).unwrap_err();
        assert_eq!(error.reason(), reason);
        assert_eq!(error.to_string(), "the credential is not valid");
        assert_eq!(error.code(), gateway_core::denial::Code::InvalidCredential);
    }
}

#[test]
fn no_text_hashes_to_the_stand_in() {
    let zeros = KeyRecord { hash: KeyHash::dummy(), ..record(&new_key()) };
    let key = new_key();
    let parsed = ApiKeyText::parse(key.text.expose()).unwrap();
    let written = terms(&key);
    assert!(check(&parsed, Some(&zeros), || Some(&written), None, time("2026-01-01T12:00:00Z")).is_err());
    assert_eq!(KeyHash::from_bytes(*key.hash.as_bytes()), key.hash);
}

/// Every bound of a key's life before, at and after every other: the earliest ends it, to the nanosecond.
#[test]
fn the_earliest_of_its_ends_ends_a_key() {
    let key = new_key();
    let parsed = ApiKeyText::parse(key.text.expose()).unwrap();
    let created = time("2026-01-01T00:00:00Z");
    let hours = SignedDuration::from_hours;
    for expiry in [1, 24, 80] {
        for age in [24, 48, 72, 100] {
            for chain in [24, 30, 720] {
                for overlap in [None, Some(0), Some(2), Some(26), Some(90)] {
                    let ages = KeyAges { key: hours(age), chain: hours(chain) };
                    let terms = KeyTerms { expires_at: created + hours(expiry), ages, ..terms(&key) };
                    let chain_began = created - hours(12);
                    let record = KeyRecord {
                        chain: Chain { id: "first".into(), began_at: chain_began },
                        rotated: overlap.map(|until| Rotated { at: created, until: created + hours(until) }),
                        ..record(&key)
                    };
                    let ends = [Some(expiry), Some(age.min(72)), Some(chain - 12), overlap];
                    let want = created + hours(ends.into_iter().flatten().min().unwrap());
                    let at = |now| check(&parsed, Some(&record), || Some(&terms), None, now);
                    let nanosecond = SignedDuration::from_nanos(1);
                    assert_eq!(at(want).unwrap_err().reason(), "api key: expired", "{terms:?} {record:?}");
                    let last = at(want - nanosecond);
                    assert_eq!(last.unwrap().expires_at, want, "{terms:?} {record:?}");
                }
            }
        }
    }
}

#[test]
fn a_key_that_takes_over_is_of_the_same_chain_and_what_ended_stays_ended() {
    let (first, next) = (record(&new_key()), new_key());
    let made = time("2026-01-02T00:00:00Z");
    let second = first.next(&next.id, next.hash.clone(), made);
    assert_eq!((second.parent.as_ref(), &second.chain), (Some(&first.id), &first.chain));
    assert_eq!((second.created_at, &second.tenant, &second.rotated), (made, &first.tenant, &None));
    let third = second.next("third", KeyHash::dummy(), made);
    assert_eq!((third.parent.as_ref(), &third.chain), (Some(&second.id), &first.chain));

    let rotated = Some(Rotated { at: made, until: made });
    let mut late = KeyRecord { rotated: rotated.clone(), ..first.clone() };
    late.keep_ended(&KeyRecord { revoked_at: Some(made), ..first.clone() });
    assert_eq!((late.revoked_at, &late.rotated), (Some(made), &rotated), "a rotation does not undo a revocation");
    let mut late = KeyRecord { revoked_at: Some(made), ..first };
    late.keep_ended(&KeyRecord { revoked_at: None, rotated: rotated.clone(), ..late.clone() });
    assert_eq!((late.revoked_at, late.rotated), (Some(made), rotated), "nor the other way round");
}

#[test]
fn a_look_up_ends_at_a_record_whatever_the_id_and_only_its_own_is_good() {
    let keys: Vec<NewKey> = (0..20).map(|_| new_key()).collect();
    let known: Keys = keys.iter().map(|key| (key.id.clone(), record(key))).collect();
    let now = time("2026-01-01T00:00:01Z");
    for key in &keys {
        assert_eq!(nearest(&known, &key.id).unwrap().id, key.id);
        let parsed = ApiKeyText::parse(key.text.expose()).unwrap();
        let written = terms(key);
        assert!(check(&parsed, nearest(&known, &key.id), || Some(&written), None, now).is_ok());
        let others: Keys =
            known.iter().filter(|(id, _)| **id != key.id).map(|(id, one)| (id.clone(), one.clone())).collect();
        let other = nearest(&others, &key.id).unwrap();
        let error = check(&parsed, Some(other), || panic!("looked up"), None, now).unwrap_err();
        assert_eq!((error.code(), error.reason()), (gateway_core::denial::Code::InvalidCredential, "api key: unknown"));
    }
    assert_eq!(nearest(&known, "zzzzzzzzzzzz").map(|record| &record.id), known.keys().last());
    assert_eq!(nearest(&Keys::new(), "abcdefghijkl"), None);
}
