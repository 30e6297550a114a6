//! Peers of a mesh in front of Envoy, which speak for their clients: whose word is taken, and that their CAs rotate.

use bulkhead_tests::certificates::{Ca, Issued, replace};
use bulkhead_tests::configuration::replaced;
use bulkhead_tests::eventually;

use super::{OTHER, Stage, TRAIN};

const PEER: &str = "spiffe://mesh.example/ingress";

/// Envoy hands on what a client with a certificate says of its own client.
fn forward(text: String) -> String {
    replaced(&text, "forward_client_cert_details: SANITIZE", "forward_client_cert_details: FORWARD_ONLY")
}

/// A certificate in a header of Envoy's.
fn element(issued: &Issued) -> String {
    let spelled: String = issued.certificate.chars().fold(String::new(), |text, c| match c {
        '\n' => text + "%0A",
        ' ' => text + "%20",
        '+' => text + "%2B",
        '=' => text + "%3D",
        c => text + &c.to_string(),
    });
    format!("By=spiffe://mesh.example/edge;Hash=00;Cert=\"{spelled}\";Subject=\"CN=a,O=\\\"b\\\"\";URI={TRAIN}")
}

#[tokio::test]
async fn a_peer_of_the_mesh_speaks_for_its_clients_and_nobody_else_does() {
    let stage = Stage::new();
    let mesh = Ca::new("mesh");
    stage.union(&[&mesh.pem()]);
    replace(&stage.path().join("mesh.pem"), &mesh.pem());
    let file = stage.path().join("mesh.pem").display().to_string();
    let builder = stage.builder().serve(&["--mesh-ca", &file, "--mesh-peer", PEER]);
    let gateway = builder.envoy(forward).start().await;
    let ingress = stage.client("ingress", &mesh.client(&[PEER]));
    let sidecar = stage.client("sidecar", &mesh.client(&["spiffe://mesh.example/other"]));
    // A tenant's CA may sign any name.
    let posing = stage.client("posing", &stage.globex.client(&[PEER]));
    let globex = stage.client("globex", &stage.globex.client(&[OTHER]));
    let (acme_s, globex_s) = (element(&stage.acme.client(&[TRAIN])), element(&stage.globex.client(&[OTHER])));
    let crossed = element(&stage.acme.client(&[OTHER]));
    let stranger = element(&Ca::new("acme").client(&[TRAIN]));
    let both = format!("{acme_s},{acme_s}");
    let named = format!("By=a;Hash=00;URI={TRAIN}");
    let key = gateway.bearer("acme");
    let xfcc = "x-forwarded-client-cert";
    let invalid = (401, "invalid_credential");
    for (what, certificate, headers, want) in [
        ("for acme's", Some(&ingress), &[(xfcc, &*acme_s)][..], (200, "")),
        ("for globex's", Some(&ingress), &[(xfcc, &*globex_s)], (200, "")),
        ("for nobody", Some(&ingress), &[], (401, "missing_credential")),
        ("for a key", Some(&ingress), &[("authorization", &*key)], (200, "")),
        (
            "for a key and another's certificate",
            Some(&ingress),
            &[("authorization", &*key), (xfcc, &*globex_s)],
            (403, "tenant_conflict"),
        ),
        ("one that acme's CA signed for globex", Some(&ingress), &[(xfcc, &*crossed)], invalid),
        ("one that nobody vouches for", Some(&ingress), &[(xfcc, &*stranger)], invalid),
        ("two elements", Some(&ingress), &[(xfcc, &*both)], (400, "malformed_header")),
        ("two headers", Some(&ingress), &[(xfcc, &*acme_s), (xfcc, &*acme_s)], (400, "duplicate_header")),
        ("a name without its certificate", Some(&ingress), &[(xfcc, &*named)], (400, "malformed_header")),
        ("another peer of the mesh", Some(&sidecar), &[(xfcc, &*acme_s)], invalid),
        ("the peer's name by a tenant's CA", Some(&posing), &[(xfcc, &*acme_s)], invalid),
        ("a client", Some(&globex), &[(xfcc, &*acme_s)], (200, "")),
        ("without a certificate", None, &[(xfcc, &*acme_s)], (401, "missing_credential")),
    ] {
        let said = stage.ask(&gateway, certificate.map(String::as_str), headers).await;
        let (status, code) = said.brief();
        // Envoy joins what stands twice: one header of two elements.
        let joined = what == "two headers" && code == "malformed_header";
        assert!((status, code) == want || joined, "{what}: {said:?}");
        if status == 200 {
            let line = gateway.service().settled(&said.request_id).await;
            let tenant = if what.contains("globex") || what == "a client" { "globex" } else { "acme" };
            assert_eq!(line["tenant"], tenant, "{what}: {line}");
        }
    }
}

#[tokio::test]
async fn the_meshs_cas_are_taken_when_they_change_and_a_bad_file_keeps_the_last_good_ones() {
    let stage = Stage::new();
    let (old, new) = (Ca::new("mesh"), Ca::new("mesh 2"));
    stage.union(&[&old.pem(), &new.pem()]);
    let file = stage.path().join("mesh.pem");
    replace(&file, &old.pem());
    let builder = stage.builder().serve(&["--mesh-ca", &file.display().to_string(), "--mesh-peer", PEER]);
    let gateway = builder.envoy(forward).start().await;
    let (by_old, by_new) = (stage.client("old", &old.client(&[PEER])), stage.client("new", &new.client(&[PEER])));
    let client = element(&stage.acme.client(&[TRAIN]));
    let believed = async |peer: &str| {
        let said = stage.ask(&gateway, Some(peer), &[("x-forwarded-client-cert", &client)]).await;
        assert!(matches!(said.brief(), (200, "") | (401, "invalid_credential")), "{said:?}");
        said.status == 200
    };
    assert_eq!((believed(&by_old).await, believed(&by_new).await), (true, false));
    replace(&file, &(old.pem() + &new.pem()));
    eventually("both CAs", async || believed(&by_new).await.then_some(())).await;
    assert!(believed(&by_old).await);
    let refusals =
        || gateway.service().process().log().matches("the mesh's CAs are refused, those before stay").count();
    replace(&file, "no certificate");
    eventually("a word on the bad file", async || (refusals() > 0).then_some(())).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    gateway.service().command(&["reload"]).await;
    assert_eq!(refusals(), 1, "told once");
    assert_eq!((believed(&by_old).await, believed(&by_new).await), (true, true));
    replace(&file, &new.pem());
    eventually("the old CA's end", async || (!believed(&by_old).await).then_some(())).await;
    assert!(believed(&by_new).await);
}
