//! Leases in profile `inline`, answered late, never, twice, wrongly, or by nobody: who waits is refused within a second or
//! two and never let go by what comes afterwards; what comes in time and cannot be right admits nobody.

use std::time::{Duration, Instant};

use bulkhead_tests::configuration::replaced;
use bulkhead_tests::fake_service::GateWord;
use bulkhead_tests::gateway::Gateway;
use gateway_core::gate::{Cost, LeaseResponse, Lent, Outcome, SyncResponse};
use prost::Message as _;
use tonic::Code;

use crate::inline_stage::{chat, good, grant, held, late, lends, refused, settled, sound, staged, upstream, word};

/// The most that a client waits for a lease: one second, a tick, and what a busy machine adds.
const PATIENCE: Duration = Duration::from_millis(2_600);

/// Refused as unavailable in time, over both protocols, with a held grant; nothing reached the upstream.
pub(crate) async fn unavailable(gateway: &Gateway, what: &str) {
    let before = upstream(gateway).len();
    for version in [1, 2] {
        let began = Instant::now();
        let answer = chat(gateway, version, "nobody answers [tokens=1]").await;
        refused(answer.as_ref(), 503, "service_unavailable", &format!("{what}, HTTP/{version}"));
        assert!(began.elapsed() < PATIENCE, "{what}, HTTP/{version}: after {:?}", began.elapsed());
    }
    assert_eq!(upstream(gateway).len(), before, "{what}");
    assert!(gateway.is_whole().await, "{what}: {}", gateway.envoy.tail());
}

#[tokio::test]
async fn never_late_and_twice() {
    let gateway = staged(|builder| builder).await;
    held(&gateway).await;
    for (word, what) in [(GateWord::Hang, "never"), (late(5_000), "behind the deadline")] {
        gateway.fake().lease(word);
        unavailable(&gateway, what).await;
        gateway.fake().lease(lends());
        good(&gateway).await;
    }
    // behind the refusal: what was lent then may serve the next one, and nobody twice
    for version in [1, 2] {
        gateway.fake().lease(late(1_600));
        let before = upstream(&gateway).len();
        refused(chat(&gateway, version, "too late").await.as_ref(), 503, "service_unavailable", "behind the refusal");
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert_eq!(upstream(&gateway).len(), before, "HTTP/{version}");
        gateway.fake().lease(lends());
        good(&gateway).await;
    }
    sound(&gateway).await;
    let before = upstream(&gateway).len();
    gateway.fake().lease(GateWord::Twice(Box::new(lends())));
    let answers = [chat(&gateway, 1, "twice").await, chat(&gateway, 2, "twice").await];
    let served = answers.iter().flatten().filter(|answer| answer.status == 200).count();
    assert_eq!(upstream(&gateway).len() - before, served, "once or not at all");
    assert!(answers.iter().flatten().all(|answer| [200, 503].contains(&answer.status)), "{answers:?}");
    sound(&gateway).await;
}

#[tokio::test]
async fn calls_that_fail_and_words_that_are_none() {
    let gateway = staged(|builder| builder).await;
    held(&gateway).await;
    for code in 1..=16 {
        gateway.fake().lease(GateWord::Fails(Code::from(code)));
        unavailable(&gateway, &format!("{:?}", Code::from(code))).await;
    }
    let lent = Lent {
        served: 1,
        amount: Some(Cost { tokens: 1 << 40, gpu_ms: 1 << 40, micro_usd: 1 << 40, requests: 9 }),
        ..Lent::default()
    };
    let unreported = LeaseResponse { report: None, lents: vec![lent.clone()] };
    let nameless = LeaseResponse { report: Some(SyncResponse::default()), lents: vec![lent] };
    for messages in [
        vec![],
        vec![vec![]],
        vec![b"\xff\xff\xff".to_vec()],
        vec![vec![0x0a]],
        vec![unreported.encode_to_vec()],
        vec![nameless.encode_to_vec()],
        vec![vec![0; 3_000_000]],
    ] {
        let what = format!("{:?}", messages.iter().map(Vec::len).collect::<Vec<_>>());
        gateway.fake().lease(GateWord::Messages(messages));
        unavailable(&gateway, &what).await;
    }
    // nor does a Sync that is none of them take anything down
    for word in [
        GateWord::Hang,
        GateWord::Messages(vec![b"\xff".to_vec()]),
        GateWord::Twice(Box::new(GateWord::Lends)),
        GateWord::Fails(Code::Internal),
    ] {
        gateway.fake().sync(word);
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(gateway.is_whole().await);
    }
    sound(&gateway).await;
}

