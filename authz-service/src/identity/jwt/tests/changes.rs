//! Random changes to good tokens, and random texts.

use proptest::prelude::*;
use serde_json::json;

use super::signer::{Kind, NOW, World};
use crate::identity::jwt::verify;

#[derive(Clone, Debug)]
enum Change {
    Set(char),
    Insert(char),
    Remove,
    Cut,
    Swap,
    Double,
}

fn changed(token: &str, changes: &[(prop::sample::Index, Change)]) -> String {
    let mut text: Vec<char> = token.chars().collect();
    for (at, change) in changes {
        if text.is_empty() {
            break;
        }
        let at = at.index(text.len());
        match change {
            Change::Set(other) => text[at] = *other,
            Change::Insert(other) => text.insert(at, *other),
            Change::Remove => drop(text.remove(at)),
            Change::Cut => text.truncate(at),
            Change::Swap => text.rotate_left(at),
            Change::Double => text.extend_from_within(at..),
        }
    }
    text.into_iter().collect()
}

fn change() -> impl Strategy<Value = Change> {
    let letter = || prop_oneof![4 => prop::char::ranges(vec!['0'..='9', 'A'..='Z', 'a'..='z', '-'..='.', '_'..='_'].into()), 1 => any::<char>()];
    prop_oneof![
        6 => letter().prop_map(Change::Set),
        2 => letter().prop_map(Change::Insert),
        2 => Just(Change::Remove),
        1 => Just(Change::Cut),
        1 => Just(Change::Swap),
        1 => Just(Change::Double),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// base64url has one spelling, so a token that is not the same text is not the same bytes.
    #[test]
    fn no_changed_token_is_accepted(kind in 0..5_usize, changes in prop::collection::vec((any::<prop::sample::Index>(), change()), 1..4)) {
        thread_local!(static GOOD: (World, Vec<String>) = {
            let world = World::new();
            let tokens = Kind::ALL.map(|kind| world.token(kind, json!({"jti": "t-1"}))).to_vec();
            (world, tokens)
        });
        GOOD.with(|(world, tokens)| {
            let changed = changed(&tokens[kind], &changes);
            let accepted = verify(&changed, &world.held(), NOW).is_ok();
            prop_assert_eq!(accepted, changed == tokens[kind], "{}", changed);
            Ok(())
        })?;
    }

    #[test]
    fn no_text_is_accepted_or_panics(text in ".{0,300}") {
        let world = World { issuers: std::collections::HashMap::new() };
        prop_assert!(verify(&text, &world.held(), NOW).is_err());
    }
}
