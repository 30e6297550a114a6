//! The hunt: requests that differ from held ones in one place, among them pieces of other held ones. None goes on with a
//! grant that was made for other words.

use super::*;

/// xorshift64*: repeatable.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % sides
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.roll(from.len())]
    }
}

const CARRIERS: [&str; 3] = ["authorization", "x-api-key", "x-goog-api-key"];
const SINGLE: [&str; 2] = ["x-tenant-id", "x-forwarded-client-cert"];

/// What the decision read: the whole of it, in another form than the key's.
fn inputs(words: &Words) -> (Vec<&str>, Vec<(&str, &[u8])>) {
    let mut read: Vec<(&str, &[u8])> = words
        .headers
        .iter()
        .filter(|(name, _)| CARRIERS.contains(name) || SINGLE.contains(name))
        .map(|(name, value)| (*name, value.as_slice()))
        .collect();
    read.sort_unstable();
    (vec![&words.method, &words.authority, &words.path], read)
}

/// Two tenants and their credentials; many share long beginnings and ends.
fn held_requests() -> Vec<Words> {
    let tokens = [jwt("acme"), jwt("nobody's"), b"Bearer bh_k1_abcdefgh".to_vec(), b"Bearer bh_k1_abcdefg".to_vec()];
    let mut all = Vec::new();
    for path in [CHAT, "/v1/chat/completions?a=1", ACME, "/api/v1/tenants/acme/models/mm/predict"] {
        for token in &tokens {
            all.push(Words::post(path, &[("authorization", token)]));
            all.push(Words::post(path, &[("authorization", token), ("x-tenant-id", b"acme")]));
            all.push(Words::post(path, &[("authorization", token), ("x-forwarded-client-cert", b"Hash=a")]));
        }
        all.push(Words::post(path, &[("x-api-key", b"bh_k1_abcdefgh")]));
        all.push(Words::post(path, &[("x-goog-api-key", b"bh_k1_abcdefgh"), ("x-tenant-id", b"acme")]));
    }
    all
}

/// One place made another: bytes, boundaries, names, or a piece of another request.
fn mutated(words: &Words, others: &[Words], dice: &mut Dice) -> Words {
    let mut new = words.clone();
    let other = dice.pick(others);
    match dice.roll(12) {
        0 => new.method = (*dice.pick(&["GET", "POST", "PUT", "post"])).to_owned(),
        1 => new.path.clone_from(&other.path),
        2 => new.headers.clone_from(&other.headers),
        3 => new.path = text(new.path, dice),
        4 => new.authority = text(new.authority, dice),
        5 => {
            // the credential in another carrier, or the claim where the certificate was
            let at = dice.roll(new.headers.len());
            let names: &[&str] = if dice.roll(2) == 0 { &CARRIERS } else { &SINGLE };
            new.headers[at].0 = *dice.pick(names);
        }
        6 => {
            let at = dice.roll(new.headers.len());
            new.headers.remove(at);
        }
        7 => new.headers.push(dice.pick(&other.headers).clone()),
        8 => {
            // a boundary moved: the end of one value becomes the beginning of the next
            let (from, to) = (dice.roll(new.headers.len()), dice.roll(new.headers.len()));
            if let Some(byte) = new.headers[from].1.pop() {
                new.headers[to].1.insert(0, byte);
            }
        }
        9 => {
            let (one, two) = (dice.roll(new.headers.len()), dice.roll(new.headers.len()));
            let value = std::mem::replace(&mut new.headers[one].1, words.headers[two].1.clone());
            new.headers[two].1 = value;
        }
        _ => {
            let at = dice.roll(new.headers.len());
            let piece = dice.pick(&other.headers).1.clone();
            let value = &mut new.headers[at].1;
            *value = bytes(std::mem::take(value), &piece, dice);
        }
    }
    new
}

fn text(text: String, dice: &mut Dice) -> String {
    String::from_utf8(bytes(text.into_bytes(), b"/models/m", dice)).unwrap_or_default()
}

/// Flips, truncations, prefixes, suffixes, case; often still text that a head may hold.
fn bytes(mut value: Vec<u8>, piece: &[u8], dice: &mut Dice) -> Vec<u8> {
    let at = dice.roll(value.len() + 1);
    match dice.roll(9) {
        0 => value.truncate(at),
        1 => drop(value.drain(..at)),
        2 => value.extend_from_slice(piece),
        3 => drop(value.splice(at..at, piece.iter().copied())),
        4 => value.insert(at, *dice.pick(b"a.-0/_A ,~\0\xff")),
        5 => value = piece.to_vec(),
        _ if value.is_empty() => value.push(b'a'),
        6 => value[at.saturating_sub(1)] ^= 1 << dice.roll(8),
        7 => value[at.saturating_sub(1)] ^= 0x20,
        _ => drop(value.remove(at.saturating_sub(1))),
    }
    value
}

#[test]
fn nobody_goes_on_with_anothers_grant() {
    let mut worker = Worker::new();
    let requests = held_requests();
    let held: Vec<_> = requests.iter().map(|words| worker.hold(words, "acme")).collect();
    for words in &requests {
        assert!(matches!(worker.arrive(words), FrontStep::Held(_)), "{words:?}");
    }
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let (mut differed, mut asked, mut same) = (0, 0, 0);
    while differed < 120_000 {
        let (at, rounds) = (dice.roll(requests.len()), 1 + dice.roll(2));
        let new = (0..rounds).fold(requests[at].clone(), |words, _| mutated(&words, &requests, &mut dice));
        let own = requests.iter().position(|words| inputs(words) == inputs(&new));
        differed += usize::from(own != Some(at));
        match worker.arrive(&new) {
            FrontStep::Held(found) => {
                let own = own.unwrap_or_else(|| panic!("{new:?} went on with a grant"));
                assert!(Rc::ptr_eq(&found, &held[own]), "{new:?}");
                same += 1;
            }
            FrontStep::Ask(_) => asked += 1,
            FrontStep::Refuse(_) => {}
        }
    }
    assert!(asked > 20_000 && same > 5_000, "the hunt must reach the look-up: {asked} asked, {same} held");
}
