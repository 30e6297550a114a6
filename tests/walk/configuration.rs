//! The shipped configuration on the Envoy under test: valid as it stands, and without a warning.

use std::process::Command;

use bulkhead_tests::configuration::{portable, replaced};
use bulkhead_tests::gateway::{envoy_binary, wasm};

#[test]
fn portable_is_valid_and_envoy_warns_of_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("portable.yaml");
    let module = wasm().display().to_string();
    std::fs::write(&file, replaced(&portable(), "/usr/lib/bulkhead/bulkhead.wasm}", &format!("{module}}}"))).unwrap();
    let mut command = Command::new(envoy_binary());
    command.args(["--mode", "validate", "--log-level", "warning", "-c"]).arg(&file);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("[warning]"), "{said}");
}
