//! Leases in profile `inline`, answered late, never, twice, wrongly, or by nobody: who waits is refused within a second or
//! two and never let go by what comes afterwards; what comes in time and cannot be right admits nobody.

use std::time::{Duration, Instant};

use bulkhead_tests::configuration::replaced;
use bulkhead_tests::fake_service::{GateWord, lend};
use bulkhead_tests::gateway::Gateway;
use gateway_core::gate::{
    Cost, Counts, Header, LeaseRequest, LeaseResponse, Lent, LimitRefusal, LimitState, Outcome, Refill, SyncResponse,
};
use prost::Message as _;
use tonic::Code;

use crate::inline_stage::{chat, good, grant, held, late, lends, refused, settled, sound, staged, upstream, word};

/// The most that a client waits for a lease: one second, a tick, and what a busy machine adds.
const PATIENCE: Duration = Duration::from_millis(2_600);

/// Refused as unavailable in time, over both protocols, with a held grant; nothing reached the upstream.
async fn unavailable(gateway: &Gateway, what: &str) {
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

/// What is lent, changed.
fn with(asked: &LeaseRequest, change: impl Fn(&mut Lent)) -> LeaseResponse {
    let mut asked = asked.clone();
    asked.asks.iter_mut().for_each(|ask| ask.extra = None);
    let mut said = lend(&asked);
    said.lents.iter_mut().for_each(change);
    said
}

fn amount(lent: &mut Lent) -> &mut Cost {
    lent.amount.get_or_insert_default()
}

fn refusal(code: &str, headers: &[(&str, &str)]) -> Option<LimitRefusal> {
    let headers = headers.iter().map(|(name, value)| Header { name: (*name).into(), value: (*value).into() }).collect();
    Some(LimitRefusal { code: code.into(), detail: "why".into(), headers, param: "limit".into() })
}

type Said = fn(&LeaseRequest) -> LeaseResponse;

/// Lents with one thing wrong: nobody is admitted by them.
const WRONG: [(&str, Said); 19] = [
    ("fewer tokens than it serves", |asked| with(asked, |lent| amount(lent).tokens -= 1)),
    ("less gpu time than it serves", |asked| with(asked, |lent| amount(lent).gpu_ms -= 1)),
    ("less money than it serves", |asked| with(asked, |lent| amount(lent).micro_usd -= 1)),
    ("no requests", |asked| with(asked, |lent| amount(lent).requests = 0)),
    ("no amount", |asked| with(asked, |lent| lent.amount = None)),
    ("nothing at all", |asked| with(asked, |lent| *lent = Lent { id: lent.id.clone(), ..Lent::default() })),
    ("no time", |asked| with(asked, |lent| lent.expires_in_ms = 0)),
    ("serves more than was asked", |asked| with(asked, |lent| lent.served += 1)),
    ("serves as many as there are numbers", |asked| with(asked, |lent| lent.served = u32::MAX)),
    ("lends and serves nobody", |asked| with(asked, |lent| lent.served = 0)),
    ("lends, serves nobody, refuses", |asked| {
        with(asked, |lent| (lent.served, lent.refused) = (0, refusal("insufficient_quota", &[])))
    }),
    ("no id", |asked| with(asked, |lent| lent.id = Vec::new().into())),
    ("half an id", |asked| with(asked, |lent| lent.id = lent.id.slice(..8))),
    ("more than an id", |asked| with(asked, |lent| lent.id = [lent.id.as_ref(), &[0]].concat().into())),
    ("a foreign id", |asked| with(asked, |lent| lent.id = vec![9; 16].into())),
    ("an empty answer", |_| LeaseResponse::default()),
    ("a code that nobody knows", |asked| {
        with(asked, |lent| {
            *lent = Lent { id: lent.id.clone(), refused: refusal("of_tomorrow", &[]), ..Lent::default() }
        })
    }),
    ("no code", |asked| {
        with(asked, |lent| *lent = Lent { id: lent.id.clone(), refused: refusal("", &[]), ..Lent::default() })
    }),
    ("wrong first, right afterwards", |asked| {
        let mut said = with(asked, |lent| amount(lent).tokens = 0);
        said.lents.extend(with(asked, |_| {}).lents);
        said
    }),
];

/// Lents that are odd and still lend what they serve: exactly who was asked for is admitted.
const ODD: [(&str, Said); 8] = [
    ("as much as there is", |asked| {
        with(asked, |lent| {
            lent.amount = Some(Cost { tokens: u64::MAX, gpu_ms: u64::MAX, micro_usd: u64::MAX, requests: u64::MAX });
            (lent.expires_in_ms, lent.rate_tokens) = (u32::MAX, u64::MAX);
        })
    }),
    ("a millisecond", |asked| with(asked, |lent| lent.expires_in_ms = 1)),
    ("a rate that one request uses up", |asked| with(asked, |lent| lent.rate_tokens = 1)),
    ("served and refused", |asked| with(asked, |lent| lent.refused = refusal("insufficient_quota", &[]))),
    ("many of others", |asked| {
        let mut said = with(asked, |_| {});
        for number in 0..5_000_u32 {
            let id = [[5; 12].as_slice(), &number.to_be_bytes()].concat();
            said.lents.insert(
                0,
                Lent {
                    id: id.into(),
                    served: u32::MAX,
                    amount: Some(Cost { requests: u64::MAX, ..Cost::default() }),
                    expires_in_ms: 5_000,
                    ..Lent::default()
                },
            );
        }
        said
    }),
    ("its own ten times", |asked| {
        let mut said = with(asked, |_| {});
        said.lents = said.lents.iter().cloned().cycle().take(10 * said.lents.len()).collect();
        said
    }),
    ("limits that are none", |asked| {
        with(asked, |lent| {
            let limit = |name: &str| LimitState {
                name: name.into(),
                counts: 99,
                refill: -7,
                window_seconds: u64::MAX,
                amount: 0,
                left: u64::MAX,
                reset_after_ms: u64::MAX,
            };
            lent.limits = vec![limit(""), limit(&"n".repeat(2_000)), limit("\u{1F980}")];
        })
    }),
    ("limits without end", |asked| {
        with(asked, |lent| {
            let limit = LimitState {
                name: "tokens".into(),
                counts: Counts::Tokens.into(),
                refill: Refill::Rate.into(),
                amount: u64::MAX,
                left: 1,
                ..LimitState::default()
            };
            lent.limits = vec![limit; 300];
        })
    }),
];

#[tokio::test]
async fn what_cannot_be_right_admits_nobody() {
    let gateway = staged(|builder| builder).await;
    held(&gateway).await;
    for (what, said) in WRONG {
        gateway.fake().lease(GateWord::By(said));
        unavailable(&gateway, what).await;
    }
    sound(&gateway).await;
}

#[tokio::test]
async fn what_is_odd_admits_who_was_asked_for() {
    let gateway = staged(|builder| builder).await;
    held(&gateway).await;
    for (number, (what, said)) in ODD.into_iter().enumerate() {
        // a scope set of its own: nothing of the one before is left
        let mine = grant(&gateway, |grant| (grant.hold_ms, grant.scope_set) = (0, format!("odd-{number}")));
        gateway.fake().say(word(&mine));
        gateway.fake().lease(GateWord::By(said));
        for version in [1, 2] {
            let before = upstream(&gateway).len();
            let answer = chat(&gateway, version, "odd [tokens=1]").await;
            let served = answer.as_ref().is_some_and(|answer| answer.status == 200);
            assert!(gateway.is_whole().await, "{what}, HTTP/{version}");
            assert!(served, "{what}, HTTP/{version}: {answer:?}");
            assert_eq!(upstream(&gateway).len(), before + 1, "{what}, HTTP/{version}");
        }
    }
    assert!(gateway.is_whole().await, "{}", gateway.envoy.tail());
}

/// The words of a refusal are the service's; whatever they are, the client gets a refusal, once, and the connection holds.
#[tokio::test]
async fn refusals_with_odd_words() {
    let gateway = staged(|builder| builder).await;
    held(&gateway).await;
    let before = upstream(&gateway).len();
    const REFUSALS: [Said; 4] = [
        |asked| {
            with(asked, |lent| {
                *lent = Lent {
                    id: lent.id.clone(),
                    refused: refusal("insufficient_quota", &[("retry-after", "7"), ("ratelimit", "\"x\";r=0")]),
                    ..Lent::default()
                }
            })
        },
        |asked| {
            with(asked, |lent| {
                *lent = Lent {
                    id: lent.id.clone(),
                    refused: refusal(
                        "insufficient_quota",
                        &[
                            (":status", "200"),
                            ("content-length", "3"),
                            ("transfer-encoding", "chunked"),
                            ("connection", "close"),
                        ],
                    ),
                    ..Lent::default()
                }
            })
        },
        |asked| {
            with(asked, |lent| {
                *lent = Lent {
                    id: lent.id.clone(),
                    refused: refusal(
                        "insufficient_quota",
                        &[("x-odd", "a\r\nx-split: b\r\n\r\nbody"), ("x odd", "v"), ("", "v"), ("x-nul", "\0")],
                    ),
                    ..Lent::default()
                }
            })
        },
        |asked| {
            with(asked, |lent| {
                let headers: Vec<Header> = (0..400)
                    .map(|number| Header { name: format!("x-many-{number}"), value: "v".repeat(300) })
                    .collect();
                *lent = Lent {
                    id: lent.id.clone(),
                    refused: refusal("insufficient_quota", &[]).map(|one| LimitRefusal { headers, ..one }),
                    ..Lent::default()
                };
            })
        },
    ];
    for (number, said) in REFUSALS.into_iter().enumerate() {
        gateway.fake().lease(GateWord::By(said));
        for version in [1, 2] {
            let answer = chat(&gateway, version, "refused").await;
            assert!(gateway.is_whole().await, "{number}, HTTP/{version}");
            if let Some(answer) = answer {
                let code = answer.code();
                assert_eq!(
                    (answer.status, code.as_str()),
                    (429, "insufficient_quota"),
                    "{number}, HTTP/{version}: {answer:?}"
                );
                assert_eq!(answer.header("x-split"), None, "{number}, HTTP/{version}");
            } else {
                panic!("{number}, HTTP/{version}: no answer");
            }
        }
    }
    assert_eq!(upstream(&gateway).len(), before);
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
