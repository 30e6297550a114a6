use super::*;

#[test]
fn a_name_stays_inside() {
    for (folder, name, want) in [
        ("", "a.json", Some("a.json")),
        ("t", "../keys/./a.json", Some("keys/a.json")),
        ("t/u", "../../a.json", Some("a.json")),
        ("t", "keys//a.json", Some("t/keys/a.json")),
        ("", "../a.json", None),
        ("t", "../../a.json", None),
        ("t", "/a.json", None),
        ("t", "..", None),
        ("t", "", None),
    ] {
        assert_eq!(inside(folder, name).as_deref(), want, "{folder} {name}");
    }
}

#[test]
fn the_version_tells_paths_from_texts() {
    let one = |files: &[(&str, &str)]| {
        let resources = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        Sources { resources, jwks: BTreeMap::new() }.version()
    };
    let versions = [one(&[]), one(&[("ab", "c")]), one(&[("a", "bc")]), one(&[("a", "b"), ("c", "")])];
    assert_eq!(std::collections::BTreeSet::from(versions).len(), 4);
}
