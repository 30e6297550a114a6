//! The proxies' listener on TLS: only a listed proxy with its own certificate is answered, and certificates rotate without a
//! dropped call. On this host, `--proxy` lists ids; reflection tells what is served.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bulkhead_tests::certificates::{Ca, Issued, replace};
use bulkhead_tests::client::{Shot, volley};
use bulkhead_tests::configuration::{Profile, patient, replaced};
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{Builder, CHAT, Gateway, chat_body};
use bulkhead_tests::process::free_port;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

const NAME: &str = "bulkhead.internal";
const EDGE_1: &str = "spiffe://example.org/ns/edge/sa/one";
const EDGE_2: &str = "spiffe://example.org/ns/edge/sa/two";

/// A CA, the service's certificate, and a place for both.
struct Pki {
    ca: Ca,
    directory: tempfile::TempDir,
    port: u16,
}

impl Pki {
    fn new() -> Self {
        let pki = Self { ca: Ca::new("mesh"), directory: tempfile::tempdir().unwrap(), port: free_port() };
        pki.ca.server(NAME).write(pki.at(), "service");
        replace(&pki.at().join("ca.crt"), &pki.ca.pem());
        pki
    }

    fn at(&self) -> &Path {
        self.directory.path()
    }

    /// A gateway whose Envoy reaches the service over TLS, with this certificate; it is proxy `edge-1`.
    fn gateway(&self, client: Option<&Issued>) -> Builder {
        let at = |name: &str| self.at().join(name).display().to_string();
        let mut own = String::new();
        if let Some(client) = client {
            client.write(self.at(), "envoy");
            own = format!(
                "tls_certificates: [{{certificate_chain: {{filename: {}}}, private_key: {{filename: {}}}}}], ",
                at("envoy.crt"),
                at("envoy.key")
            );
        }
        let (port, trusted) = (self.port, at("ca.crt"));
        let socket = format!(
            "    transport_socket:\n      name: tls\n      typed_config:\n        \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n        sni: {NAME}\n        common_tls_context: {{{own}validation_context: {{trusted_ca: {{filename: {trusted}}}, match_typed_subject_alt_names: [{{san_type: DNS, matcher: {{exact: {NAME}}}}}]}}}}\n"
        );
        Gateway::builder()
            .serve(&["--proxies-tls", &format!("127.0.0.1:{port}")])
            .serve(&[
                "--tls-cert",
                &at("service.crt"),
                "--tls-key",
                &at("service.key"),
                "--tls-client-ca",
                &at("ca.crt"),
            ])
            .serve(&["--proxy", &format!("edge-1={EDGE_1}"), "--proxy", &format!("edge-2={EDGE_2}")])
            .envoy(move |text| by_port(&patient(&text, "5s"), port, &socket))
    }
}

/// Puts a port in the place of the socket, and more into the service's cluster.
fn by_port(text: &str, port: u16, more: &str) -> String {
    let (before, rest) = text.split_once("pipe: {path: ").unwrap();
    let (_, after) = rest.split_once('}').unwrap();
    let text = format!("{before}socket_address: {{address: 127.0.0.1, port_value: {port}}}{after}");
    let cluster = "  - name: bulkhead-service\n    type: STATIC\n";
    replaced(&text, cluster, &format!("{cluster}{more}"))
}

async fn refused(gateway: &Gateway, what: &str) {
    let answer = gateway.chat_once("acme", &chat_body("[tokens=1]")).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "service_unavailable"), "{what}");
    let models = gateway.get("/v1/models", &[("authorization", &gateway.bearer("acme"))]).await;
    assert_eq!(models.status, 503, "{what}");
    assert!(gateway.upstream.record().is_empty() && gateway.upstream_2.record().is_empty(), "{what}");
    assert_eq!(gateway.service().number("SELECT count(*) FROM audit WHERE decision <> 'admin'"), 0, "{what}: decided");
}

