use super::*;

#[tokio::test]
async fn a_lease_is_lent_settled_closed_and_told_in_the_audit() {
    let house = House::new();
    let lents = house.lease(1, vec![ask(&house, &grant(), 1, &[300, 300, 500])]).await;
    let lent = &lents[0];
    assert_eq!((lent.id.clone(), lent.served), (lease_id(1), 2));
    assert_eq!(lent.amount, Some(Cost { tokens: 600, gpu_ms: 2, micro_usd: 2, requests: 2 }));
    assert!((1..=5000).contains(&lent.expires_in_ms) && lent.settle_at_once && lent.rate_tokens == 0);
    let refused = lent.refused.as_ref().unwrap();
    assert_eq!(refused.code, "insufficient_quota");
    assert!(refused.headers.iter().any(|header| header.name == "retry-after"), "{refused:?}");
    let day = &lent.limits[0];
    assert_eq!((day.name.as_str(), day.amount, day.left, day.window_seconds), ("tokens-day", 1000, 400, 86_400));
    assert_eq!((day.counts(), day.refill()), (gate::Counts::Tokens, gate::Refill::Window));
    assert_eq!(house.left(), [400, 398]);

    let settlements = vec![ended(&house, &grant(), 1, 1, 90)];
    house.sync(SyncRequest { settlements, closed: vec![closed(1, 1)], ..report(1) }).await.unwrap();
    assert_eq!(house.left(), [900, 400]);
    let lines = house.audit();
    assert_eq!(lines.len(), 1);
    let record = &lines[0].record;
    assert_eq!((record.decision, record.request_id.as_str(), record.status), (Decision::Allow, "r-1", 200));
    assert_eq!((record.tenant.as_str(), record.principal.as_str(), record.credential.as_str()), ("acme", "ana", "jwt"));
    assert_eq!((record.model.as_str(), record.provider.as_str(), record.region.as_str()), ("llama", "pool", "eu"));
    assert_eq!((record.path.as_str(), record.reserved), ("/v1/chat/completions", Some(cost(300))));
    let charged = Cost { tokens: 100, gpu_ms: 812, micro_usd: 19, requests: 1 };
    assert_eq!(lines[0].charged, Some(charged));
}

#[tokio::test]
async fn a_report_is_taken_before_its_asks() {
    let house = House::new();
    house.lease(1, vec![ask(&house, &grant(), 1, &[1000])]).await;
    assert_eq!(house.left(), [0, 399]);
    let report = SyncRequest { closed: vec![closed(1, 0)], ..report(1) };
    let answer = house.call(LeaseRequest { report: Some(report), asks: vec![ask(&house, &grant(), 2, &[1000])] }).await;
    let answer = answer.unwrap();
    assert_eq!((answer.lents[0].served, answer.report.unwrap().sequence), (1, 7));
    // A repeat takes nothing.
    assert_eq!(house.lease(1, vec![ask(&house, &grant(), 2, &[1000])]).await[0].served, 1);
    assert_eq!(house.left(), [0, 399]);
}

#[tokio::test]
async fn leases_survive_a_restart_and_still_settle() {
    let house = House::new();
    house.lease(1, vec![ask(&house, &grant(), 1, &[300, 300])]).await;
    let settlements = vec![ended(&house, &grant(), 1, 1, 90)];
    house.sync(SyncRequest { settlements: settlements.clone(), ..report(1) }).await.unwrap();
    assert_eq!(house.left(), [600, 399]);
    let house = house.restart();
    assert_eq!(house.left(), [600, 399]);
    let again = [settlements, vec![ended(&house, &grant(), 1, 2, 40)]].concat();
    house.sync(SyncRequest { settlements: again, closed: vec![closed(1, 2)], ..report(1) }).await.unwrap();
    assert_eq!(house.left(), [850, 400]);
    assert_eq!(house.audit().len(), 2);
    assert_eq!(house.restart().left(), [850, 400]);
}

#[tokio::test]
async fn what_was_asked_in_a_call_that_failed_is_closed_and_never_lent() {
    let house = House::new();
    house.sync(SyncRequest { closed: vec![closed(1, 0)], ..report(1) }).await.unwrap();
    let lent = house.lease(1, vec![ask(&house, &grant(), 1, &[300])]).await.remove(0);
    let refused = lent.refused.unwrap();
    assert_eq!((refused.code.as_str(), lent.served, lent.amount), ("service_unavailable", 0, None));
    assert_eq!(house.left(), [1000, 400]);
}

#[tokio::test]
async fn what_the_module_refused_under_a_grant_is_told_with_its_tenant() {
    let house = House::new();
    let refusal = |sequence, grant| gate::Refusal {
        sequence,
        request_id: "r-9".into(),
        status: 413,
        denial: "prompt_too_large".into(),
        model: "llama".into(),
        detail: "too long".into(),
        grant,
        ..gate::Refusal::default()
    };
    let refusals = vec![refusal(1, house.handle(&grant())), refusal(2, vec![1, 2].into())];
    for _ in 0..2 {
        house.sync(SyncRequest { refusals: refusals.clone(), ..report(1) }).await.unwrap();
    }
    let lines = house.audit();
    let told: Vec<_> = lines.iter().map(|line| (line.record.decision, line.record.tenant.as_str())).collect();
    assert_eq!(told, [(Decision::Deny, "acme"), (Decision::Refused, "")]);
    let record = &lines[0].record;
    assert_eq!(
        (record.code.as_str(), record.provider.as_str(), record.detail.as_str()),
        ("prompt_too_large", "pool", "too long")
    );
}
