//! The arrows of ARCHITECTURE.md, read from `cargo metadata`, and what each crate's sources may not name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which of our crates each of our crates may depend on: the whole graph.
const ARROWS: &[(&str, &[&str])] = &[
    ("gateway-core", &[]),
    ("tenant-context", &["gateway-core"]),
    ("gpu-accounting", &["gateway-core"]),
    ("header-hardening", &["gateway-core"]),
    ("bulkhead-module", &["gateway-core", "tenant-context", "gpu-accounting", "header-hardening"]),
    ("authz-service", &["gateway-core"]),
    ("bulkhead-tests", &["gateway-core", "tenant-context", "gpu-accounting", "header-hardening", "authz-service"]),
];

/// Crates that only these may depend on.
const CONFINED: &[(&str, &[&str])] = &[
    ("proxy-wasm", &["bulkhead-module"]),
    ("tonic", &["authz-service", "bulkhead-tests"]),
    ("rusqlite", &["authz-service", "bulkhead-tests"]),
    ("tokio", &["authz-service", "bulkhead-tests"]),
    ("aws-lc-rs", &["authz-service", "bulkhead-tests"]),
];

/// What pure crates may not name: clocks, randomness, I/O.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::io",
    "std::time::Instant",
    "SystemTime",
    "std::env",
    "std::process",
    "RandomState",
    "std::thread",
];

#[test]
fn our_crates_depend_on_each_other_as_drawn() {
    let packages = packages();
    let ours: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    assert_eq!(packages.keys().map(String::as_str).collect::<BTreeSet<_>>(), ours, "a crate is not in the drawing");
    for (name, allowed) in ARROWS {
        let found: BTreeSet<&str> =
            packages[*name].depends.iter().map(String::as_str).filter(|crate_| ours.contains(crate_)).collect();
        assert_eq!(found, allowed.iter().copied().collect(), "{name}");
    }
}

#[test]
fn confined_crates_stay_where_they_are() {
    for (confined, allowed) in CONFINED {
        for (name, package) in packages() {
            let named = package.depends.contains(*confined);
            assert!(!named || allowed.contains(&name.as_str()), "{name} depends on {confined}");
        }
    }
}

#[test]
fn one_file_calls_the_sdk() {
    for (path, text) in sources(&packages()["bulkhead-module"].folder) {
        let calls = text.contains("hostcalls") || text.contains("proxy_wasm::set_");
        assert!(
            !calls || path.ends_with("host.rs") || path.parent().is_some_and(|folder| folder.ends_with("host")),
            "{} calls the SDK",
            path.display()
        );
    }
}

/// The client's headers are read ahead of ext_authz alone; behind it, and in `on_log`, one of them may be a provider's key.
#[test]
fn one_file_reads_the_clients_headers() {
    for (path, text) in sources(&packages()["bulkhead-module"].folder.join("src")) {
        let reads = text.contains("client_headers") || text.contains("MapType::HttpRequestHeaders).unwrap");
        let may = path.ends_with("src/front.rs") || path.ends_with("host/front.rs");
        assert!(!reads || may, "{} reads the client's headers", path.display());
        let at_the_end = path.ends_with("stream/end.rs") && text.contains("request_header(");
        assert!(!at_the_end, "{} reads a request header in `on_log`", path.display());
    }
}

#[test]
fn pure_crates_name_nothing_impure() {
    for name in ["gateway-core", "tenant-context", "gpu-accounting", "header-hardening"] {
        for (path, text) in sources(&packages()[name].folder.join("src")).into_iter().filter(|(path, _)| !is_test(path))
        {
            for impure in IMPURE {
                assert!(!text.contains(impure), "{} names {impure}", path.display());
            }
        }
    }
}

#[test]
fn no_source_outgrows_its_subject() {
    for package in packages().values() {
        for (path, text) in sources(&package.folder.join("src")) {
            let lines = text.lines().count();
            assert!(lines <= 400 || is_test(&path), "{} has {lines} lines", path.display());
            assert!(text.starts_with("//!") || is_test(&path), "{} does not say what it is", path.display());
        }
    }
}

/// Tests beside the code: they may read fixtures, and their subject says what they are.
fn is_test(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.parent().is_some_and(|folder| folder.ends_with("tests"))
}

struct Package {
    folder: PathBuf,
    depends: BTreeSet<String>,
}

fn packages() -> BTreeMap<String, Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| {
            let normal = |dependency: &&Value| dependency["kind"].is_null();
            let depends = package["dependencies"].as_array().into_iter().flatten().filter(normal);
            let folder = Path::new(&text(&package["manifest_path"])).parent().expect("a folder").to_owned();
            (text(&package["name"]), Package { folder, depends: depends.map(|d| text(&d["name"])).collect() })
        })
        .collect()
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a source folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source");
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "{} has no sources", folder.display());
    found
}
