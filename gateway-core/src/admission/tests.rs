//! Terms that crossed the wire: what is none, and what a body meets under those that are.

use super::*;
use crate::gate::{AdmissionTerms, ModelTerms, OutputLimit, Prices, ProviderTerms};

fn message() -> AdmissionTerms {
    let prices = Prices {
        gpu_weight_permille: 1000,
        micro_usd_per_1m_output: 1_000_000,
        min_bytes_per_token: 1,
        mean_bytes_per_token: 4,
        ..Prices::default()
    };
    let model = |names: &[&str], allowed, provider| ModelTerms {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        allowed,
        prices: Some(prices),
        provider,
        refusal: None,
        upstream_model: if provider == 0 { String::new() } else { "their-name".into() },
    };
    let provider = |name: &str, key: Key| ProviderTerms {
        name: name.into(),
        region: "eu".into(),
        cluster: format!("cluster-{name}"),
        upstream_path: "/v2/chat".into(),
        output_limit: OutputLimit::MaxTokens.into(),
        extra_fields: vec!["top_k".into()],
        key: key.into(),
    };
    AdmissionTerms {
        body_bytes: 200,
        output_tokens: 50,
        prompt_tokens: 20,
        choices: 1,
        reserve_estimate: false,
        path_model: String::new(),
        extra_fields: vec!["min_p".into(), "top_k".into()],
        models: vec![
            model(&["llama", "small"], true, 1),
            model(&["gpt"], false, 1),
            model(&["keyless"], true, 2),
            model(&["nowhere"], true, 0),
        ],
        providers: vec![provider("house", Key::Own), provider("poor", Key::Unspecified)],
    }
}

