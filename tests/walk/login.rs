//! `bulkhead login` at the certified `oidc-provider`: with a browser, with another device, and for a pipeline; what the kept
//! tokens open, how they are renewed, and how the login ends.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bulkhead_tests::browser;
use bulkhead_tests::client::Shot;
use bulkhead_tests::configuration::patient;
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{CHAT, Gateway, bulkhead_binary, chat_body};
use bulkhead_tests::oidc::Provider;
use bulkhead_tests::policies::resource;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

/// A provider, a gateway whose acme trusts it, and one user's files.
struct Stage {
    provider: Provider,
    gateway: Gateway,
    folder: TempDir,
}

/// How a command ended.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Stage {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let provider = Provider::start(folder.path()).await;
        let mut trusted = provider.trusted(&json!({}));
        trusted["scopes"] = json!([{"scope": "chat", "role": "may-chat"}]);
        let gateway = Gateway::builder().envoy(|text| patient(&text, "5s")).policies(move |set| {
            set.spec("Tenant", "acme")["issuers"].as_array_mut().expect("issuers").push(trusted);
            set.add(resource("Role", "may-chat", &json!({"endpoints": ["chat"]})));
        });
        Self { provider, gateway: gateway.start().await, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("of-alice/login.json")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(bulkhead_binary());
        command.args(arguments).env("BULKHEAD_LOGIN", self.file()).env_remove("BULKHEAD_ADMIN").kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    /// Runs a command; `meet` is what a person does once it has said where.
    async fn run(&self, arguments: &[&str], meet: impl AsyncFnOnce(&str)) -> Said {
        let log = self.folder.path().join("err.txt");
        let mut command = self.command(arguments);
        let child = command.stderr(fs::File::create(&log).expect("a file")).spawn().expect("bulkhead starts");
        let read = || fs::read_to_string(&log).expect("what it said");
        let page = async {
            let address = |text: &str| {
                let words: Vec<&str> = text.split_whitespace().filter(|word| word.starts_with("http://")).collect();
                words
                    .last()
                    .filter(|_| text.contains("Waiting") || text.contains("a browser"))
                    .map(|word| (*word).to_owned())
            };
            let page = eventually("where to log in", async || address(&read())).await;
            meet(&page).await;
        };
        let ended =
            async { timeout(Duration::from_secs(60), child.wait_with_output()).await.expect("an end").unwrap() };
        let output = tokio::select! {
            output = ended => output,
            () = async { page.await; std::future::pending::<()>().await } => unreachable!("it only ends by its child"),
        };
        let out = String::from_utf8(output.stdout).expect("text");
        Said { code: output.status.code(), out, err: read() }
    }

    async fn quiet(&self, arguments: &[&str]) -> Said {
        self.run(arguments, async |_: &str| {}).await
    }

    async fn login(&self, more: &[&str], meet: impl AsyncFnOnce(&str)) -> Said {
        let issuer = self.provider.issuer();
        let arguments = [&["login", "--issuer", &issuer], more].concat();
        self.run(&arguments, meet).await
    }

    /// The access token, by `bulkhead token`.
    async fn token(&self) -> String {
        let said = self.quiet(&["token"]).await;
        assert_eq!(said.code, Some(0), "{}", said.err);
        said.out.trim().to_owned()
    }

    async fn status(&self, token: &str) -> u16 {
        let shot = Shot::post(CHAT, chat_body("[prompt=1] [tokens=1]").to_string());
        let shot = shot.header("authorization", format!("Bearer {token}"));
        bulkhead_tests::client::volley(self.gateway.addr, &[shot], 1).await.remove(0).expect("an answer").status
    }

    fn kept(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.file()).expect("a login")).expect("JSON")
    }

    /// As if the access token had just ended.
    fn ends_now(&self) {
        let mut kept = self.kept();
        kept["expires_at"] = json!("2020-01-01T00:00:00Z");
        fs::write(self.file(), kept.to_string()).expect("written");
    }
}

const CLI: [&str; 4] = ["--client-id", "bulkhead-cli", "--scope", "openid offline_access chat"];

