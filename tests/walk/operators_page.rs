//! The page that an operator follows from a new tenant to a hardware key (`policies/README.md`): its files are written as it
//! shows them, its commands run as they stand there, and what it says of the answer is what a client reads.

use bulkhead_tests::client::Answer;
use bulkhead_tests::configuration::{Profile, patient, repository};
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{CHAT, Gateway, chat_body};
use bulkhead_tests::mint::{Alg, Issuer, now};
use serde_json::{Value, json};

/// A block of the page: a file of resources, or commands.
enum Block {
    Resources(String),
    Commands(String),
    Answer(String),
}

fn page() -> Vec<Block> {
    let readme = std::fs::read_to_string(repository().join("policies/README.md")).expect("the page");
    let (_, rest) = readme.split_once("## From a new tenant to a hardware key\n").expect("the section");
    let section = rest.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```").skip(1).step_by(2);
    blocks
        .map(|block| match block.split_once('\n').expect("a block") {
            ("yaml", text) => Block::Resources(text.to_owned()),
            ("sh", text) => Block::Commands(text.to_owned()),
            (_, text) => Block::Answer(text.to_owned()),
        })
        .collect()
}

async fn ask(gateway: &Gateway, bearer: &str) -> Answer {
    gateway.post(CHAT, &[("authorization", bearer)], chat_body("hello [tokens=1]").to_string()).await
}

fn bearer(issuer: &Issuer, login: &Value) -> String {
    let mut claims = issuer.claims();
    for (name, value) in login.as_object().expect("claims") {
        claims[name] = value.clone();
    }
    format!("Bearer {}", issuer.token_with(Alg::Es256, &claims))
}

#[tokio::test]
async fn the_page_leads_from_a_new_tenant_to_a_hardware_key() {
    for profile in Profile::ALL {
        let gateway = Gateway::builder().profile(profile).envoy(|text| patient(&text, "5s")).start().await;
        let (service, issuer) = (gateway.service(), Issuer::new("https://login.st-anna.example", "st-anna"));
        let (policies, name) = (service.policies(), profile.name());
        std::fs::write(policies.join("jwks/st-anna.json"), issuer.jwks().to_string()).expect("its keys");
        let (mut files, mut key, mut told, mut challenge) = (0, String::new(), String::new(), String::new());
        for block in page() {
            match block {
                Block::Resources(text) => {
                    files += 1;
                    std::fs::write(policies.join(format!("st-anna-{files}.yaml")), text).expect("the file");
                }
                Block::Answer(text) => challenge = text.split_whitespace().collect::<Vec<_>>().join(" "),
                Block::Commands(text) => {
                    for line in text.lines() {
                        let line = line.replace("DIR", &policies.display().to_string());
                        let words: Vec<&str> = line.split_whitespace().collect();
                        assert_eq!(words[0], "bulkhead", "{line}");
                        if line.contains("audit tail") {
                            // before it looks, somebody is refused
                            let weak = bearer(&issuer, &json!({"amr": ["pwd"], "auth_time": now()}));
                            let answer = eventually("the rule is in force", async || {
                                Some(ask(&gateway, &weak).await).filter(|answer| answer.status == 401)
                            })
                            .await;
                            assert_eq!(answer.code(), "insufficient_user_authentication", "{name}");
                            let field = answer.header("www-authenticate").expect("a challenge").to_owned();
                            assert_eq!(challenge_of(&challenge), field, "{name}: what the page shows is what is said");
                        }
                        let out = service.command(&words[1..]).await;
                        if line.contains("key create") {
                            let made = out.split_whitespace().find(|word| word.starts_with("bh_"));
                            key = made.unwrap_or_else(|| panic!("no key in {out}")).to_owned();
                        }
                        told.push_str(&out);
                    }
                }
            }
        }
        assert_eq!(files, 2, "a tenant, and its rules");
        assert!(told.contains("Rule `st-anna/hardware-key` asks for it."), "{name}: {told}");
        let strong = bearer(&issuer, &json!({"amr": ["pwd", "hwk"], "auth_time": now() - 60}));
        assert_eq!(ask(&gateway, &strong).await.status, 200, "{name}");
        let stale = bearer(&issuer, &json!({"amr": ["hwk"], "auth_time": now() - 1_000}));
        assert_eq!(ask(&gateway, &stale).await.code(), "insufficient_user_authentication", "{name}");
        let elsewhere = ask(&gateway, &format!("Bearer {key}")).await;
        assert_eq!(
            (elsewhere.status, elsewhere.code().as_str()),
            (403, "policy_denied"),
            "{name}: outside of the house"
        );
        assert_eq!(gateway.chat("acme", &chat_body("[tokens=1]")).await.status, 200, "{name}: nobody else");
    }
}

/// `401  WWW-Authenticate: …` as the page breaks it into lines.
fn challenge_of(text: &str) -> String {
    text.split_once("WWW-Authenticate: ").expect("the field").1.to_owned()
}