fn admit(terms: &AdmissionTerms, fields: &str) -> Result<(String, Admission), Box<Refused>> {
    let terms = Terms::try_from(terms).unwrap();
    let body = format!(r#"{{{fields}"messages":[{{"role":"user","content":"hi"}}]}}"#);
    admit_chat(&terms, body.as_bytes()).map(|admitted| {
        assert_eq!((admitted.target.provider, admitted.target.key), ("house", Key::Own));
        assert_eq!((admitted.target.cluster, admitted.target.upstream_path), ("cluster-house", "/v2/chat"));
        (admitted.model.to_string(), admitted.admission)
    })
}

#[test]
fn a_body_meets_its_terms() {
    let (model, admission) = admit(&message(), r#""model":"small","top_k":1,"#).unwrap();
    assert_eq!((model.as_str(), admission.output_bound, admission.reserved.micro_usd), ("llama", 50, 50));
    let named = AdmissionTerms { path_model: "llama".into(), ..message() };
    assert_eq!(admit(&named, "").unwrap().0, "llama");
    assert_eq!(admit(&named, r#""model":"small","#).unwrap().0, "llama");
}

#[test]
fn a_refusal_says_what_was_known_by_then() {
    let refused = |terms: &AdmissionTerms, fields| {
        let refused = admit(terms, fields).unwrap_err();
        let model = refused.model.map(|model| model.to_string()).unwrap_or_default();
        (refused.denial.code, model, refused.provider, refused.region)
    };
    let want = |code, model: &str, provider: &str| {
        (code, model.to_owned(), provider.to_owned(), if provider.is_empty() { "" } else { "eu" }.to_owned())
    };
    for (fields, expected) in [
        ("", want(Code::InvalidBody, "", "")),
        (r#""model":"other","#, want(Code::ModelNotFound, "", "")),
        (r#""model":"gpt","#, want(Code::ModelNotAllowed, "gpt", "house")),
        (r#""model":"nowhere","#, want(Code::NoEligibleTarget, "nowhere", "")),
        (r#""model":"keyless","#, want(Code::NoEligibleTarget, "keyless", "poor")),
        (r#""model":"llama","min_p":0,"#, want(Code::UnknownField, "llama", "house")),
        (r#""model":"llama","n":2,"#, want(Code::InvalidBody, "llama", "house")),
    ] {
        assert_eq!(refused(&message(), fields), expected, "{fields}");
    }
    let path = |model: &str| AdmissionTerms { path_model: model.into(), ..message() };
    let conflict = want(Code::ModelConflict, "", "");
    assert_eq!(refused(&path("llama"), r#""model":"gpt","#), conflict);
    assert_eq!(refused(&path("other"), r#""model":"another","#), conflict);
    assert_eq!(refused(&path("other"), r#""model":"other","#).0, Code::ModelNotFound);
    assert_eq!(refused(&path("no name!"), "").0, Code::ModelNotFound);
}

#[test]
fn a_model_is_refused_as_the_terms_say() {
    let with = |allowed, refusal: Option<Denial>| {
        let mut terms = message();
        terms.models[1].allowed = allowed;
        terms.models[1].refusal = refusal.map(Into::into);
        admit(&terms, r#""model":"gpt","#).unwrap_err().denial
    };
    let step_up = Denial {
        why: Some("a Tuesday".into()),
        challenge: Some("Bearer max_age=\"60\"".into()),
        ..Denial::new(Code::StepUpRequired).detail("Rule `r` asks for it.")
    };
    assert_eq!(step_up.logged(), "Rule `r` asks for it. It applies to: a Tuesday.");
    for allowed in [false, true] {
        assert_eq!(with(allowed, Some(step_up.clone())), step_up, "what is refused is not allowed");
    }
    assert_eq!(with(false, None), not_allowed());
    let mut unknown = message();
    unknown.models[0].refusal = Some(crate::gate::ModelRefusal { code: "later".into(), ..Default::default() });
    assert_eq!(admit(&unknown, r#""model":"llama","#).unwrap_err().denial.code, Code::ModelNotAllowed);
}

#[test]
fn a_body_is_no_larger_than_the_plan_and_the_gateway_take() {
    let code = |most, bytes| check_size(most, bytes).err();
    assert_eq!((code(200, 200), code(200, 201)), (None, Some(too_large(200))));
    assert_eq!(too_large(200).detail.as_deref(), Some("The most is 200 bytes."));
    assert_eq!(code(u64::MAX, wire::MAX_BODY_BYTES + 1).map(|denial| denial.code), Some(Code::BodyTooLarge));
    let long = format!(r#""model":"llama","user":"{}","#, "x".repeat(200));
    assert_eq!(admit(&message(), &long).unwrap_err().denial, too_large(200));
}

#[test]
fn what_lacks_anything_is_no_terms() {
    assert!(Terms::try_from(&message()).is_ok());
    assert_eq!(Terms::try_from(&AdmissionTerms::default()).unwrap_err(), BadTerms::Caps);
    type Break = fn(&mut AdmissionTerms);
    let broken: [(Break, BadTerms); 19] = [
        (|terms| terms.body_bytes = 0, BadTerms::Caps),
        (|terms| terms.output_tokens = 0, BadTerms::Caps),
        (|terms| terms.prompt_tokens = 0, BadTerms::Caps),
        (|terms| terms.choices = 0, BadTerms::Caps),
        (|terms| terms.models[0].names.clear(), BadTerms::Names),
        (|terms| terms.models[0].names[1].clear(), BadTerms::Names),
        (|terms| terms.models[0].names[1] = "a b".into(), BadTerms::Names),
        (|terms| terms.models[1].names.push("small".into()), BadTerms::Names),
        (|terms| terms.models[0].prices = None, BadTerms::Prices),
        (|terms| terms.models[0].prices = Some(Prices::default()), BadTerms::Prices),
        (|terms| terms.models[0].provider = 3, BadTerms::Target),
        (|terms| terms.models[0].provider = u32::MAX, BadTerms::Target),
        (|terms| terms.models[0].upstream_model.clear(), BadTerms::Target),
        (|terms| terms.providers[0].name.clear(), BadTerms::Provider),
        (|terms| terms.providers[0].cluster.clear(), BadTerms::Provider),
        (|terms| terms.providers[0].cluster = "a\r\nb: c".into(), BadTerms::Provider),
        (|terms| terms.providers[0].upstream_path = "/a/../b".into(), BadTerms::Provider),
        (|terms| terms.providers[0].output_limit = 0, BadTerms::Provider),
        (|terms| terms.providers[0].output_limit = 9, BadTerms::Provider),
    ];
    for (number, (change, want)) in broken.into_iter().enumerate() {
        let mut terms = message();
        change(&mut terms);
        assert_eq!(Terms::try_from(&terms).unwrap_err(), want, "{number}");
    }
    let mut unknown_key = message();
    unknown_key.providers[0].key = 9;
    assert_eq!(admit(&unknown_key, r#""model":"llama","#).unwrap_err().denial.code, Code::NoEligibleTarget);
}
