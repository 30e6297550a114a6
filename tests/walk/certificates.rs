//! Clients that show a certificate, through a real Envoy with the shipped lines: whom it proves, beside which credential it
//! may stand, and that it stops when it is revoked.

mod mesh;

use std::path::{Path, PathBuf};

use bulkhead_tests::certificates::{Ca, Issued, replace};
use bulkhead_tests::configuration::{patient, with_client_certificates};
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{Builder, CHAT, Gateway, chat_body};
use bulkhead_tests::policies::Policies;
use bulkhead_tests::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Two tenants' CAs, and a directory of what Envoy and the clients read.
struct Stage {
    tls: TempDir,
    acme: Ca,
    globex: Ca,
}

const TRAIN: &str = "spiffe://acme.example/workload/train";
const OTHER: &str = "spiffe://globex.example/workload/train";

impl Stage {
    fn new() -> Self {
        let stage =
            Self { tls: tempfile::tempdir().expect("a directory"), acme: Ca::new("acme"), globex: Ca::new("globex") };
        Ca::new("public").server("ai.example").write(stage.path(), "gateway");
        stage.union(&[]);
        stage
    }

    fn path(&self) -> &Path {
        self.tls.path()
    }

    /// Has Envoy take these CAs too.
    fn union(&self, more: &[&str]) {
        let bundles = self.acme.pem() + &self.globex.pem() + &more.concat();
        replace(&self.path().join("clients.pem"), &bundles);
    }

    fn client(&self, name: &str, issued: &Issued) -> String {
        issued.write(self.path(), name);
        name.to_owned()
    }

    fn policies(&self, set: &mut Policies) {
        for (tenant, ca) in [("acme", &self.acme), ("globex", &self.globex)] {
            let bundle = format!("certificates/{tenant}.pem");
            set.file(&bundle, &ca.pem());
            set.spec("Tenant", tenant)["certificates"] =
                json!({"trustDomain": format!("{tenant}.example"), "bundleFile": bundle});
        }
    }

    fn builder(&self) -> Builder {
        let tls = self.path().to_owned();
        Gateway::builder()
            .policies(|set| self.policies(set))
            .envoy(move |text| with_client_certificates(&patient(&text, "5s"), &tls))
    }

    /// Status, `error.code` and request id of a chat, with this certificate or none.
    async fn ask(&self, gateway: &Gateway, certificate: Option<&str>, headers: &[(&str, &str)]) -> Said {
        let files = certificate.map(|name| {
            let file = |end: &str| self.path().join(format!("{name}.{end}"));
            (file("crt"), file("key"))
        });
        ask(gateway, files, headers).await
    }
}

/// What came back.
#[derive(Debug)]
struct Said {
    status: u16,
    code: String,
    request_id: String,
}

impl Said {
    fn brief(&self) -> (u16, &str) {
        (self.status, &self.code)
    }
}

async fn ask(gateway: &Gateway, files: Option<(PathBuf, PathBuf)>, headers: &[(&str, &str)]) -> Said {
    let mut command = tokio::process::Command::new("curl");
    command.args(["-sk", "--http1.1", "-w", "\n%{http_code} %header{x-request-id}"]);
    command.args(["-H", "content-type: application/json", "-d", &chat_body("hi [tokens=1]").to_string()]);
    for (name, value) in headers {
        command.args(["-H", &format!("{name}: {value}")]);
    }
    if let Some((certificate, key)) = files {
        command.arg("--cert").arg(certificate).arg("--key").arg(key);
    }
    let output = command.arg(format!("https://{}{CHAT}", gateway.addr)).output().await.expect("curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, last) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{output:?}"));
    let (status, request_id) = last.split_once(' ').unwrap_or_else(|| panic!("{output:?}"));
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let code = body["error"]["code"].as_str().unwrap_or_default().to_owned();
    Said { status: status.parse().expect("a status"), code, request_id: request_id.to_owned() }
}

