//! B15 to B17: signatures that are almost right.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::signer::{Kind, NOW, P256_ORDER, World, encode, subtract};
use super::{refused, signer};
use crate::identity::jwt::verify;
use gateway_core::denial::Code;

const STRANGER: Code = Code::InvalidCredential;

/// The token with another signature.
pub(super) fn with_signature(token: &str, signature: &[u8]) -> String {
    format!("{}.{}", token.rsplit_once('.').unwrap().0, encode(signature))
}

#[test]
fn ecdsa_numbers_are_in_range_and_of_fixed_length() {
    // B15
    let world = World::new();
    let token = world.token(Kind::Es256, json!({}));
    let one = {
        let mut one = [0; 32];
        one[31] = 1;
        one
    };
    let less = subtract(&P256_ORDER, &one);
    let numbers: [&[u8]; 5] = [&[0; 32], &one, &P256_ORDER, &less, &[0xff; 32]];
    for r in numbers {
        for s in numbers {
            refused(&world, &with_signature(&token, &[r, s].concat()));
        }
    }
    let genuine = {
        let message = token.rsplit_once('.').unwrap().0;
        Kind::Es256.sign(message.as_bytes())
    };
    assert!(verify(&with_signature(&token, &genuine), &world.held(), NOW).is_ok());
    let (r, s) = genuine.split_at(32);
    let der = [&[0x30, 0x46, 0x02, 0x21, 0][..], r, &[0x02, 0x21, 0], s].concat();
    let swapped = [s, r].concat();
    let padded = [&[0][..], r, &[0], s].concat();
    for bad in [
        &genuine[..63],
        &[&genuine[..], &[0]].concat(),
        &der,
        &swapped,
        &padded,
        &[&[0; 64][..], &genuine[..]].concat(),
    ] {
        refused(&world, &with_signature(&token, bad));
    }
}

#[test]
fn ed25519_is_strict() {
    // B17
    let world = World::new();
    let token = world.token(Kind::EdDsa, json!({}));
    let genuine = Kind::EdDsa.sign(token.rsplit_once('.').unwrap().0.as_bytes());
    assert!(verify(&with_signature(&token, &genuine), &world.held(), NOW).is_ok());
    // S + L, L = 2^252 + 27742317777372353535851937790883648493, little-endian
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut raised = genuine.clone();
    let mut carry = 0;
    for (byte, add) in raised[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    let identity = {
        let mut point = [0; 32];
        point[0] = 1;
        point
    };
    let small_r = [&identity[..], &genuine[32..]].concat();
    // What plain verification takes: R of small order, and S = k·a, so that S·B − k·A is R.
    let message = token.rsplit_once('.').unwrap().0;
    let committed = with_signature(&token, &signer::sign_without_nonce(message.as_bytes()));
    assert_eq!(refused(&world, &committed), (STRANGER, "jwt: signature"));
    let small_r_zero_s = [&identity[..], &[0; 32]].concat();
    let extended = [&genuine[..], &[0]].concat();
    for bad in [&raised, &vec![0; 64], &genuine[..63].to_vec(), &extended, &small_r, &small_r_zero_s] {
        assert_eq!(refused(&world, &with_signature(&token, bad)), (STRANGER, "jwt: signature"));
    }
}

#[test]
fn the_high_s_twin_is_the_same_token() {
    // B16: RFC 7518 allows it; what names a token is issuer and jti.
    let world = World::new();
    let token = world.token(Kind::Es256, json!({"jti": "t-1"}));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let flipped = subtract(&P256_ORDER, &signature[32..]);
    signature[32..].copy_from_slice(&flipped);
    let twin = format!("{signed}.{}", encode(&signature));
    assert_ne!(twin, token);
    let ids = [token, twin].map(|token| {
        let identity = verify(&token, &world.held(), NOW).unwrap();
        (identity.issuer.url.clone(), identity.token_id)
    });
    assert_eq!(ids[0], ids[1]);
}
