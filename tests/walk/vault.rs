//! Whose provider key a request carries, and that no secret of anybody's is found where none belongs.

use bulkhead_tests::configuration::Profile;
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::mint::random_text;
use bulkhead_tests::policies::{GPU_POOL_KEY, HOSTED_KEY};
use bulkhead_tests::process::Signal;
use gateway_core::denial::Code;

const PUT: [&str; 6] = ["vault", "put", "--tenant", "acme", "--provider", "gpu-pool"];

/// What reached the first provider last: every carrier of a credential.
fn carried(gateway: &Gateway) -> Vec<(String, String)> {
    let seen = gateway.upstream.record().pop().expect("a request");
    let mut carried = Vec::new();
    for (name, value) in seen.headers {
        let value = String::from_utf8_lossy(&value).into_owned();
        if ["authorization", "x-api-key", "x-goog-api-key", "api-key"].contains(&name.as_str()) {
            carried.push((name, value));
        }
    }
    carried
}

fn bearer(key: &str) -> Vec<(String, String)> {
    vec![("authorization".into(), format!("Bearer {key}"))]
}

#[tokio::test]
async fn a_tenants_own_key_is_used_for_that_tenant_alone() {
    let mut gateway = Gateway::builder().start().await;
    let status = async |gateway: &Gateway, tenant| gateway.chat(tenant, &chat_body("[tokens=1]")).await.status;
    assert_eq!(status(&gateway, "acme").await, 200);
    assert_eq!(carried(&gateway), bearer(GPU_POOL_KEY));

    for own in ["sk-own-first", "sk-own-second"] {
        let said = gateway.service().cli(&PUT, &format!("{own}\n")).await;
        assert_eq!((said.code, said.out.contains(own) || said.err.contains(own)), (Some(0), false), "{}", said.err);
        if gateway.profile == Profile::Inline {
            // a worker that holds acme's grant learns of a key of its own with the next report
            eventually("the own key", async || {
                assert_eq!(status(&gateway, "acme").await, 200);
                (carried(&gateway) == bearer(own)).then_some(())
            })
            .await;
        }
        assert_eq!(status(&gateway, "acme").await, 200);
        assert_eq!(carried(&gateway), bearer(own));
        assert_eq!(status(&gateway, "globex").await, 200);
        assert_eq!(carried(&gateway), bearer(GPU_POOL_KEY), "nobody else's");
    }
    // the client's own credential, in any carrier, goes no further
    let key = gateway.keys["acme"].clone();
    for (name, value) in [("x-api-key", key.clone()), ("x-goog-api-key", key), ("authorization", gateway.jwt("acme"))] {
        let answer = gateway.post(CHAT, &[(name, &value)], chat_body("[tokens=1]").to_string()).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        assert_eq!(carried(&gateway), bearer("sk-own-second"), "{name}");
    }
    gateway.service().process().signal(Signal::Kill);
    gateway.service().process().ended().await;
    gateway.service_mut().restart().await;
    eventually("an answer after the restart", async || (status(&gateway, "acme").await == 200).then_some(())).await;
    assert_eq!(carried(&gateway), bearer("sk-own-second"), "it is kept");

    // sealed under a key-encryption key that is gone: refused, and the platform's is no substitute
    gateway.service().process().signal(Signal::Kill);
    gateway.service().process().ended().await;
    std::fs::write(gateway.directory().join("kek"), bulkhead_tests::mint::random()).unwrap();
    gateway.service_mut().restart().await;
    let before = gateway.upstream.record().len();
    eventually("a refusal", async || {
        let answer = gateway.chat("acme", &chat_body("[tokens=1]")).await;
        // until the worker hears that another service answers, its held grant is one that nobody signed
        (answer.status != 503 && answer.code() != "not_admitted")
            .then(|| assert_eq!(answer.code(), Code::Internal.row().code, "{}", answer.text()))
    })
    .await;
    assert_eq!(gateway.upstream.record().len(), before);
    assert_eq!(status(&gateway, "globex").await, 200);
}

#[tokio::test]
async fn what_cannot_be_stored_is_told() {
    let gateway = Gateway::builder().start().await;
    for (arguments, input, words) in [
        (PUT, "", "standard input is empty"),
        (["vault", "put", "--tenant", "acme", "--provider", "gpu-poll"], "sk-x", "did you mean `gpu-pool`?"),
        (["vault", "put", "--tenant", "acm", "--provider", "gpu-pool"], "sk-x", "did you mean `acme`?"),
    ] {
        let said = gateway.service().cli(&arguments, input).await;
        assert_eq!(said.code, Some(1));
        assert!(said.err.contains(words), "{}", said.err);
    }
    assert_eq!(gateway.service().number("SELECT count(*) FROM vault"), 0);
}

