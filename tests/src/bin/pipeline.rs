//! The driver of `examples/pipeline/run.sh`: a real Envoy, the real service, a model, and three services of tenant acme that
//! pass a user's request on. Prints who acts for whom at each hop, and what the audit log keeps of it.

use std::process::ExitCode;

use bulkhead_tests::configuration::patient;
use bulkhead_tests::gateway::Gateway;
use bulkhead_tests::mint::Alg;
use bulkhead_tests::pipeline::{Pipeline, SERVICES};
use bulkhead_tests::policies::issuer;
use serde_json::Value;

fn main() -> ExitCode {
    if bulkhead_tests::runtime().block_on(run()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether everything was as the page says.
async fn run() -> bool {
    let gateway = Gateway::builder().envoy(|text| patient(&text, "5s")).start().await;
    let pipeline = Pipeline::start(&gateway, "acme").await;
    println!("services of acme, each with an API key of its own:");
    for (service, key) in SERVICES.iter().zip(&pipeline.keys) {
        println!("  {service:8} key:{key}");
    }
    let answer = pipeline.ask(&issuer("acme").token(Alg::Es256), "what is in our contract? [tokens=5]").await;
    println!("\na user of acme asks `front`; the last service asks the model: {}", answer.status);
    for hop in pipeline.hops() {
        println!("  {:8} got a token of {} < {}", hop.service, said(&hop.claims["sub"]), chain(&hop.claims));
    }
    let stranger = pipeline.ask(&issuer("globex").token(Alg::Es256), "what is in their contract?").await;
    println!("\na user of globex asks the same `front`: {} {}", stranger.status, stranger.text());
    println!("\nthe audit log (bulkhead audit tail):");
    print!("{}", gateway.service().command(&["audit", "tail"]).await);
    let hops = pipeline.hops();
    let whole = hops.last().is_some_and(|hop| chain(&hop.claims).split(" < ").count() == SERVICES.len());
    answer.status == 200 && hops.len() == SERVICES.len() && whole && stranger.status == 400
}

/// Who acts, the latest first.
fn chain(claims: &Value) -> String {
    let acting = std::iter::successors(claims.get("act"), |actor| actor.get("act"));
    acting.map(|actor| said(&actor["sub"])).collect::<Vec<_>>().join(" < ")
}

fn said(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
