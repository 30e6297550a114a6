//! Random histories against a model that recomputes every sum from a flat list.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Reserve(u8, u64),
    Settle(u8, u64),
    Confirm(u8),
    Undo(u8),
    Sync(bool, Vec<u8>),
    Expire,
    Wait(u64),
}

/// One reservation: the window it was taken from, and what of it counts there.
#[derive(Clone, Debug)]
struct Row {
    window: u64,
    reserved: u64,
    settled: u64,
    outstanding: bool,
    ended: bool,
}

fn act() -> impl Strategy<Value = Act> {
    let id = 0_u8..12;
    prop_oneof![
        4 => (id.clone(), 0_u64..60).prop_map(|(id, tokens)| Act::Reserve(id, tokens)),
        3 => (id.clone(), 0_u64..90).prop_map(|(id, tokens)| Act::Settle(id, tokens)),
        2 => id.clone().prop_map(Act::Confirm),
        1 => id.clone().prop_map(Act::Undo),
        2 => (any::<bool>(), proptest::collection::vec(id, 0..3)).prop_map(|(b, held)| Act::Sync(b, held)),
        1 => Just(Act::Expire),
        3 => prop_oneof![1_u64..2_000, 1_u64..HOUR_MS].prop_map(Act::Wait),
    ]
}

const BUDGET: u64 = 100;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_history_admits_more_than_the_budget_or_forgets_spend(acts in proptest::collection::vec(act(), 1..80)) {
        let hourly = limit("h", Counts::Tokens, Scope::Tenant, BUDGET, Refill::Window(Window::Hour));
        let bench = Bench::new(vec![hourly, in_flight(4)]);
        // Ids are used again once the ledger has forgotten them; what they had spent still counts.
        let (mut now, mut rows, mut past) = (NOON, BTreeMap::<u8, Row>::new(), Vec::<Row>::new());
        for act in acts {
            let window = now.unix_ms / HOUR_MS;
            let sum = |rows: &BTreeMap<u8, Row>, past: &[Row]| {
                let all = rows.values().chain(past).filter(|row| row.window == window);
                all.map(|row| row.settled + if row.outstanding { row.reserved } else { 0 }).sum::<u64>()
            };
            let busy = rows.values().filter(|row| row.outstanding).count();
            match act {
                Act::Wait(ms) => now.unix_ms += ms,
                Act::Reserve(n, tokens) if !bench.ledger.lock().entries.contains_key(&id(n)) => {
                    let fits = sum(&rows, &past) + tokens <= BUDGET && busy < 4;
                    let made = bench.reserve(now, n, cost(tokens));
                    prop_assert_eq!(made.is_ok(), fits, "{:?}", made);
                    if made.is_ok() {
                        past.extend(rows.remove(&n));
                        let row = Row { window, reserved: tokens, settled: 0, outstanding: true, ended: false };
                        rows.insert(n, row);
                        prop_assert!(sum(&rows, &past) <= BUDGET);
                    }
                }
                Act::Reserve(..) => {}
                Act::Settle(n, tokens) => {
                    let known = bench.ledger.terms(id(n), PROXY).is_some();
                    let settled = bench.ledger.settle(now, id(n), cost(tokens));
                    prop_assert_eq!(settled.is_some(), known);
                    if let (Some(_), Some(row)) = (settled, rows.get_mut(&n).filter(|row| !row.ended)) {
                        (row.settled, row.outstanding, row.ended) = (tokens, false, true);
                    }
                }
                Act::Confirm(n) => bench.ledger.confirm(id(n)),
                Act::Undo(n) => {
                    let open = rows.get_mut(&n).filter(|row| row.outstanding);
                    prop_assert_eq!(bench.ledger.undo(now, id(n)), open.is_some());
                    if let Some(row) = open {
                        row.outstanding = false;
                    }
                }
                Act::Sync(b, held) => {
                    let held: Vec<_> = held.into_iter().map(id).collect();
                    let synced = bench.ledger.sync(PROXY, [u8::from(b); 16], now, &held);
                    for undone in synced.undone {
                        prop_assert!(!held.contains(&undone));
                        let row = rows.get_mut(&undone.0[0]).unwrap();
                        prop_assert!(row.outstanding);
                        row.outstanding = false;
                    }
                    for again in synced.reinstated {
                        rows.get_mut(&again.0[0]).unwrap().outstanding = true;
                    }
                }
                Act::Expire => {
                    for expired in bench.ledger.expire(now) {
                        let row = rows.get_mut(&expired.id.0[0]).unwrap();
                        if row.outstanding {
                            (row.settled, row.outstanding) = (row.reserved, false);
                        }
                        prop_assert_eq!(expired.charge.tokens, row.settled);
                    }
                }
            }
            let window = now.unix_ms / HOUR_MS;
            let used: u64 = rows.values().chain(&past).filter(|row| row.window == window)
                .map(|row| row.settled + if row.outstanding { row.reserved } else { 0 }).sum();
            let busy = u64::try_from(rows.values().filter(|row| row.outstanding).count()).unwrap();
            prop_assert_eq!(bench.left(now), [BUDGET.saturating_sub(used), 4_u64.saturating_sub(busy)]);
        }
    }
}