#[tokio::test]
async fn no_secret_is_found_where_none_belongs() {
    let gateway = Gateway::builder().start().await;
    let own = format!("sk-own-{}", random_text());
    assert_eq!(gateway.service().cli(&PUT, &own).await.code, Some(0));
    let prompt = format!("canary-{}", random_text());
    let (jwt, forged) = (gateway.jwt("acme"), gateway.jwt("globex").replace('.', ".e"));
    let stranger = format!("bh_stranger_{}", random_text());

    // admitted, refused by every room, unreadable, failed at the provider
    let body = chat_body(&format!("{prompt} [tokens=3]")).to_string();
    let good = format!("Bearer {}", gateway.keys["acme"]);
    let said = format!("Bearer {stranger}");
    for (headers, body, status) in [
        (vec![("authorization", good.as_str())], body.clone(), 200),
        (vec![("authorization", jwt.as_str())], body.clone(), 200),
        (vec![("x-api-key", gateway.keys["globex"].as_str())], body.clone(), 200),
        (vec![("authorization", said.as_str())], body.clone(), 401),
        (vec![("authorization", forged.as_str())], body.clone(), 401),
        (vec![("authorization", good.as_str()), ("x-api-key", &gateway.keys["globex"])], body.clone(), 401),
        (vec![("authorization", good.as_str()), ("x-tenant-id", "globex")], body.clone(), 403),
        (vec![("authorization", good.as_str())], format!("{{\"{prompt}\": 1}}"), 400),
        (vec![("authorization", good.as_str())], format!("{prompt} is no JSON"), 400),
        (vec![("authorization", good.as_str())], chat_body(&format!("{prompt} [status=500]")).to_string(), 500),
        (vec![("authorization", good.as_str())], chat_body(&format!("{prompt} [tag=globex]")).to_string(), 502),
        (vec![("authorization", good.as_str())], chat_body(&format!("{prompt} [gzip]")).to_string(), 502),
    ] {
        let answer = gateway.post(CHAT, &headers, body).await;
        assert!(answer.status == status || status == 401 && answer.status == 400, "{}", answer.text());
    }
    let in_url = gateway.post(&format!("{CHAT}?api_key={stranger}"), &[], body).await;
    assert!(in_url.status >= 400);
    gateway.service().process().signal(Signal::Hup);
    eventually("everything settled", async || {
        (gateway.service().number("SELECT count(*) FROM reservations") == 0).then_some(())
    })
    .await;
    // twelve and the one with a key in its URL: Envoy writes its log in batches
    eventually("a line of each request", async || (gateway.access_log().len() >= 13).then_some(())).await;

    let kek = std::fs::read(gateway.directory().join("kek")).unwrap();
    let mut needles: Vec<(&str, Vec<u8>)> = vec![
        ("prompt", prompt.into_bytes()),
        ("platform's key", GPU_POOL_KEY.into()),
        ("platform's other key", HOSTED_KEY.into()),
        ("own key", own.into_bytes()),
        ("stranger's key", stranger.into_bytes()),
        ("key-encryption key", hex(&kek).into_bytes()),
        ("key-encryption key", kek),
    ];
    needles.extend(gateway.keys.values().map(|key| ("client's key", key.rsplit('_').next().unwrap().into())));
    for token in [&jwt, &forged] {
        needles.push(("token", token.rsplit('.').next().unwrap().into()));
    }
    let places = places(&gateway).await;
    for (place, text) in &places {
        for (what, needle) in &needles {
            assert!(needle.len() >= 16, "{what}");
            let found = text.windows(needle.len()).any(|window| window == needle);
            assert!(!found, "the {what} stands in {place}");
        }
    }
    // and the search finds what is there
    let finds = |place: &str, what: &str| {
        let text = &places.iter().find(|(name, _)| name.ends_with(place)).unwrap_or_else(|| panic!("no {place}")).1;
        assert!(text.windows(what.len()).any(|window| window == what.as_bytes()), "{place} without `{what}`");
    };
    finds("access.jsonl", "tenant_conflict");
    finds("bulkhead.log", "serving");
    finds("state.db-wal", "gpu-pool");
    finds("audit", "unknown_field");
    finds("/config_dump", "bulkhead-service");
    finds("/metrics", "bulkhead_");
    finds("/stats", "ext_authz");
}

/// Everything that is written or shown: files beside the policies, the admin pages, the audit.
async fn places(gateway: &Gateway) -> Vec<(String, Vec<u8>)> {
    let mut places = Vec::new();
    for entry in std::fs::read_dir(gateway.directory()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && !path.ends_with("kek") {
            places.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    for page in ["/config_dump?include_eds", "/stats", "/stats/prometheus", "/clusters", "/server_info", "/certs"] {
        let name = page.split('?').next().unwrap_or(page);
        places.push((name.to_owned(), gateway.envoy_admin(page).await.into_bytes()));
    }
    places.push(("/metrics".into(), gateway.service().http("/metrics").await.unwrap().into_bytes()));
    for command in [&["audit", "tail", "--output", "json"][..], &["usage"], &["key", "list"]] {
        places.push((format!("bulkhead {}", command[0]), gateway.service().command(command).await.into_bytes()));
    }
    places
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