#[tokio::test]
async fn a_listed_proxy_asks_and_settles_over_tls() {
    let pki = Pki::new();
    let gateway = pki.gateway(Some(&pki.ca.client(&[EDGE_1]))).start().await;
    let answer = gateway.chat("acme", &chat_body("[prompt=10] [tokens=5]")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let line = gateway.service().settled(answer.header("x-request-id").unwrap()).await;
    assert_eq!((&line["proxy"], &line["charged"]["tokens"]), (&"edge-1".into(), &15.into()));
    let models = gateway.get("/v1/models", &[("authorization", &gateway.bearer("acme"))]).await;
    assert_eq!(models.status, 200, "{}", models.text());
}

#[tokio::test]
async fn a_certificate_that_is_not_listed_for_the_proxy_is_answered_nothing() {
    let pki = Pki::new();
    let stranger = Ca::new("mesh").client(&[EDGE_1]);
    for (what, client, logged) in [
        ("not listed", Some(pki.ca.client(&["spiffe://example.org/ns/edge/sa/three"])), "no such proxy is listed"),
        ("another proxy's", Some(pki.ca.client(&[EDGE_2])), "no such proxy is listed"),
        ("two URIs", Some(pki.ca.client(&[EDGE_1, EDGE_2])), "exactly one URI"),
        ("no URI", Some(pki.ca.client(&[])), "exactly one URI"),
        ("another CA of the same name", Some(stranger), "a TLS handshake failed"),
        ("no certificate", None, "a TLS handshake failed"),
    ] {
        let gateway = pki.gateway(client.as_ref()).start().await;
        refused(&gateway, what).await;
        let log = gateway.service().process().log();
        assert!(log.contains(logged), "{what}: {log}");
    }
}

/// The service's certificate as a new connection sees it; `None`: it is not of this CA.
async fn handshake(pki: &Pki, roots: &Ca) -> Option<CertificateDer<'static>> {
    let mut store = rustls::RootCertStore::empty();
    store.add(CertificateDer::from_pem_slice(roots.pem().as_bytes()).unwrap()).unwrap();
    let own = pki.ca.client(&[EDGE_1]);
    let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(store).with_client_auth_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", pki.port)).await.unwrap();
    let stream = connector.connect(ServerName::try_from(NAME).unwrap(), tcp).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?.first()?.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_rotate_under_load_and_no_call_is_dropped() {
    let (pki, next) = (Pki::new(), Ca::new("next"));
    // Envoy trusts both CAs, and makes a new connection every twenty calls
    let both = format!("{}{}", pki.ca.pem(), next.pem());
    replace(&pki.at().join("ca.crt"), &both);
    let gateway = pki.gateway(Some(&pki.ca.client(&[EDGE_1]))).envoy(|text| {
        let options = "        explicit_http_config:\n          http2_protocol_options: {max_concurrent_streams: 8192";
        replaced(
            &text,
            options,
            &format!("        common_http_protocol_options: {{max_requests_per_connection: 20}}\n{options}"),
        )
    });
    let gateway = gateway.start().await;
    let body = chat_body("[tokens=1]").to_string();
    let shots = vec![Shot::post(CHAT, body).header("authorization", gateway.bearer("acme")); 20];
    let stop = AtomicBool::new(false);
    let load = async {
        let (mut sent, mut failed) = (0, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let answers = volley(gateway.addr, &shots, 4).await;
            sent += answers.len();
            failed.extend(answers.into_iter().filter(|one| one.as_ref().is_none_or(|one| one.status != 200)));
        }
        (sent, failed)
    };
    let log = || gateway.service().process().log();
    let rotate = async {
        let before = handshake(&pki, &pki.ca).await.unwrap();
        for turn in 1..=3 {
            pki.ca.server(NAME).write(pki.at(), "service");
            eventually("the new pair", async || (log().matches("certificates loaded").count() == turn).then_some(()))
                .await;
        }
        let after = handshake(&pki, &pki.ca).await.unwrap();
        assert_ne!(before, after);
        // a key that is not the certificate's
        let other = pki.ca.server(NAME);
        replace(&pki.at().join("service.key"), &other.key);
        eventually("the refusal", async || {
            log().contains("the certificates are refused, those before stay").then_some(())
        })
        .await;
        assert_eq!(handshake(&pki, &pki.ca).await.unwrap(), after);
        // the next CA's
        next.server(NAME).write(pki.at(), "service");
        eventually("the next CA", async || handshake(&pki, &next).await).await;
        stop.store(true, Ordering::Relaxed);
    };
    let ((sent, failed), ()) = tokio::join!(load, rotate);
    assert!(sent >= 50 && failed.is_empty(), "{} of {sent}: {failed:?}", failed.len());
    let made = gateway.envoy_stat("cluster.bulkhead-service.upstream_cx_total").await;
    // with leases there are too few calls for many connections
    assert!(made > 10 || gateway.profile == Profile::Inline, "{made} connections");
    gateway.balanced("acme").await;
}

#[tokio::test]
async fn on_this_host_a_list_is_the_list() {
    let gateway = Gateway::builder().serve(&["--proxy", "edge-9"]).start().await;
    refused(&gateway, "not listed").await;

    let port = free_port();
    let loopback = Gateway::builder()
        .serve(&["--proxies", &format!("127.0.0.1:{port}"), "--proxy", "edge-1"])
        .envoy(move |text| by_port(&patient(&text, "5s"), port, ""));
    let gateway = loopback.start().await;
    assert_eq!(gateway.chat("acme", &chat_body("[tokens=1]")).await.status, 200);
}

#[tokio::test]
async fn plaintext_off_loopback_is_refused_at_the_start() {
    let gateway = Gateway::builder().without_keys().start().await;
    let serve = ["serve", "--policies", "p", "--state", "s", "--kek-file", "k", "--proxies"];
    let said = gateway.service().cli(&[&serve[..], &["0.0.0.0:9000"]].concat(), "").await;
    assert_eq!(said.code, Some(2));
    for word in ["plaintext is refused", "--proxies-tls", "--tls-cert", "--tls-key", "--tls-client-ca", "--proxy"] {
        assert!(said.err.contains(word), "{word}: {}", said.err);
    }
}

#[tokio::test]
async fn reflection_tells_what_is_served() {
    let gateway = Gateway::builder().without_keys().start().await;
    let path = gateway.service().proxies();
    let connect = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel =
        tonic::transport::Endpoint::from_static("http://proxies").connect_with_connector(connect).await.unwrap();
    let mut client = ServerReflectionClient::new(channel);
    let mut ask = async |message: MessageRequest| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        answers.message().await.unwrap().unwrap().message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await else {
        panic!("no list")
    };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    for service in ["bulkhead.v1.Gate", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"] {
        assert!(names.iter().any(|name| name == service), "{service}: {names:?}");
    }
    let asked = MessageRequest::FileContainingSymbol("bulkhead.v1.Gate".into());
    let MessageResponse::FileDescriptorResponse(files) = ask(asked).await else { panic!("no file") };
    let file = String::from_utf8_lossy(&files.file_descriptor_proto[0]).into_owned();
    assert!(file.contains("bulkhead/v1/gate.proto") && file.contains("LeaseRequest"), "{file}");
}
