//! The shipped configuration on the Envoy under test: valid as it stands, and without a warning; and the module's own
//! configuration, refused with a message that names the field.

use std::process::Command;

use bulkhead_tests::configuration::{Profile, replaced, repository, with_secrets, with_wasm};
use bulkhead_tests::gateway::{Gateway, envoy_binary, wasm};

/// The module's configuration as it ships.
const SHIPPED: &str = r#"'{"schemaVersion":1,"proxy":"edge-1"}'"#;

/// With the platform's keys as they are shipped: none.
#[test]
fn what_is_shipped_is_valid_and_envoy_warns_of_nothing() {
    for profile in Profile::ALL {
        let (good, said) = validated(&profile.text());
        assert!(good, "{said}");
        assert!(!said.contains("[warning]"), "{said}");
    }
}

#[test]
fn a_bad_module_configuration_is_refused_and_the_field_is_named() {
    for (text, message) in [
        (r#"'{"schemaVersion":2,"proxy":"edge-1"}'"#, "`schemaVersion` is 2, this module knows 1"),
        (r#"'{"proxy":"edge-1"}'"#, "missing field `schemaVersion`"),
        (r#"'{"schemaVersion":1}'"#, "missing field `proxy`"),
        (r#"'{"schemaVersion":1,"proxy":"edge 1"}'"#, "`proxy` must be"),
        (r#"'{"schemaVersion":1,"proxy":"edge-1","sync":5}'"#, "unknown field `sync`"),
        (r#"'{"schemaVersion":1,"proxy":"edge-1","syncIntervalMs":5}'"#, "`syncIntervalMs` must be 50 to 10000"),
        (r#"'{"schemaVersion":1,"proxy":"edge-1","claimHeader":"authorization"}'"#, "`claimHeader` must be"),
        (r#"'{"schemaVersion":1,"proxy":"edge-1","service":""}'"#, "`service` must name an Envoy cluster"),
        ("'schemaVersion: 1'", "is not JSON text (it starts with the bytes 73 63"),
        ("''", "the configuration is empty"),
    ] {
        let (good, said) = validated(&replaced(&Profile::Portable.text(), SHIPPED, text));
        assert!(!good && said.contains(message), "{text}: {said}");
    }
}

#[tokio::test]
async fn the_proxies_socket_answers_grpc_health() {
    let gateway = Gateway::builder().without_keys().start().await;
    assert_eq!(gateway.service().health().await, "serving");
}

/// What Envoy says of a configuration.
fn validated(text: &str) -> (bool, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("envoy.yaml");
    let text = with_secrets(&with_wasm(text, &wasm()), &repository().join("envoy/standalone/secrets"));
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(envoy_binary());
    command.args(["--mode", "validate", "--log-level", "warning", "-c"]).arg(&file);
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}
