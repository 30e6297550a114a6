//! What is measured: not every size with every number of tenants, but each question once.

use std::net::SocketAddr;
use std::path::PathBuf;

use bulkhead_tests::gateway::{Gateway, chat_body};
use bulkhead_tests::mint::Alg;
use bulkhead_tests::policies::issuer;
use bulkhead_tests::process::Process;
use serde_json::json;

use crate::stage::{Proxy, Stage, TENANT, issuer_url};

/// One row of the table.
pub(crate) struct Subject<'a> {
    pub(crate) name: String,
    /// Rows of one kind are compared with the bare Envoy of that kind.
    pub(crate) kind: &'static str,
    pub(crate) smoke: bool,
    pub(crate) address: SocketAddr,
    pub(crate) who: Who<'a>,
    /// File with the body of every request.
    pub(crate) body: PathBuf,
    pub(crate) envoy: &'a Process,
    /// The service that the proxy asks, if there is one.
    pub(crate) service: Option<&'a Process>,
    /// Where that service counts its calls.
    pub(crate) gateway: Option<&'a Gateway>,
}

/// Credentials, one a request in turn.
#[derive(Clone, Copy)]
pub(crate) enum Who<'a> {
    /// An API key of one tenant.
    Key(&'a Gateway),
    /// An ES256 token of one tenant, made anew for each measurement.
    Token(&'a Gateway),
    /// An ES256 token of each of these tenants, made anew for each measurement.
    Tokens(&'a [String]),
}

impl Who<'_> {
    /// Values of `authorization`.
    pub(crate) fn authorizations(&self) -> Vec<String> {
        match self {
            Self::Key(gateway) => vec![gateway.bearer(TENANT)],
            Self::Token(gateway) => vec![gateway.jwt(TENANT)],
            Self::Tokens(tenants) => {
                let (signs, mut claims) = (issuer(TENANT), issuer(TENANT).claims());
                let token = |tenant: &String| {
                    (claims["iss"], claims["tenant"]) = (json!(issuer_url(tenant)), json!(tenant));
                    format!("Bearer {}", signs.token_with(Alg::Es256, &claims))
                };
                tenants.iter().map(token).collect()
            }
        }
    }
}

impl Subject<'_> {
    /// Whether others are compared with it.
    pub(crate) fn is_bare(&self) -> bool {
        self.name.starts_with("bare")
    }
}

/// A body that is sent again and again.
#[derive(Clone)]
struct Kind {
    name: &'static str,
    body: PathBuf,
    smoke: bool,
}

/// All of them, in the order in which a round runs them.
pub(crate) fn subjects(stage: &Stage) -> anyhow::Result<Vec<Subject<'_>>> {
    let directory = stage.portable.directory();
    let kind = |name: &'static str, words: &str, bytes: usize, stream: bool, smoke: bool| -> std::io::Result<Kind> {
        let mut body = chat_body(&format!("[prompt=256] {words} {}", "word ".repeat(bytes / 5)));
        if stream {
            body["stream"] = json!(true);
        }
        let file = directory.join(format!("{}.json", name.replace([' ', ','], "-")));
        std::fs::write(&file, body.to_string())?;
        Ok(Kind { name, body: file, smoke })
    };
    let small = kind("1 KiB", "[tokens=16]", 1 << 10, false, true)?;
    let (middle, large) =
        (kind("64 KiB", "[tokens=16]", 1 << 16, false, false)?, kind("1 MiB", "[tokens=16]", 1 << 20, false, false)?);
    let stream = kind("stream of 64", "[tokens=64]", 1 << 10, true, false)?;
    let slow = kind("1 KiB, slow model", "[tokens=16] [drip=75ms]", 1 << 10, false, false)?;

    let (portable, inline, asked) = (&stage.portable, &stage.inline, &stage.inline_asked);
    let (key, token) = (Who::Key(inline), Who::Token(inline));
    let mut subjects = vec![
        bare(&stage.bare, &small, inline),
        Subject { service: Some(&stage.allow_all), ..proxied("Envoy's own, ES256", &stage.own, &small, token) },
        chain("portable, API key", portable, &small, Who::Key(portable)),
        Subject { smoke: false, ..chain("portable, ES256", portable, &small, Who::Token(portable)) },
        chain("inline, API key", inline, &small, key),
        Subject { smoke: false, ..chain("inline, ES256", inline, &small, token) },
        chain("inline, grantTtl 0, API key", asked, &small, Who::Key(asked)),
    ];
    for tenants in [10, 100, 1_000] {
        if let Some(names) = stage.tenants.get(..tenants) {
            let name = format!("inline, {tenants} tenants, ES256");
            subjects.push(Subject { name, ..chain("", inline, &small, Who::Tokens(names)) });
        }
    }
    for kind in [&middle, &large] {
        subjects.push(bare(&stage.bare, kind, inline));
        subjects.push(chain("portable, API key", portable, kind, Who::Key(portable)));
        subjects.push(chain("inline, API key", inline, kind, key));
    }
    subjects.push(bare(&stage.bare, &stream, inline));
    subjects.push(chain("portable, API key", portable, &stream, Who::Key(portable)));
    subjects.push(chain("inline, API key", inline, &stream, key));
    subjects.push(bare(&stage.bare, &slow, inline));
    subjects.push(chain("inline, API key", inline, &slow, key));
    Ok(subjects)
}

/// The upstream wants a credential; it believes every one.
fn bare<'a>(proxy: &'a Proxy, kind: &Kind, known: &'a Gateway) -> Subject<'a> {
    proxied("bare Envoy", proxy, kind, Who::Key(known))
}

fn proxied<'a>(name: &str, proxy: &'a Proxy, kind: &Kind, who: Who<'a>) -> Subject<'a> {
    Subject {
        name: name.to_owned(),
        kind: kind.name,
        smoke: kind.smoke,
        address: proxy.address,
        who,
        body: kind.body.clone(),
        envoy: &proxy.envoy,
        service: None,
        gateway: None,
    }
}

fn chain<'a>(name: &str, gateway: &'a Gateway, kind: &Kind, who: Who<'a>) -> Subject<'a> {
    Subject {
        name: name.to_owned(),
        kind: kind.name,
        smoke: kind.smoke,
        address: gateway.addr,
        who,
        body: kind.body.clone(),
        envoy: &gateway.envoy,
        service: Some(gateway.service().process()),
        gateway: Some(gateway),
    }
}
