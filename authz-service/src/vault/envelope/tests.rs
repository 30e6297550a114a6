//! Security.md group K: flips, moves, mixes, broken randomness.

use super::*;
use crate::vault::system_random;

const CANARY: &[u8] = b"sk-canary-51c0";

fn name(text: &str) -> TenantName {
    TenantName::parse(text).unwrap()
}

fn kek(byte: u8) -> Kek {
    Kek::from_bytes(&[byte; 32]).unwrap()
}

fn sealed() -> Sealed {
    let secret = Secret::new(CANARY.to_vec());
    seal(&kek(7), &name("acme"), "openai", "k1", 3, &secret, &mut system_random).unwrap()
}

fn opened(bytes: &[u8]) -> Result<Secret, OpenError> {
    open(&kek(7), &Sealed::from_bytes(bytes)?, &name("acme"), "openai", "k1", 3)
}

#[test]
fn opens_where_it_belongs_and_shows_nothing() {
    let bytes = sealed().to_bytes();
    assert_eq!(opened(&bytes).unwrap().expose(), CANARY);
    assert_eq!(bytes.len(), HEAD + TAG + CANARY.len());
    assert!(!bytes.windows(6).any(|window| window == b"canary"));
    assert_eq!(format!("{:?} {OpenError:?}", sealed()), "Sealed(..) OpenError");
}

#[test]
fn one_changed_bit_or_byte_more_or_less_opens_nothing() {
    let bytes = sealed().to_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut other = bytes.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(opened(&other), Err(OpenError), "bit {bit}");
    }
    for cut in 0..bytes.len() {
        assert_eq!(opened(&bytes[..cut]), Err(OpenError), "cut at {cut}");
    }
    assert_eq!(opened(&[&bytes[..], b"x"].concat()), Err(OpenError));
    assert_eq!(opened(&vec![SCHEMA; HEAD + TAG + MAX_SECRET + 1]), Err(OpenError));
}

#[test]
fn a_moved_record_opens_nothing() {
    let places = [
        ("acme", "openai", "k1", 3),
        ("globex", "openai", "k1", 3),
        ("acme", "anthropic", "k1", 3),
        ("acme", "openai", "k2", 3),
        ("acme", "openai", "k1", 2),
        ("acme", "openaik", "1", 3),
        ("acmeopenai", "k1", "", 3),
    ];
    let secret = Secret::new(CANARY.to_vec());
    for (n, from) in places.iter().enumerate() {
        let sealed = seal(&kek(7), &name(from.0), from.1, from.2, from.3, &secret, &mut system_random).unwrap();
        for (m, to) in places.iter().enumerate() {
            let got = open(&kek(7), &sealed, &name(to.0), to.1, to.2, to.3);
            assert_eq!(got.is_ok(), n == m, "{from:?} opened as {to:?}");
        }
        assert_eq!(open(&kek(8), &sealed, &name(from.0), from.1, from.2, from.3), Err(OpenError));
    }
}

#[test]
fn parts_of_two_records_make_no_third() {
    let (one, two) = (sealed(), sealed());
    let mixed = [
        Sealed { wrap_nonce: two.wrap_nonce, wrapped_key: two.wrapped_key, ..one.clone() },
        Sealed { nonce: two.nonce, ciphertext: two.ciphertext.clone(), ..one.clone() },
        Sealed { commitment: two.commitment, ..one.clone() },
    ];
    for record in mixed {
        assert_eq!(opened(&record.to_bytes()), Err(OpenError));
    }
}

#[test]
fn a_record_that_does_not_commit_to_its_data_key_is_refused() {
    // Everything genuine but the commitment: what two keys for one ciphertext would look like.
    let place = place(&name("acme"), "openai", "k1", 3);
    let mut record = sealed();
    record.commitment = *commitment(&[9; 32], &place);
    assert_eq!(opened(&record.to_bytes()), Err(OpenError));
}

#[test]
fn a_broken_source_seals_nothing_and_a_stuck_one_repeats_no_key_stream_elsewhere() {
    let secret = Secret::new(CANARY.to_vec());
    let with = |random: &mut Random<'_>, key_id| seal(&kek(7), &name("acme"), "openai", key_id, 1, &secret, random);
    assert_eq!(with(&mut |_| Err(RandomError), "k1"), Err(SealError::Random(RandomError)));
    assert_eq!(with(&mut |_| Ok(()), "k1"), Err(SealError::Random(RandomError)));
    let mut stuck = |buffer: &mut [u8]| {
        buffer.fill(5);
        Ok(())
    };
    let (one, two) = (with(&mut stuck, "k1").unwrap(), with(&mut stuck, "k2").unwrap());
    assert_eq!(one.nonce, two.nonce);
    assert_ne!(one.wrapped_key[..32], two.wrapped_key[..32]);
    assert_ne!(one.ciphertext[..CANARY.len()], two.ciphertext[..CANARY.len()]);
    assert_ne!(one.commitment, two.commitment);
}

#[test]
fn sizes_are_bounded() {
    for size in [0, MAX_SECRET + 1] {
        let secret = Secret::new(vec![1; size]);
        let got = seal(&kek(7), &name("acme"), "openai", "k1", 1, &secret, &mut system_random);
        assert_eq!(got, Err(SealError::Size));
    }
    let most = Secret::new(vec![1; MAX_SECRET]);
    let sealed = seal(&kek(7), &name("acme"), "openai", "k1", 3, &most, &mut system_random).unwrap();
    assert_eq!(opened(&sealed.to_bytes()), Ok(most));
}
