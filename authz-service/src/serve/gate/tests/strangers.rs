use gateway_core::wire::MAX_NEEDS;

use super::*;

#[tokio::test]
async fn nobody_settles_or_closes_what_is_not_theirs() {
    let house = House::new();
    house.lease(1, vec![ask(&house, &grant(), 1, &[300])]).await;
    let settlement = |grant: &Grant| SyncRequest { settlements: vec![ended(&house, grant, 1, 1, 0)], ..report(1) };
    let strangers = [
        // Another worker; another tenant's grant; another scope set; a number that is none; a forged grant.
        SyncRequest { worker: vec![2; 16].into(), closed: vec![closed(1, 0)], ..settlement(&grant()) },
        settlement(&Grant { tenant: "globex".into(), ..grant() }),
        settlement(&Grant { scope_set: "tenant=acme;key=k".into(), ..grant() }),
        SyncRequest { settlements: vec![ended(&house, &grant(), 1, 0, 0)], ..report(1) },
        SyncRequest {
            settlements: vec![Settlement {
                grant: SignedGrant { mac: vec![0; 32].into(), ..house.signed(&grant()) }.encode_to_vec().into(),
                ..ended(&house, &grant(), 1, 1, 0)
            }],
            ..report(1)
        },
    ];
    for report in strangers {
        house.sync(report).await.unwrap();
        assert_eq!((house.left(), house.audit().len()), (vec![700, 399], 0));
    }
}

#[tokio::test]
async fn only_a_handle_of_ours_that_still_holds_is_lent_to() {
    let house = House::new();
    let old = house.service.now().unix_ms.saturating_sub(81_000);
    let key = |id: &str| Grant { key_id: id.into(), ..grant() };
    let cases = [
        (Grant { issued_at_ms: old, ..grant() }, "not_admitted"),
        (Grant { issued_at_ms: old, lifetime_ms: u32::MAX, ..grant() }, ""),
        (
            Grant { issued_at_ms: house.service.now().unix_ms - 131_000, lifetime_ms: u32::MAX, ..grant() },
            "not_admitted",
        ),
        (Grant { scope_set: String::new(), ..grant() }, "not_admitted"),
        (Grant { data_endpoint: true, ..grant() }, "not_admitted"),
        (Grant { tenant: "nobody".into(), ..grant() }, "invalid_credential"),
        (key("abcdefghijkl"), "invalid_credential"),
        (key("lkjihgfedcba"), "invalid_credential"),
    ];
    for (n, (grant, code)) in (1..).zip(cases) {
        let lent = house.lease(1, vec![ask(&house, &grant, n, &[1])]).await.remove(0);
        assert_eq!(lent.refused.map(|refused| refused.code).unwrap_or_default(), code, "{n}");
        assert_eq!(lent.amount.is_some(), code.is_empty(), "{n}");
    }
    for (ask, code) in [
        (Ask { model: "gpt".into(), ..ask(&house, &grant(), 21, &[1]) }, "model_not_found"),
        (Ask { grant: vec![1, 2, 3].into(), ..ask(&house, &grant(), 22, &[1]) }, "not_admitted"),
        (Ask { id: vec![9; 16].into(), ..ask(&house, &grant(), 23, &[1]) }, "bad_request"),
        (Ask { id: vec![9; 4].into(), ..ask(&house, &grant(), 24, &[1]) }, "bad_request"),
    ] {
        let lent = house.lease(1, vec![ask]).await.remove(0);
        assert_eq!((lent.refused.unwrap().code.as_str(), lent.amount), (code, None));
    }
    assert_eq!(house.left(), [999, 399]);
}

#[tokio::test]
async fn a_key_lends_until_it_is_revoked() {
    let house = House::new();
    let acme = TenantName::parse("acme").unwrap();
    let first = KeyRecord::first("abcdefghijkl", acme, KeyHash::dummy(), jiff::Timestamp::now());
    let record = |revoked_at| KeyRecord { revoked_at, ..first.clone() };
    let grant = Grant { key_id: "abcdefghijkl".into(), ..grant() };
    for (n, revoked_at, code) in [(1, None, ""), (2, Some(jiff::Timestamp::now()), "invalid_credential")] {
        house.service.keys.store(Arc::new([("abcdefghijkl".to_owned(), record(revoked_at))].into()));
        let lent = house.lease(1, vec![ask(&house, &grant, n, &[1])]).await.remove(0);
        assert_eq!(lent.refused.map(|refused| refused.code).unwrap_or_default(), code);
    }
    assert_eq!(house.left(), [999, 399]);
}

#[tokio::test]
async fn a_call_is_bounded_and_its_sender_named() {
    let house = House::new();
    let asks = |count: usize, needs: usize| LeaseRequest {
        report: Some(report(1)),
        asks: vec![Ask { needs: vec![cost(1); needs], ..Ask::default() }; count],
    };
    assert!(house.call(asks(8, MAX_NEEDS / 8)).await.is_ok());
    for message in [asks(MAX_NEEDS + 1, 0), asks(1, MAX_NEEDS + 1), LeaseRequest { report: None, ..asks(1, 1) }] {
        assert_eq!(house.call(message).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    }
    let other = SyncRequest { proxy: "edge-2".into(), ..report(1) };
    for report in [other, SyncRequest { worker: vec![1; 15].into(), ..report(1) }] {
        let asked = LeaseRequest { report: Some(report.clone()), asks: Vec::new() };
        assert_eq!(house.call(asked).await.unwrap_err().code(), tonic::Code::InvalidArgument);
        assert_eq!(house.sync(report).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_job_outlives_the_key_that_started_it_until_that_is_revoked() {
    let house = House::new();
    let acme = TenantName::parse("acme").unwrap();
    let long_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(80);
    let record = KeyRecord::first("abcdefghijkl", acme, KeyHash::dummy(), long_ago);
    let revoked = KeyRecord { revoked_at: Some(long_ago), ..record.clone() };
    let cases =
        [("api_key", &record, "invalid_credential"), ("job", &record, ""), ("job", &revoked, "invalid_credential")];
    for (n, (credential, record, code)) in (1..).zip(cases) {
        house.service.keys.store(Arc::new([("abcdefghijkl".to_owned(), record.clone())].into()));
        let grant = Grant { key_id: "abcdefghijkl".into(), credential: credential.into(), ..grant() };
        let lent = house.lease(1, vec![ask(&house, &grant, n, &[1])]).await.remove(0);
        assert_eq!(lent.refused.map(|refused| refused.code).unwrap_or_default(), code, "{credential} {n}");
    }
}
