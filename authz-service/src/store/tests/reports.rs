use serde_json::{Value, json};

use super::*;

#[test]
fn a_line_says_everything_in_json() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    let record = AuditRecord {
        key_id: "k1".into(),
        credential: "api_key".into(),
        policy_version: "0123456789abcdef".into(),
        method: "POST".into(),
        path: "/v1/chat/completions?api-key=SECRET".into(),
        provider: "p".into(),
        region: "eu".into(),
        ..allow(1)
    };
    write(&store, Command::Decision(Box::new(record), Some(Box::new(reservation(1))))).unwrap();
    let line = |seq| serde_json::to_value(&store.reader().unwrap().audit_after(seq, 1).unwrap()[0]).unwrap();
    let amounts = |n: u64| json!({"tokens": n, "gpuMs": n * 2, "microUsd": n * 3, "requests": 1});
    let mut expected = json!({
        "seq": 1, "time": "2026-11-22T12:00:00.000Z", "requestId": "r-1", "tenant": "acme", "principal": "ana",
        "keyId": "k1", "credential": "api_key", "policyVersion": "0123456789abcdef", "decision": "allow", "code": "",
        "status": 0, "method": "POST", "path": "/v1/chat/completions", "model": "llama", "provider": "p",
        "region": "eu", "proxy": "edge-1", "detail": "", "grantId": "00010707070707070707070707070707",
        "reserved": amounts(50), "charged": null,
    });
    assert_eq!(line(0), expected);
    write(&store, settle(1, 30)).unwrap();
    let settled = json!({
        "status": 200, "settledAt": "2026-11-22T12:00:05.000Z", "outcome": "answered", "estimated": false,
        "durationMs": 1234, "details": "via_upstream", "charged": amounts(30),
        "usage": {"input": 7, "cachedInput": 2, "output": 30, "reasoning": 1},
    });
    let (Value::Object(all), Value::Object(settled)) = (&mut expected, settled) else { panic!("two objects") };
    all.extend(settled);
    assert_eq!(line(0), expected);
}

#[test]
fn text_is_cut_to_its_bound_at_a_whole_character() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    let long = "ü".repeat(10_000);
    let record = AuditRecord {
        request_id: long.clone(),
        tenant: long.clone(),
        principal: long.clone(),
        key_id: long.clone(),
        credential: long.clone(),
        policy_version: long.clone(),
        code: long.clone(),
        method: long.clone(),
        path: long.clone(),
        model: long.clone(),
        provider: long.clone(),
        region: long.clone(),
        proxy: long.clone(),
        detail: format!("x{long}"),
        ..deny(1, "")
    };
    write(&store, Command::Decision(Box::new(record), None)).unwrap();
    let line = store.reader().unwrap().audit_last(1).unwrap().remove(0);
    assert_eq!(line.record.detail.len(), 511);
    assert!(serde_json::to_string(&line).unwrap().len() < 3000);
}

#[test]
fn lines_are_paged_in_order() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    (1..=9).for_each(|n| write(&store, Command::Decision(Box::new(deny(n, "refused")), None)).unwrap());
    let reader = store.reader().unwrap();
    let seqs = |lines: Vec<AuditLine>| lines.iter().map(|line| line.seq).collect::<Vec<_>>();
    assert_eq!(seqs(reader.audit_after(3, 2).unwrap()), [4, 5]);
    assert_eq!(seqs(reader.audit_last(3).unwrap()), [7, 8, 9]);
    assert_eq!(seqs(reader.audit_after(9, u64::MAX).unwrap()), [] as [u64; 0]);
    // A line written meanwhile is seen by a reader that is open.
    write(&store, Command::AdminAudit(Box::new(deny(10, "key_create")))).unwrap();
    assert_eq!(reader.audit_after(9, 9).unwrap()[0].record.decision, Decision::Admin);
}

#[test]
fn refusals_that_are_reported_again_are_one_line() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    let report = |worker, sequences: std::ops::Range<u64>, lost| Command::Refusals {
        proxy: "edge-1".into(),
        worker: [worker; 16],
        refusals: sequences
            .map(|sequence| Refusal {
                sequence,
                at_ms: NOON,
                request_id: format!("e-{sequence}"),
                status: 403,
                details: "rbac_access_denied".into(),
                code: "not_admitted".into(),
                under: None,
            })
            .collect(),
        lost,
        at_ms: NOON,
    };
    for command in
        [report(1, 0..3, Some((5, 0))), report(1, 0..3, Some((5, 0))), report(1, 2..4, None), report(2, 0..1, None)]
    {
        write(&store, command).unwrap();
    }
    let lines = store.reader().unwrap().audit_last(99).unwrap();
    let ids: Vec<_> = lines.iter().map(|line| line.record.request_id.as_str()).collect();
    assert_eq!(ids, ["e-0", "e-1", "e-2", "", "e-3", "e-0"]);
    assert_eq!(lines[3].record.detail, "5 refusals were lost: the worker's queue was full");
    assert!(lines.iter().all(|line| line.record.decision == Decision::Refused && line.record.proxy == "edge-1"));
}

