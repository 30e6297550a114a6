//! Providers and their credentials that do not hold together.

use super::*;

#[test]
fn providers() {
    each_is_refused(&[
        (
            S,
            "dialect: openai",
            "dialect: opnai",
            &["providers.yaml:5:12: unknown value `opnai`, did you mean `openai`?"],
        ),
        (
            S,
            "credential: x-api-key",
            "credential: basic",
            &["providers.yaml:8:15: unknown value `basic`, known: `bearer`, `x-api-key`, `x-goog-api-key`"],
        ),
        (
            S,
            "cluster: house",
            "cluster: 'a b'",
            &[
                "providers.yaml:6:12: `a b` must be 1 to 256 visible ASCII characters without quotes, commas and backslashes",
            ],
        ),
        (S, "name: gpt", "name: gtp", &["providers.yaml:15:14: model `gtp` does not exist, did you mean `gpt`?"]),
        (
            S,
            "name: gpt",
            "name: llama-8b",
            &["providers.yaml:15:14: model `meta-llama/Llama-3.1-8B-Instruct` is there already"],
        ),
        (
            S,
            "    - {name: gpt}\n",
            "",
            &[
                "models.yaml:18:18: no provider serves model `gpt`",
                "tenants.yaml:6:22: no provider in this tenant's regions serves model `gpt`",
            ],
        ),
        (
            S,
            "upstreamPath: /openai/v1/chat/completions",
            "upstreamPath: /a/../b",
            &["providers.yaml:12:17: `/a/../b` is no canonical path without a query"],
        ),
        (
            S,
            "upstreamPath: /openai/v1/chat/completions",
            "upstreamPath: /a?b=c",
            &["providers.yaml:12:17: `/a?b=c` is no canonical path without a query"],
        ),
        (
            S,
            "extraFields: [top_k]",
            "paths: ['/v1/{models}']",
            &[
                "providers.yaml:11:11: `/v1/{models}` is no path template: unknown placeholder `{models}`: a whole segment may be `{tenant}` or `{model}`",
            ],
        ),
        (
            S,
            "extraFields: [top_k]",
            "paths: [/v1/models]",
            &[
                "providers.yaml:11:11: path `/v1/models` and path `/v1/models` (the service's own) match the same requests with different claims",
            ],
        ),
        (
            S,
            "extraFields: [top_k]",
            "paths: ['/t/{tenant}/chat', '/t/acme/{model}']",
            &[
                "providers.yaml:11:31: path `/t/acme/{model}` and path `/t/{tenant}/chat` (providers.yaml:11) match the same requests with different claims",
            ],
        ),
        (
            S,
            "outputLimitField: max_tokens",
            "outputLimitField: maxTokens",
            &["providers.yaml:10:21: unknown value `maxTokens`, did you mean `max_tokens`?"],
        ),
    ]);
}

#[test]
fn credential_files() {
    let said = |prepare: fn(&Dir)| {
        let dir = Dir::whole();
        prepare(&dir);
        let problems = dir.problems();
        assert!(problems.len() == 1 && !problems[0].contains("sk-house"), "{problems:?}");
        problems[0].strip_prefix("providers.yaml:9:19: `credentialFile`: `house.key` ").unwrap().to_owned()
    };
    assert_eq!(said(|dir| dir.mode("house.key", 0o640)), "has mode 0640; it must be 0600 or stricter");
    assert_eq!(said(|dir| dir.write("house.key", "")), "is empty");
    let visible = "must hold visible ASCII characters and at most one newline after them";
    for text in ["\n", "sk-house \n", "sk-house\n\n", "sk-house\r\n", "sk-hoüse\n", "sk-house\0"] {
        let dir = Dir::whole();
        dir.write("house.key", text);
        assert_eq!(
            dir.problems(),
            [format!("providers.yaml:9:19: `credentialFile`: `house.key` {visible}")],
            "{text:?}"
        );
    }
    assert!(said(|dir| fs::remove_file(dir.path().join("house.key")).unwrap()).starts_with("cannot be read: "));
    let dir = Dir::whole();
    let elsewhere = Dir::whole();
    dir.edit(S, "house.key", elsewhere.path().join("house.key").to_str().unwrap());
    assert_eq!(dir.problems(), Vec::<String>::new(), "an absolute path");
}