#[tokio::test]
async fn with_a_browser_renewed_and_ended() {
    let stage = Stage::new().await;
    let nobody = stage.quiet(&["token"]).await;
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.err.contains("run `bulkhead login` first"), "{}", nobody.err);

    let said = stage
        .login(&[&CLI[..], &["--no-browser"]].concat(), async |page: &str| {
            assert!(page.contains("code_challenge_method=S256"), "{page}");
            assert_eq!(browser::visit(page).await, "You are logged in. You can close this page.\n");
        })
        .await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.contains("and renewed then"), "{}", said.out);
    private(&stage.file());
    let first = stage.token().await;
    assert_eq!(stage.status(&first).await, 200);
    assert!(!format!("{}{}", said.out, said.err).contains(&first), "a token is on the terminal");
    assert_eq!(stage.token().await, first, "it is good for a while");

    let refresh = stage.kept()["refresh_token"].clone();
    stage.ends_now();
    // a refresh token that rotates is good once: two at a time are one after the other
    let (one, two) = tokio::join!(stage.token(), stage.token());
    assert_eq!(one, two);
    assert_ne!(one, first);
    assert_eq!(stage.status(&one).await, 200);

    let said = stage.quiet(&["logout"]).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(!stage.file().exists());
    // what was kept is worth nothing any more
    let kept = json!({"issuer": stage.provider.issuer(), "client_id": "bulkhead-cli", "access_token": "a", "refresh_token": refresh,
        "expires_at": "2020-01-01T00:00:00Z"});
    fs::write(stage.file(), kept.to_string()).expect("written");
    fs::set_permissions(stage.file(), fs::Permissions::from_mode(0o600)).expect("private");
    let ended = stage.quiet(&["token"]).await;
    assert!(ended.code == Some(1) && ended.err.contains("run `bulkhead login` again"), "{}", ended.err);
}

#[tokio::test]
async fn with_another_device_and_declined() {
    let stage = Stage::new().await;
    let said = stage
        .login(&[&CLI[..], &["--device"]].concat(), async |page: &str| {
            assert!(browser::visit(page).await.contains("Sign-in Success"));
        })
        .await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    private(&stage.file());
    assert_eq!(stage.status(&stage.token().await).await, 200);

    let declined = stage
        .login(&[&CLI[..], &["--no-browser"]].concat(), async |page: &str| {
            let text = browser::visit(&format!("{page}&login_hint=mallory")).await;
            assert_eq!(text, "The login failed; the terminal says why. You can close this page.\n");
        })
        .await;
    assert_eq!(declined.code, Some(1));
    assert!(declined.err.contains("the provider refuses: access_denied (not today)"), "{}", declined.err);
    assert_eq!(stage.status(&stage.token().await).await, 200, "a login that fails takes nothing away");
}

#[tokio::test]
async fn for_a_pipeline() {
    let stage = Stage::new().await;
    let secret = stage.folder.path().join("secret");
    fs::write(&secret, "a-secret-of-the-tests\n").expect("written");
    let path = secret.display().to_string();
    let pipeline =
        ["--client-credentials", "--client-id", "nightly", "--scope", "chat", "--client-secret-file", path.as_str()];
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).expect("readable");
    let open = stage.login(&pipeline, async |_: &str| {}).await;
    assert!(open.code == Some(1) && open.err.contains("has mode 0644"), "{}", open.err);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("private");
    let said = stage.login(&pipeline, async |_: &str| {}).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(!stage.kept().to_string().contains("a-secret-of-the-tests"), "the secret stays in its own file");
    let first = stage.token().await;
    assert_eq!(stage.status(&first).await, 200);
    stage.ends_now();
    let next = stage.token().await;
    assert_ne!(next, first);
    assert_eq!(stage.status(&next).await, 200);

    fs::write(&secret, "another").expect("written");
    stage.ends_now();
    let refused = stage.quiet(&["token"]).await;
    assert!(refused.code == Some(1) && refused.err.contains("invalid_client"), "{}", refused.err);
}

fn private(path: &Path) {
    assert_eq!(fs::metadata(path).expect("a login").permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn whoever_logs_in_with_a_hardware_key_meets_a_step_up() {
    let stage = Stage::new().await;
    let rule = json!({"name": "key", "then": "stepUp", "stepUp": {"acr": ["phrh"], "amr": ["hwk"], "maxAge": "15m"}});
    let policy = json!({
        "apiVersion": "bulkhead.dev/v1alpha1", "kind": "TenantPolicy",
        "metadata": {"name": "clinic", "namespace": "acme"}, "spec": {"tenant": "acme", "rules": [rule]},
    });
    fs::write(stage.gateway.service().policies().join("clinic.yaml"), policy.to_string()).expect("written");
    stage.gateway.service().command(&["reload"]).await;
    let pipelines = stage.provider.token("chat").await;
    eventually("a pipeline's token is refused", async || (stage.status(&pipelines).await == 401).then_some(())).await;
    let said = stage
        .login(&[&CLI[..], &["--no-browser"]].concat(), async |page: &str| {
            browser::visit(page).await;
        })
        .await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    let alices = stage.token().await;
    assert_eq!(stage.status(&alices).await, 200);
    assert_eq!(stage.status(&pipelines).await, 401);
}