#[tokio::test]
async fn a_service_that_goes_away_and_comes_back() {
    let gateway = staged(|builder| builder).await;
    for _ in 0..2 {
        held(&gateway).await;
        gateway.fake().dies();
        unavailable(&gateway, "gone before it is asked").await;
        gateway.fake().comes_back();
        held(&gateway).await;
        // gone in the middle of the call
        gateway.fake().lease(GateWord::Hang);
        let before = upstream(&gateway).len();
        let waiting = [chat(&gateway, 1, "waits"), chat(&gateway, 2, "waits")];
        let gone = async {
            tokio::time::sleep(Duration::from_millis(250)).await;
            gateway.fake().dies();
        };
        let (answers, ()) = futures_util::future::join(futures_util::future::join_all(waiting), gone).await;
        for answer in answers {
            refused(answer.as_ref(), 503, "service_unavailable", "gone in the middle");
        }
        assert_eq!(upstream(&gateway).len(), before);
        gateway.fake().comes_back();
        gateway.fake().lease(lends());
        good(&gateway).await;
    }
    sound(&gateway).await;
}

/// The module's `service` names a cluster that is not there, or that speaks no gRPC. Several of these names took Envoy down
/// where a bare cluster name was given to it (`mesh.md` §0.1 fact 2).
#[tokio::test]
async fn a_gate_that_nobody_serves() {
    for cluster in
        ["nowhere", "xx", "authz-svc", "model", "envoy", "model-upstream", "model-upstream-2", &"n".repeat(125)]
    {
        let config = r#"'{"schemaVersion":1,"proxy":"edge-1","profile":"inline"}'"#;
        let named = config.replace("inline\"}", &format!("inline\",\"service\":\"{cluster}\"}}"));
        let gateway = staged(|builder| builder.envoy(move |text| replaced(&text, config, &named))).await;
        for _ in 0..2 {
            unavailable(&gateway, cluster).await;
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(gateway.is_whole().await && gateway.fake().leases().is_empty(), "{cluster}");
    }
}

/// A provider whose cluster Envoy does not have: admitted, not sent, and nothing is charged for it.
#[tokio::test]
async fn a_provider_without_a_cluster() {
    let gateway = staged(|builder| builder).await;
    for cluster in ["nowhere", "bulkhead-service", "\u{e9}", &"n".repeat(3_000)] {
        let mine = grant(&gateway, |grant| {
            grant.hold_ms = 0;
            grant.terms.as_mut().expect("terms").providers[0].cluster = cluster.into();
        });
        gateway.fake().say(word(&mine));
        for version in [1, 2] {
            let answer = chat(&gateway, version, "to nowhere").await.expect("an answer");
            assert!(answer.status >= 400, "{cluster}, HTTP/{version}: {answer:?}");
        }
        assert!(upstream(&gateway).is_empty(), "{cluster}");
        assert!(gateway.is_whole().await, "{cluster}");
    }
    sound(&gateway).await;
    let outcomes: Vec<Outcome> = settled(&gateway).values().map(|one| one.outcome()).collect();
    assert!(outcomes.iter().filter(|outcome| **outcome == Outcome::NotSent).count() >= 4, "{outcomes:?}");
}
