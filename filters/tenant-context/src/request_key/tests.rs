//! Two requests share a key when every input is the same, and never otherwise.

use proptest::prelude::*;

use super::*;

/// Owned inputs: method, authority, path, carrier, credential, claim, certificate.
type Parts = (String, String, String, Option<(usize, Vec<u8>)>, Option<Vec<u8>>, Option<Vec<u8>>);

fn key(parts: &Parts) -> RequestKey {
    let (method, authority, path, credential, claim, certificate) = parts;
    let credential = credential.as_ref().map(|(carrier, value)| (CREDENTIAL_CARRIERS[*carrier], value.as_slice()));
    let (claim, certificate) = (claim.as_deref(), certificate.as_deref());
    Inputs { method, authority, path, credential, claim, certificate }.key()
}

#[test]
fn a_key_is_not_printed() {
    let parts = ("POST".into(), "a".into(), "/".into(), Some((0, b"canary".to_vec())), None, None);
    assert_eq!(format!("{:?}", key(&parts)), "RequestKey(..)");
}

#[test]
fn a_longer_key_leaves_no_copy_behind() {
    let mut out = Zeroizing::default();
    for length in [0, 10, 5, 1_000, 3, 4_000] {
        let value = vec![b'x'; length];
        let credential = Some(("authorization", value.as_slice()));
        let inputs =
            Inputs { method: "GET", authority: "a", path: "/", credential, claim: None, certificate: Some(b"c") };
        inputs.write(&mut out);
        assert!(out.capacity() >= out.len());
        assert_eq!(out.as_slice(), inputs.key().as_bytes(), "nothing of the key before is in it");
    }
}

/// Few values, so that equal parts and shifted boundaries are common.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(b'a')], 0..4)
}

fn text() -> impl Strategy<Value = String> {
    "[a\0\u{1}]{0,3}"
}

fn parts() -> impl Strategy<Value = Parts> {
    let maybe = || proptest::option::of(bytes());
    (text(), text(), text(), proptest::option::of((0_usize..3, bytes())), maybe(), maybe())
}

/// One long text cut at two sets of places: every byte is the same, the boundaries are not.
fn cut(text: &[u8], at: &[usize; 5]) -> Parts {
    let mut at = at.map(|place| place.min(text.len()));
    at.sort_unstable();
    let part = |from: usize, to: usize| text[from..to].to_vec();
    let word = |from, to| String::from_utf8(part(from, to)).unwrap();
    let [a, b, c, d, e] = at;
    (word(0, a), word(a, b), word(b, c), Some((0, part(c, d))), Some(part(d, e)), Some(part(e, text.len())))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn different_inputs_have_different_keys(one in parts(), two in parts()) {
        prop_assert_eq!(key(&one) == key(&two), one == two);
        prop_assert_eq!(key(&one), key(&one.clone()));
    }

    #[test]
    fn moved_boundaries_are_another_request(
        text in "[a\u{1}]{0,8}",
        one in any::<[u8; 5]>(),
        two in any::<[u8; 5]>(),
    ) {
        let place = |places: [u8; 5]| places.map(|place| usize::from(place) % 9);
        let (one, two) = (cut(text.as_bytes(), &place(one)), cut(text.as_bytes(), &place(two)));
        prop_assert_eq!(key(&one) == key(&two), one == two);
    }

    /// Absent is not empty, and a part is not its neighbour.
    #[test]
    fn one_changed_part_is_another_request(one in parts(), which in 0_usize..7, other in bytes()) {
        let mut two = one.clone();
        let word = String::from_utf8(other.clone()).unwrap();
        match which {
            0 => two.0 = word,
            1 => two.1 = word,
            2 => two.2 = word,
            3 => two.3 = two.3.map(|(carrier, value)| ((carrier + 1) % 3, value)),
            4 => two.3 = Some((0, other)),
            5 => two.4 = if two.4.is_some() { None } else { Some(other) },
            _ => two.5 = two.5.map_or(Some(Vec::new()), |_| None),
        }
        prop_assert_eq!(key(&one) == key(&two), one == two);
    }
}
