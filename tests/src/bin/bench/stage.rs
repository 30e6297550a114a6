//! What runs while the bench measures: bare Envoy, Envoy with its own filters, and three gateways with a service each.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use bulkhead_tests::configuration::{Profile, patient, replaced, repository};
use bulkhead_tests::eventually;
use bulkhead_tests::gateway::{Gateway, start_envoy};
use bulkhead_tests::policies::{Policies, issuer, resource};
use bulkhead_tests::process::Process;
use serde_json::json;

/// The tenant of every subject with one.
pub(crate) const TENANT: &str = "acme";

/// Everything that is measured. Dropping it ends it.
pub(crate) struct Stage {
    pub(crate) portable: Gateway,
    pub(crate) inline: Gateway,
    /// As `inline`, on a plan whose grants are used once.
    pub(crate) inline_asked: Gateway,
    pub(crate) bare: Proxy,
    pub(crate) own: Proxy,
    /// The empty service behind `own`.
    pub(crate) allow_all: Process,
    /// The further tenants, at `inline`.
    pub(crate) tenants: Vec<String>,
}

/// An Envoy without Bulkhead.
pub(crate) struct Proxy {
    pub(crate) envoy: Process,
    pub(crate) address: SocketAddr,
}

impl Stage {
    /// Starts all of it, with so many further tenants.
    pub(crate) async fn set(tenants: usize) -> anyhow::Result<Self> {
        let portable = gateway(Profile::Portable, |_| {}).await;
        let inline = gateway(Profile::Inline, move |set| further_tenants(set, tenants)).await;
        let held_never = |set: &mut Policies| set.spec("Plan", "premium")["grantTtl"] = json!("0s");
        let inline_asked = gateway(Profile::Inline, held_never).await;
        let directory = portable.directory();
        let upstream = portable.upstream.addr();
        let bare = proxy("bare", &directory, upstream, |text| text).await?;

        let socket = directory.join("allow-all.sock");
        let arguments = ["--allow-all".to_owned(), socket.display().to_string()];
        let program = std::env::current_exe().context("the path of this binary")?;
        let allow_all = Process::start("allow-all", &program, &arguments, &directory.join("allow-all.log")).await;
        eventually("the empty service's socket", async || socket.exists().then_some(())).await;
        let jwks = issuer(TENANT).jwks().to_string();
        let own = proxy("own", &directory, upstream, move |text| {
            let text = replaced(&text, "path: /run/allow-all.sock", &format!("path: {}", socket.display()));
            let text = replaced(&text, "https://id.example", &issuer(TENANT).url);
            replaced(&text, "inline_string: '{\"keys\":[]}'", &format!("inline_string: '{jwks}'"))
        })
        .await?;

        let tenants = (0..tenants).map(tenant_name).collect();
        Ok(Self { portable, inline, inline_asked, bare, own, allow_all, tenants })
    }
}

async fn gateway(profile: Profile, change: impl FnOnce(&mut Policies)) -> Gateway {
    let mut builder = Gateway::builder().profile(profile).quiet_upstream().policies(|set| {
        roomy(set);
        change(set);
    });
    if cfg!(debug_assertions) {
        builder = builder.envoy(|text| patient(&text, "5s"));
    }
    builder.start().await
}

/// No limit binds: what is measured is what admitting costs.
fn roomy(set: &mut Policies) {
    for (limit, amount) in [
        ("gpu-hour", "360000000s"),
        ("tokens-per-minute", "1000000M"),
        ("spend-per-day", "1000000000M"),
        ("in-flight", "1M"),
    ] {
        set.limit("premium", limit)["amount"] = json!(amount);
    }
}

fn further_tenants(set: &mut Policies, tenants: usize) {
    for number in 0..tenants {
        let (name, mut spec) = (tenant_name(number), set.spec("Tenant", TENANT).clone());
        spec["namespaces"] = json!([name]);
        // with the keys of the one that it is made after: a thousand RSA keys would take minutes
        spec["issuers"][0]["issuer"] = json!(issuer_url(&name));
        set.add(resource("Tenant", &name, &spec));
    }
}

/// The issuer that a further tenant trusts.
pub(crate) fn issuer_url(tenant: &str) -> String {
    format!("https://id.{tenant}.example")
}

fn tenant_name(number: usize) -> String {
    format!("bench-{number:04}")
}

/// Starts an Envoy on `tests/bench/NAME.yaml`.
async fn proxy(
    name: &str,
    directory: &Path,
    upstream: SocketAddr,
    edit: impl FnOnce(String) -> String,
) -> anyhow::Result<Proxy> {
    let text = std::fs::read_to_string(repository().join(format!("tests/bench/{name}.yaml")))?;
    let port = |text: String, old: u16, new: u16| {
        replaced(&text, &format!("port_value: {old}}}"), &format!("port_value: {new}}}"))
    };
    let text = port(port(port(edit(text), 8001, upstream.port()), 9901, 0), 10000, 0);
    let directory = directory.join(name);
    std::fs::create_dir_all(&directory)?;
    let file = directory.join("envoy.yaml");
    std::fs::write(&file, text)?;
    let (envoy, _, address) = start_envoy(&directory, &file, 1).await;
    Ok(Proxy { envoy, address })
}