#[tokio::test]
async fn a_certificate_is_a_credential_of_the_tenant_whose_ca_signed_it() {
    let stage = Stage::new();
    let gateway = stage.builder().start().await;
    let acme = stage.client("acme", &stage.acme.client(&[TRAIN]));
    let globex = stage.client("globex", &stage.globex.client(&[OTHER]));
    let crossed = stage.client("crossed", &stage.acme.client(&[OTHER]));
    let several = stage.client("several", &stage.acme.client(&[TRAIN, OTHER]));
    let unknown = stage.client("unknown", &stage.acme.client(&["spiffe://initech.example/a"]));
    let nobody = stage.client("nobody", &stage.acme.client(&[]));
    let (of_acme, of_globex) = (gateway.bearer("acme"), gateway.bearer("globex"));
    let (acme_key, globex_key) = (("authorization", of_acme.as_str()), ("authorization", of_globex.as_str()));
    let forged =
        format!("Hash=00;URI={OTHER};Cert=\"{}\"", stage.globex.client(&[OTHER]).certificate.replace('\n', "%0A"));
    let xfcc = ("x-forwarded-client-cert", forged.as_str());
    let (claim_acme, claim_globex) = (("x-tenant-id", "acme"), ("x-tenant-id", "globex"));
    let invalid = (401, "invalid_credential");
    let conflict = (403, "tenant_conflict");
    for (what, certificate, headers, want) in [
        ("acme's alone", Some(&acme), &[][..], (200, "")),
        ("globex's alone", Some(&globex), &[], (200, "")),
        ("with its claim", Some(&acme), &[claim_acme], (200, "")),
        ("with another's claim", Some(&acme), &[claim_globex], conflict),
        ("beside its key", Some(&acme), &[acme_key], (200, "")),
        ("beside another's key", Some(&acme), &[globex_key], conflict),
        ("beside another's key and claim", Some(&acme), &[globex_key, claim_globex], conflict),
        ("by acme's CA, naming globex", Some(&crossed), &[], invalid),
        ("by acme's CA, naming globex, beside globex's key", Some(&crossed), &[globex_key], invalid),
        ("two names", Some(&several), &[], invalid),
        ("an unknown trust domain", Some(&unknown), &[], invalid),
        ("an unknown trust domain, beside a key", Some(&unknown), &[acme_key], invalid),
        ("without a name", Some(&nobody), &[], invalid),
        ("without a name, beside a key", Some(&nobody), &[acme_key], (200, "")),
        ("none", None, &[], (401, "missing_credential")),
        ("none, XFCC from the client", None, &[xfcc], (401, "missing_credential")),
        ("none, XFCC twice", None, &[xfcc, xfcc], (401, "missing_credential")),
        ("acme's, XFCC from the client", Some(&acme), &[xfcc], (200, "")),
        ("none, acme's key", None, &[acme_key], (200, "")),
    ] {
        let said = stage.ask(&gateway, certificate.map(String::as_str), headers).await;
        assert_eq!(said.brief(), want, "{what}");
        if want.0 != 200 {
            continue;
        }
        let line = gateway.service().settled(&said.request_id).await;
        let by_key = headers.contains(&acme_key);
        let (tenant, id) = if certificate == Some(&globex) { ("globex", OTHER) } else { ("acme", TRAIN) };
        assert_eq!((&line["tenant"], &line["decision"]), (&tenant.into(), &"allow".into()), "{what}: {line}");
        if !by_key {
            assert_eq!(
                (&line["credential"], &line["principal"]),
                (&"certificate".into(), &id.into()),
                "{what}: {line}"
            );
        }
        let seen = [gateway.upstream.record(), gateway.upstream_2.record()].concat();
        let seen = seen.iter().find(|one| one.header("x-request-id").as_deref() == Some(said.request_id.as_str()));
        let seen = seen.unwrap_or_else(|| panic!("{what}: not sent"));
        assert_eq!(seen.header("x-tenant-id").as_deref(), Some(tenant), "{what}");
        assert_eq!(seen.header("x-forwarded-client-cert"), None, "{what}");
    }
    // What no CA of the union vouches for does not get that far.
    let stranger = stage.client("stranger", &Ca::new("acme").client(&[TRAIN]));
    assert_eq!(stage.ask(&gateway, Some(&stranger), &[]).await.status, 0, "the handshake fails");
}

/// In `inline` the key's grant is held by then.
#[tokio::test]
async fn a_key_that_was_good_is_none_beside_another_tenants_certificate() {
    let stage = Stage::new();
    let gateway = stage.builder().start().await;
    let globex = stage.client("globex", &stage.globex.client(&[OTHER]));
    let acme = stage.client("acme", &stage.acme.client(&[TRAIN]));
    let bearer = gateway.bearer("acme");
    let key = [("authorization", bearer.as_str())];
    for round in 0..3 {
        assert_eq!(stage.ask(&gateway, None, &key).await.brief(), (200, ""), "{round}");
        assert_eq!(stage.ask(&gateway, Some(&globex), &key).await.brief(), (403, "tenant_conflict"), "{round}");
        assert_eq!(stage.ask(&gateway, Some(&acme), &key).await.brief(), (200, ""), "{round}");
        assert_eq!(stage.ask(&gateway, Some(&acme), &[]).await.brief(), (200, ""), "{round}");
        assert_eq!(stage.ask(&gateway, None, &[]).await.brief(), (401, "missing_credential"), "{round}");
    }
}

