//! What the service says of a lease in profile `inline`, one field wrong at a time: an answer that cannot be right admits
//! nobody, one that is odd admits who was asked for, and a refusal is a refusal whatever its words are.

use bulkhead_tests::fake_service::{GateWord, lend};
use gateway_core::gate::{Cost, Counts, Header, LeaseRequest, LeaseResponse, Lent, LimitRefusal, LimitState, Refill};

use crate::inline_leases::unavailable;
use crate::inline_stage::{chat, grant, held, sound, staged, upstream, word};

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
