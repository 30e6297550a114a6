//! What verifying a token costs, whole, beside the bare check of its signature by the native library (aws-lc-rs): in
//! process, a good token of each algorithm.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use authz_service::identity::discovery::KeyRing;
use authz_service::identity::jwt::{self, Trust};
use authz_service::registry::EndpointKind;
use authz_service::resource;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bulkhead_tests::mint::{Alg, now};
use bulkhead_tests::policies::{Policies, issuer};
use serde_json::Value;

/// Verifications of each round.
const ROUND: u32 = 2_000;
const ROUNDS: usize = 7;

/// Prints a line for each algorithm.
pub(crate) fn print() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    Policies::standard().write(directory.path())?;
    let problems = |problems: Vec<resource::Problem>| anyhow::anyhow!("{problems:?}");
    let registry = resource::load(directory.path()).map_err(problems)?.registry;
    let published = KeyRing::offline();
    let trust =
        Trust { issuers: &registry.issuers, published: &published, certificate: "", endpoint: EndpointKind::Chat };
    let issuer = issuer("acme");
    let keys = issuer.jwks();
    println!("| algorithm | µs a token | µs its signature, aws-lc-rs | ratio |");
    println!("|---|---:|---:|---:|");
    for alg in Alg::ALL {
        let token = issuer.token(alg);
        let whole = median(|| jwt::verify(&token, &trust, now()).is_ok())?;
        let key = keys["keys"].as_array().and_then(|keys| keys.iter().find(|key| key["kid"] == alg.kid()));
        let native = native(alg, key.context("its key")?, &token)?;
        println!("| {} | {whole:.1} | {native:.1} | {:.2} |", alg.name(), whole / native);
    }
    Ok(())
}

fn native(alg: Alg, key: &Value, token: &str) -> anyhow::Result<f64> {
    let field = |name: &str| anyhow::Ok(URL_SAFE_NO_PAD.decode(key[name].as_str().context("a field")?)?);
    let (signed, signature) = token.rsplit_once('.').context("a token")?;
    let (signed, signature) = (signed.as_bytes(), URL_SAFE_NO_PAD.decode(signature)?);
    let point = || anyhow::Ok([vec![4], field("x")?, field("y")?].concat());
    match alg {
        Alg::Rs256 | Alg::Ps256 => {
            let parts = RsaPublicKeyComponents { n: field("n")?, e: field("e")? };
            let how = if alg == Alg::Rs256 { &RSA_PKCS1_2048_8192_SHA256 } else { &RSA_PSS_2048_8192_SHA256 };
            median(|| parts.verify(how, signed, &signature).is_ok())
        }
        Alg::Es256 => {
            let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point()?);
            median(|| key.verify(signed, &signature).is_ok())
        }
        Alg::Es384 => {
            let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point()?);
            median(|| key.verify(signed, &signature).is_ok())
        }
        Alg::EdDsa | Alg::Ed25519 => {
            let key = UnparsedPublicKey::new(&ED25519, field("x")?);
            median(|| key.verify(signed, &signature).is_ok())
        }
    }
}

/// Microseconds of one call in the median round.
fn median(call: impl Fn() -> bool) -> anyhow::Result<f64> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for _ in 0..ROUND {
            ensure!(call(), "it verifies");
        }
        rounds.push(began.elapsed());
    }
    rounds.sort_unstable();
    let round = rounds.get(ROUNDS / 2).context("a round")?;
    Ok(round.as_secs_f64() * 1e6 / f64::from(ROUND))
}
