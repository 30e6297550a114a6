//! Roles and rules that do not hold together, and rules that do.

use gateway_core::denial::Code;

use super::*;

const R: &str = "rules.yaml";

const POLICY: &str = "\
apiVersion: bulkhead.dev/v1alpha1
kind: TenantPolicy
metadata: {name: clinic, namespace: acme-prod}
spec:
  tenant: acme
  rules:
    - name: hardware-key
      roles: [readers]
      endpoints: [chat]
      when: {sourceOutside: [10.0.0.0/8], hoursIn: 22:00-06:00, days: [sunday]}
      then: stepUp
      stepUp: {acr: [high], amr: [hwk], maxAge: 15m}
    - name: cheap
      gpuClasses: [l4]
      models: [llama-8b]
      when: {sourceIn: [192.0.2.0/24], hoursOutside: 08:00-18:00}
      then: restrict
      restrictTo: [gpt]
    - name: fast
      when: {spendOver: {counts: microUsd, amount: 5M, window: hour, of: principal}, networkNewFor: 24h}
      then: deny
  errors:
    - {code: policy_denied, message: Ask us., contact: https://help.acme.example}
  errorDetails: hidden
  atCredentialEnd: cut
";

#[test]
fn rules_are_compiled() {
    let dir = Dir::whole();
    dir.write(R, POLICY);
    let registry = load(dir.path()).unwrap().registry;
    let rules = registry.rules.values().next().unwrap();
    let reads = |role: &str| rules.reads(&[role.into()].into());
    let readers = reads("readers").unwrap();
    assert!(readers.time && readers.source && readers.ages.len() == 1);
    let (_, texts) = registry.errors.iter().next().unwrap();
    assert_eq!(texts.by_code[&Code::PolicyDenied].1, "Contact: https://help.acme.example");
    assert!(texts.hides_details);
    assert_eq!(registry.cut.iter().map(|tenant| tenant.as_str()).collect::<Vec<_>>(), ["acme"]);
    assert!(readers.networks && readers.spend.len() == 1 && rules.watched().len() == 1);
    assert!(reads("developer").unwrap().source && reads("platform-operator").is_none());
}

#[test]
fn a_tenants_words_are_bounded_together() {
    let dir = Dir::whole();
    dir.write(R, POLICY);
    let words = Code::ALL.iter().filter(|code| **code != Code::PolicyDenied);
    let words: String =
        words.map(|code| format!("    - {{code: {}, message: \"{}\"}}\n", code.row().code, "ü".repeat(300))).collect();
    dir.edit(R, "  errorDetails", &format!("{words}  errorDetails"));
    assert_eq!(dir.problems(), ["rules.yaml:51:14: the tenant's words are longer than 16384 bytes by here"]);
}

#[test]
fn a_plan_without_step_up_has_no_rule_that_asks_for_it() {
    let dir = Dir::whole();
    dir.write(R, POLICY);
    dir.edit(P, "  caps:", "  methods: [keys, tokens]\n  caps:");
    let told = "rules.yaml:12:15: the tenant's plan does not have `stepUp` among its `methods`";
    assert_eq!(dir.problems(), [told]);
}

#[test]
fn rules() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("tenant: acme", "tenant: acne", &["rules.yaml:5:11: tenant `acne` does not exist, did you mean `acme`?"]),
        (
            "namespace: acme-prod",
            "namespace: other",
            &["rules.yaml:3:37: tenant `acme` does not list namespace `other`"],
        ),
        ("name: cheap", "name: hardware-key", &["rules.yaml:13:13: rule `hardware-key` is there already"]),
        ("[readers]", "[reader]", &["rules.yaml:8:15: role `reader` does not exist, did you mean `readers`?"]),
        ("[readers]", "[]", &["rules.yaml:8:14: `roles` must hold at least one"]),
        (
            "[readers]",
            "[platform-operator]",
            &["rules.yaml:8:15: role `platform-operator` is for principals of no tenant"],
        ),
        ("[chat]", "[chats]", &["rules.yaml:9:19: unknown value `chats`, did you mean `chat`?"]),
        (
            "10.0.0.0/8",
            "10.0.0.0/33",
            &["rules.yaml:10:30: `10.0.0.0/33` is no block of addresses, as `10.1.0.0/16` or `::1/128`"],
        ),
        ("22:00-06:00", "22:00-22:00", &["rules.yaml:10:52: `22:00-22:00` is no span of hours, as `08:00-18:00`"]),
        ("22:00-06:00", "22-06", &["rules.yaml:10:52: `22-06` is no span of hours, as `08:00-18:00`"]),
        ("sunday", "sundae", &["rules.yaml:10:72: unknown value `sundae`, did you mean `sunday`?"]),
        ("then: stepUp", "then: stepup", &["rules.yaml:11:13: unknown value `stepup`, did you mean `stepUp`?"]),
        ("then: stepUp", "then: deny", &["rules.yaml:12:15: `stepUp` needs `then` to say so"]),
        (
            "{acr: [high], amr: [hwk], maxAge: 15m}",
            "{}",
            &["rules.yaml:12:15: `stepUp` must hold one of `acr`, `amr`, `maxAge`"],
        ),
        (
            "[hwk]",
            "['h\"k']",
            &[
                "rules.yaml:12:35: `h\"k` must be 1 to 128 visible ASCII characters without quotes, commas and backslashes",
            ],
        ),
        ("[l4]", "[l5]", &["rules.yaml:14:20: no model has GPU class `l5`, did you mean `l4`?"]),
        ("      restrictTo: [gpt]\n", "", &["rules.yaml:17:13: missing field `restrictTo`"]),
        (
            "restrictTo: [gpt]",
            "restrictTo: [gtp]",
            &["rules.yaml:18:20: model `gtp` does not exist, did you mean `gpt`?"],
        ),
        (
            "amount: 5M",
            "amount: 5.5",
            &[
                "rules.yaml:20:52: `5.5` is no count: write an integer, with k, M, G (thousands) or Ki, Mi, Gi (1024s) after it",
            ],
        ),
        (
            "window: hour",
            "window: week",
            &["rules.yaml:20:64: unknown value `week`, known: `minute`, `hour`, `day`, `month`"],
        ),
        (", of: principal", "", &["rules.yaml:20:25: missing field `of`"]),
        (
            "networkNewFor: 24h",
            "networkNewFor: 91d",
            &["rules.yaml:20:101: `91d` is out of range: more than 0, at most 90d"],
        ),
        (
            "code: policy_denied",
            "code: policy_denid",
            &["rules.yaml:23:14: there is no error `policy_denid`, did you mean `policy_denied`?"],
        ),
        (
            ", message: Ask us., contact: https://help.acme.example",
            "",
            &["rules.yaml:23:14: an error must hold one of `message`, `contact`"],
        ),
        (
            "https://help",
            "http://help",
            &["rules.yaml:23:56: `http://help.acme.example` must start with `https://` or `mailto:`"],
        ),
        ("Ask us.", "\"Ask\\nus.\"", &["rules.yaml:23:38: `message` must be 1 to 300 characters on one line"]),
        (
            "  errorDetails: hidden",
            "    - {code: policy_denied, message: Again.}",
            &["rules.yaml:24:14: the tenant has words for `policy_denied` already"],
        ),
        ("  rules:", "  rulez:", &["rules.yaml:6:3: unknown field `rulez`, did you mean `rules`?"]),
    ];
    let mut wrong = String::new();
    for (from, to, want) in cases {
        let dir = Dir::whole();
        dir.write(R, POLICY);
        dir.edit(R, from, to);
        let got = dir.problems();
        if got != *want {
            wrong += &format!("{from:?} → {to:?}\n  got  {got:#?}\n  want {want:#?}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn roles_that_are_built_in() {
    each_is_refused(&[
        (
            T,
            "metadata: {name: everything}",
            "metadata: {name: developer}",
            &[
                "tenants.yaml:9:9: role `everything` does not exist, known: `auditor`, `data-scientist`, `developer`, `member`, `platform-operator`, `readers`, `service`, `tenant-admin`",
                "tenants.yaml:19:18: role `developer` is there already: it is built in",
            ],
        ),
        (
            K,
            "role: readers",
            "role: platform-operator",
            &["api-keys/k1.yaml:6:9: role `platform-operator` is for principals of no tenant"],
        ),
        (
            K,
            "role: readers",
            "role: auditer",
            &["api-keys/k1.yaml:6:9: role `auditer` does not exist, did you mean `auditor`?"],
        ),
    ]);
}

#[test]
fn one_rule_more_than_there_may_be() {
    let rules = |many: usize| {
        let rules = (0..many).map(|n| format!("    - {{name: r{n}, then: deny}}\n")).collect::<String>();
        let head = POLICY.split("    - name").next().unwrap();
        let dir = Dir::whole();
        dir.write(R, &format!("{head}{rules}"));
        dir.problems()
    };
    assert_eq!(rules(64), [""; 0]);
    assert_eq!(rules(65), ["rules.yaml:3:18: tenant `acme` has more than 64 rules"]);
}