#[tokio::test]
async fn a_tenants_ca_issues_and_revokes_and_a_list_revokes_too() {
    let stage = Stage::new();
    let gateway = stage.builder().start().await;
    let service = gateway.service();
    let ca = service.command(&["cert", "ca", "create", "--tenant", "acme"]).await;
    let again = service.cli(&["cert", "ca", "create", "--tenant", "acme"], "").await;
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("has a CA already"), "{}", again.err);
    stage.union(&[&ca]);
    let out = stage.path().join("train");
    let directory = out.display().to_string();
    let issue = ["cert", "issue", "--tenant", "acme", "--path", "/workload/train", "--ttl", "10m", "--out", &directory];
    let told = service.command(&issue).await;
    let id = told.lines().find_map(|line| line.strip_prefix("id       ")).expect("its id");
    let serial = told.lines().find_map(|line| line.strip_prefix("serial   ")).expect("its serial").to_owned();
    assert_eq!(id, TRAIN);
    let files = || Some((out.join("tls.crt"), out.join("tls.key")));
    // Envoy takes it by then; the tenant's bundle does not hold the CA yet.
    eventually("the new union in Envoy", async || {
        (ask(&gateway, files(), &[]).await.brief() == (401, "invalid_credential")).then_some(())
    })
    .await;
    let bundle = service.policies().join("certificates/acme.pem");
    replace(&bundle, &format!("{}{ca}", stage.acme.pem()));
    eventually("the new bundle in force", async || (ask(&gateway, files(), &[]).await.status == 200).then_some(()))
        .await;

    service.command(&["cert", "revoke", "--tenant", "acme", &serial]).await;
    assert_eq!(ask(&gateway, files(), &[]).await.brief(), (401, "invalid_credential"), "revoked, at once");
    let listed = service.command(&["cert", "list", "--tenant", "acme"]).await;
    assert!(listed.contains(&serial) && listed.contains("revoked") && listed.contains(TRAIN), "{listed}");
    service.command(&issue).await;
    assert_eq!(ask(&gateway, files(), &[]).await.brief(), (200, ""), "another one");
    let long =
        service.cli(&["cert", "issue", "--tenant", "acme", "--path", "/a", "--ttl", "25h", "--out", "x"], "").await;
    assert_eq!((long.code, long.err.contains("from 1m to 24h")), (Some(1), true), "{}", long.err);

    // The tenant's own CA revokes by its list.
    let one = stage.client("one", &stage.acme.client_numbered(&[TRAIN], &[0x51]));
    let other = stage.client("other", &stage.acme.client_numbered(&[TRAIN], &[0x52]));
    assert_eq!(stage.ask(&gateway, Some(&one), &[]).await.brief(), (200, ""));
    replace(&service.policies().join("certificates/acme.crl"), &stage.acme.revocations(&[&[0x51]]));
    replace(&bundle, &stage.acme.pem());
    let resources = service.policies().join("resources.yaml");
    let text = std::fs::read_to_string(&resources).expect("the resources");
    let with = text.replace(
        "\"bundleFile\": \"certificates/acme.pem\"",
        "\"bundleFile\": \"certificates/acme.pem\", \"revocationsFile\": \"certificates/acme.crl\"",
    );
    assert_ne!(text, with);
    replace(&resources, &with);
    eventually("the list in force", async || {
        (stage.ask(&gateway, Some(&one), &[]).await.brief() == (401, "invalid_credential")).then_some(())
    })
    .await;
    assert_eq!(stage.ask(&gateway, Some(&other), &[]).await.brief(), (200, ""));
    let lines = service.whole_audit().await;
    let reasons: Vec<&str> = lines.iter().filter_map(|line| line["detail"].as_str()).collect();
    for reason in
        ["certificate: revoked here", "certificate: revoked", "certificate: no CA of the tenant vouches for it"]
    {
        assert!(reasons.contains(&reason), "{reason}: {reasons:?}");
    }
}

/// What operators revoked outlives the service; the CA's key opens again.
#[tokio::test]
async fn certificates_survive_a_restart() {
    let stage = Stage::new();
    let mut gateway = stage.builder().start().await;
    let one = stage.client("one", &stage.acme.client_numbered(&[TRAIN], &[0x51]));
    gateway.service().command(&["cert", "ca", "create", "--tenant", "acme"]).await;
    gateway.service().command(&["cert", "revoke", "--tenant", "acme", "51"]).await;
    gateway.service().process().signal(Signal::Kill);
    gateway.service().process().ended().await;
    gateway.service_mut().restart().await;
    eventually("the gateway again", async || {
        (stage.ask(&gateway, Some(&one), &[]).await.brief() == (401, "invalid_credential")).then_some(())
    })
    .await;
    let out = stage.path().join("train").display().to_string();
    gateway.service().command(&["cert", "issue", "--tenant", "acme", "--path", "/a", "--out", &out]).await;
}
