//! What `policies/` ships parses, its README's examples included: together they are one whole set.

use super::*;

fn shipped(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies").join(name)).unwrap()
}

/// The README's YAML examples, in order.
fn examples() -> Vec<String> {
    let readme = shipped("README.md");
    let blocks = readme.split("```yaml\n").skip(1);
    blocks.map(|block| block.split_once("```").unwrap().0.to_owned()).collect()
}

/// Every file of `policies/` and the README's examples, with the files that these name.
fn whole() -> Dir {
    let dir = Dir(tempfile::tempdir().unwrap());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".yaml") {
            dir.write(&name, &shipped(&name));
        }
    }
    dir.write("examples.yaml", &examples().join("---\n"));
    dir.write("jwks/acme.json", JWKS);
    dir.write("jwks/st-anna.json", JWKS);
    dir.write("secrets/gpu-pool.key", "sk-test\n");
    dir.mode("secrets/gpu-pool.key", 0o600);
    dir
}

#[test]
fn all_of_it_is_one_whole_set() {
    let dir = whole();
    assert_eq!(dir.problems(), Vec::<String>::new());
    let registry = load(dir.path()).unwrap().registry;
    assert_eq!((examples().len(), registry.tenants.len(), registry.keys.len(), registry.providers.len()), (9, 2, 1, 1));
    let plans: Vec<String> = ["free", "standard", "premium", "enterprise"].map(str::to_owned).into();
    for plan in plans {
        dir.edit("examples.yaml", "plan: standard", &format!("plan: {plan}"));
        assert_eq!(load(dir.path()).unwrap().registry.tenants["acme"].plan.name, plan);
        dir.edit("examples.yaml", &format!("plan: {plan}"), "plan: standard");
    }
}

#[test]
fn every_price_says_where_it_is_from() {
    let models = shipped("models.yaml");
    let sources: Vec<&str> = models.lines().filter_map(|line| line.trim().strip_prefix("source: ")).collect();
    assert_eq!(sources.len(), models.matches("kind: ModelCost").count());
    assert!(
        sources.iter().all(|source| *source == "illustrative, set your own" || source.starts_with("second hand, "))
    );
}

#[test]
fn the_errors_that_the_readme_shows_are_the_ones_that_are_said() {
    let dir = Dir(tempfile::tempdir().unwrap());
    let [tenant, _, model, provider, ..] = <[String; 9]>::try_from(examples()).unwrap();
    dir.write("tenants.yaml", &tenant.replace("standard", "standart"));
    dir.write("models.yaml", &format!("{model}---\n{}", shipped("models.yaml")));
    dir.write("providers.yaml", &provider);
    dir.write("jwks/acme.json", JWKS);
    dir.write("secrets/gpu-pool.key", "sk-test\n");
    dir.mode("secrets/gpu-pool.key", 0o644);
    let head = "apiVersion: bulkhead.dev/v1alpha1\nkind: Plan\nmetadata: {name: standard}\nspec:\n";
    let limit = "  limits:\n    - {name: a, counts: requests, scope: tenant, inFlight: true, amount: 1.5}\n";
    dir.write("plans.yaml", &format!("{head}  caps: {{outputTokens: 1, promptTokens: 1}}\n  limitz: []\n{limit}"));
    let mut said = dir.problems();
    dir.mode("secrets/gpu-pool.key", 0o600);
    dir.edit("providers.yaml", "    - {name: gpt-4o-mini, upstreamName: gpt-4o-mini-2024-07-18}\n", "");
    said.extend(dir.problems());
    let readme = shipped("README.md");
    let (_, shown) = readme.split_once("files relative to DIR:\n\n```\n").unwrap();
    for line in shown.split_once("```").unwrap().0.lines() {
        assert!(said.iter().any(|problem| problem == line), "{line} is not among {said:#?}");
    }
}
