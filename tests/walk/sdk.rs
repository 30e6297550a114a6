//! The official OpenAI SDK for Python, unchanged and without retries, against the whole chain: `tests/sdk/openai_sdk.py`.

use std::path::PathBuf;
use std::process::Stdio;

use bulkhead_tests::configuration::{patient, repository};
use bulkhead_tests::gateway::Gateway;
use bulkhead_tests::policies::{GPU_POOL_KEY, TENANTS};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

/// The version that `tests/install.sh` installs.
const VERSION: &str = "3.51.0";

#[tokio::test]
async fn the_openai_sdk_sees_what_it_knows() {
    let mut gateway = Gateway::builder()
        .policies(|set| set.limit("standard", "tokens-per-minute")["amount"] = json!(10))
        .envoy(|text| patient(&text, "5s"))
        .start()
        .await;
    gateway.upstream_2.stop();

    let bare = |text: String| text.trim_start_matches("Bearer ").to_owned();
    let tokens: serde_json::Map<_, _> =
        TENANTS.map(|name| (name.into(), bare(gateway.jwt(name)).into())).into_iter().collect();
    let given = json!({"url": format!("http://{}", gateway.addr), "keys": gateway.keys, "tokens": tokens});
    let mut command = tokio::process::Command::new(python());
    command.arg(repository().join("tests/sdk/openai_sdk.py")).env_remove("OPENAI_API_KEY").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("python starts");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(given.to_string().as_bytes()).await.expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().await.expect("its end");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    println!("{said}");
    assert!(output.status.success(), "{said}");
    assert!(said.starts_with(&format!("openai {VERSION}\n")), "{said}");

    // whatever the SDK sent, the upstream saw the platform's key and none of the clients'
    let record = gateway.upstream.record();
    assert!(record.len() > 20, "{}", record.len());
    for seen in &record {
        assert_eq!(seen.header("authorization"), Some(format!("Bearer {GPU_POOL_KEY}")));
        let shown = seen.shown().to_string();
        assert!(gateway.keys.values().all(|key| !shown.contains(key)), "{shown}");
    }
    assert!(gateway.is_whole().await);
}

/// `PYTHON_OPENAI`, or what `tests/install.sh` put into the cache.
fn python() -> PathBuf {
    if let Some(path) = std::env::var_os("PYTHON_OPENAI") {
        return path.into();
    }
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
    let path = cache.join(format!("bulkhead/py-{VERSION}/bin/python"));
    assert!(path.is_file(), "no {}: run tests/install.sh", path.display());
    path
}
