//! What a stranger learns of keys: nothing (security.md C02, C04). Whatever is wrong with a key, status, headers and body are the
//! same; the log alone tells them apart.

use std::collections::BTreeSet;

use authz_service::identity::api_key::NewKey;
use authz_service::vault::system_random;
use bulkhead_tests::books::refusal;
use bulkhead_tests::client::Answer;
use bulkhead_tests::eventually;
use jiff::{SignedDuration, Timestamp};

use super::{chat, gateway, made, word};

/// CRC-32 (IEEE) of a text as six digits of base62: a guesser knows how keys are spelled.
fn checksum(text: &str) -> String {
    let mut crc = !0_u32;
    for byte in text.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    let (mut rest, mut digits) = (!crc, [0; 6]);
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[(rest % 62) as usize];
        rest /= 62;
    }
    String::from_utf8(digits.to_vec()).expect("digits")
}

/// All of an answer but what names the request and the time.
fn seen(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let id = answer.header("x-request-id").expect("a request id").to_owned();
    let told = |(name, value): &(String, String)| (name.clone(), value.replace(&id, "ID"));
    let own = |name: &str| matches!(name, "date" | "x-envoy-upstream-service-time");
    let headers = answer.headers.iter().filter(|(name, _)| !own(name)).map(told).collect();
    (answer.status, headers, answer.text().replace(&id, "ID"))
}

#[tokio::test]
async fn whatever_is_wrong_with_a_key_a_stranger_sees_the_same() {
    let gateway = gateway().await;
    let [good, revoked, expired, removed] =
        [made(&gateway, &[]).await, made(&gateway, &[]).await, made(&gateway, &[]).await, made(&gateway, &[]).await];
    let text = word(&good, "key");
    assert_eq!(chat(&gateway, text).await.status, 200);
    let past = (Timestamp::now() - SignedDuration::from_mins(1)).to_string();
    let file = std::fs::read_to_string(word(&expired, "file")).unwrap();
    let created = file.lines().find(|line| line.contains("createdAt")).expect("a line").to_owned();
    let ended = file.replace(word(&expired, "expiresAt"), &past);
    let began = format!("  createdAt: {}", Timestamp::now() - SignedDuration::from_hours(2));
    std::fs::write(word(&expired, "file"), ended.replace(&created, &began)).unwrap();
    std::fs::remove_file(word(&removed, "file")).unwrap();
    gateway.service().command(&["reload"]).await;
    gateway.service().command(&["key", "revoke", word(&revoked, "id")]).await;

    let unknown = NewKey::generate(&mut system_random).expect("a key").text.expose().to_owned();
    let (body, sum) = text.split_at(text.len() - 6);
    assert_eq!(checksum(body), sum, "as the service spells it");
    let (head, last) = body.split_at(body.len() - 1);
    let other_last = if last == "0" { "1" } else { "0" };
    let (id, secret) = body.split_at(16);
    let other_first = if secret.starts_with('0') { "1" } else { "0" };
    let spelled = |body: String| format!("{body}{}", checksum(&body));
    let cases = [
        ("an unknown id", unknown.as_str(), "api key: unknown"),
        ("a wrong last character", &spelled(format!("{head}{other_last}")), "api key: wrong secret"),
        ("a wrong first character", &spelled(format!("{id}{other_first}{}", &secret[1..])), "api key: wrong secret"),
        ("no checksum of it", &format!("{head}{other_last}{sum}"), "api key: checksum"),
        ("too short", head, "api key: malformed"),
        ("revoked", word(&revoked, "key"), "api key: revoked"),
        ("expired", word(&expired, "key"), "api key: expired"),
        ("without a resource", word(&removed, "key"), "api key: no resource"),
    ];
    let mut first = None;
    for (what, key, _) in &cases {
        let answer = eventually(what, async || Some(chat(&gateway, key).await).filter(|one| one.status != 200)).await;
        refusal(&answer, 401, "invalid_credential", what);
        let seen = seen(&answer);
        assert_eq!(first.get_or_insert_with(|| seen.clone()), &seen, "{what}");
    }
    assert_eq!(chat(&gateway, text).await.status, 200, "the good one is as good as before");
    let want: BTreeSet<&str> = cases.iter().map(|(_, _, reason)| *reason).collect();
    eventually("each reason in the log", async || {
        let lines = gateway.service().whole_audit().await;
        let told: BTreeSet<&str> = lines.iter().filter_map(|line| line["detail"].as_str()).collect();
        want.is_subset(&told).then_some(())
    })
    .await;
}