#[test]
fn a_decision_that_came_too_late_and_the_refusal_of_the_same_request_are_one_line() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    (1..=3).for_each(|n| write(&store, admit(n)).unwrap());
    write(&store, Command::Decision(Box::new(deny(4, "insufficient_quota")), None)).unwrap();
    write(&store, settle(3, 10)).unwrap();
    write(&store, Command::Undo { grant_id: id(1), answered: false }).unwrap();
    let refusals = (1..=5).map(|n| Refusal {
        sequence: n,
        at_ms: NOON + 300,
        request_id: format!("r-{n}"),
        status: 503,
        details: "ext_authz_error".into(),
        code: "service_unavailable".into(),
        under: None,
    });
    let (proxy, refusals) = ("edge-1".to_owned(), refusals.collect());
    let report = Command::Refusals { proxy, worker: [1; 16], refusals, lost: None, at_ms: NOON + 500 };
    (0..2).for_each(|_| write(&store, report.clone()).unwrap());
    write(&store, Command::Undo { grant_id: id(2), answered: true }).unwrap();

    let lines = store.reader().unwrap().audit_last(99).unwrap();
    let told: Vec<_> =
        lines.iter().map(|l| (l.record.request_id.as_str(), l.record.decision, l.record.status)).collect();
    let refused = |id| (id, Decision::Refused, 503);
    // the third was settled, so that the report is of another request; the fifth is not known
    let third = ("r-3", Decision::Allow, 200);
    assert_eq!(told, [refused("r-1"), refused("r-2"), third, refused("r-4"), refused("r-3"), refused("r-5")]);
    assert_eq!(lines[0].record.tenant, "acme");
    assert_eq!(lines[3].record.detail, "ext_authz_error, decided too late: insufficient_quota");

    // the report was faster: a granted request, and a denied one
    write(&store, admit(5)).unwrap();
    write(&store, Command::Undo { grant_id: id(5), answered: false }).unwrap();
    let later = store.reader().unwrap().audit_last(99).unwrap();
    assert_eq!(later.len(), lines.len());
    assert_eq!((later[5].record.decision, later[5].record.tenant.as_str()), (Decision::Refused, "acme"));
    assert_eq!(later[5].record.grant_id, Some(id(5)));
}

#[test]
fn usage_is_told_per_tenant() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    (1..=3).for_each(|n| write(&store, admit(n)).unwrap());
    (1..=2).for_each(|n| write(&store, settle(n, 10)).unwrap());
    write(&store, Command::Undo { grant_id: id(3), answered: false }).unwrap();
    for (n, code) in [(10, "insufficient_quota"), (11, "insufficient_quota"), (12, "model_not_allowed")] {
        write(&store, Command::Decision(Box::new(deny(n, code)), None)).unwrap();
    }
    let stranger = AuditRecord { tenant: String::new(), ..deny(13, "missing_credential") };
    let before = AuditRecord { at_ms: NOON - 1, ..deny(14, "missing_credential") };
    for record in [stranger, before] {
        write(&store, Command::Decision(Box::new(record), None)).unwrap();
    }
    let usage = store.reader().unwrap().usage_by_tenant(NOON).unwrap();
    assert_eq!(usage.keys().collect::<Vec<_>>(), ["", "acme"]);
    let denied = [("insufficient_quota".into(), 2), ("model_not_allowed".into(), 1)].into();
    let acme = TenantUsage { requests: 2, denied, input: 14, output: 20, gpu_ms: 40, micro_usd: 60 };
    assert_eq!(usage["acme"], acme);
    assert_eq!(usage[""].denied, [("missing_credential".into(), 1)].into());
}

#[test]
fn a_provider_that_lies_does_not_break_the_report() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    for n in 1..=3 {
        write(&store, admit(n)).unwrap();
        let Command::Settle(settlement) = settle(n, 10) else { panic!("a settlement") };
        let usage = Usage { input: u64::MAX, ..settlement.usage };
        write(&store, Command::Settle(Box::new(Settle { usage, ..*settlement }))).unwrap();
    }
    let usage = store.reader().unwrap().usage_by_tenant(0).unwrap();
    assert_eq!((usage["acme"].input, usage["acme"].output), (u64::MAX, 30));
}

#[test]
fn ten_thousand_decisions_take_seconds_and_not_minutes() {
    let bench = Bench::new();
    let (store, _) = bench.open();
    let started = std::time::Instant::now();
    let reservation = reservation(0);
    for chunk in 0..10 {
        let receipts: Vec<_> = (0..1000)
            .map(|n| {
                let n = chunk * 1000 + n;
                let reservation = Reservation { id: id(n), ..reservation.clone() };
                store.submit(Command::Decision(Box::new(allow(n)), Some(Box::new(reservation)))).unwrap()
            })
            .collect();
        receipts.into_iter().for_each(|receipt| wait(receipt).unwrap());
    }
    let (took, written) = (started.elapsed(), store.written());
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(written.commits < 200, "{written:?}");
    eprintln!("10,000 decisions in {took:?}, {} commits", written.commits);
}
