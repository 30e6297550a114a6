//! The shipped texts held against the tables and names that they repeat.

use gateway_core::denial::Code;
use gateway_core::headers::CREDENTIAL_CARRIERS;
use gateway_core::wire;
use serde_json::Value;

use super::*;

fn whole(profile: Profile) -> Value {
    serde_saphyr::from_str(&profile.text()).unwrap()
}

fn manager(profile: Profile) -> Value {
    whole(profile)["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"].clone()
}

/// The client as Envoy trusts it.
const CLIENT: &str = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%";

/// A filter's `typed_config`.
fn filter(profile: Profile, name: &str) -> Value {
    let manager = manager(profile);
    let filters = manager["http_filters"].as_array().unwrap();
    filters.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no `{name}`"))["typed_config"].clone()
}

/// What a matcher skips: its filter state, what that must be, and the filter inside.
fn skipped(wrapper: &Value) -> (&Value, &Value, &Value) {
    let only = &wrapper["xds_matcher"]["matcher_list"]["matchers"];
    assert_eq!(only.as_array().unwrap().len(), 1);
    assert!(wrapper["xds_matcher"].get("on_no_match").is_none());
    let action = only[0]["on_match"]["action"]["typed_config"]["@type"].as_str().unwrap();
    assert!(action.ends_with(".SkipFilter"), "{action}");
    let predicate = &only[0]["predicate"];
    let predicate = predicate.get("not_matcher").unwrap_or(predicate);
    let single = &predicate["single_predicate"];
    (&single["input"]["typed_config"]["key"], &single["value_match"], &wrapper["extension_config"]["typed_config"])
}

fn state(name: &str) -> Value {
    format!("wasm.{name}").into()
}

fn said(authz: &Value) -> Vec<(&str, &str)> {
    let pairs = authz["grpc_service"]["initial_metadata"].as_array().unwrap();
    pairs.iter().map(|pair| (pair["key"].as_str().unwrap(), pair["value"].as_str().unwrap())).collect()
}

#[test]
fn envoys_own_refusals_are_rows_of_the_table() {
    for profile in Profile::ALL {
        let mappers = manager(profile)["local_reply_config"]["mappers"].as_array().unwrap().clone();
        assert!(mappers.len() > 10);
        assert!(mappers[0].get("status_code").or(mappers[0].get("body_format_override")).is_none(), "ours stay");
        for mapper in &mappers[1..] {
            let error = &mapper["body_format_override"]["json_format"]["error"];
            let code = error["code"].as_str().and_then(Code::named);
            let row = code.unwrap_or_else(|| panic!("{} is not in the table", error["code"])).row();
            assert_eq!(error["message"], row.message, "{}", row.code);
            assert_eq!(error["type"], row.kind, "{}", row.code);
            assert_eq!(mapper["status_code"], row.status, "{}", row.code);
            assert_eq!(error["request_id"], "%REQ(X-REQUEST-ID)%");
            let mut fields: Vec<&String> = error.as_object().unwrap().keys().collect();
            fields.sort();
            assert_eq!(fields, ["code", "message", "param", "request_id", "type"]);
        }
    }
}

#[test]
fn names_and_limits_are_those_of_wire_rs() {
    for profile in Profile::ALL {
        let blanked = filter(profile, "blank")["metadata"][0].clone();
        assert_eq!(blanked["metadata_namespace"], wire::EXT_AUTHZ);
        for key in [wire::DECISION, wire::GRANT, wire::DENIAL, wire::LOG_TENANT, wire::LOG_MODEL, wire::LOG_CODE] {
            assert!(blanked["value"][key].is_string(), "{key} is not blanked");
        }
        let gate = filter(profile, "gate")["rules"]["policies"]["granted"]["principals"][0].clone();
        let matcher = &gate["sourced_metadata"]["metadata_matcher"];
        assert_eq!((&matcher["filter"], &matcher["path"][0]["key"]), (&wire::EXT_AUTHZ.into(), &wire::DECISION.into()));
        assert_eq!(matcher["value"]["string_match"]["exact"], wire::DECISION_ALLOW);
        let early = manager(profile)["early_header_mutation_extensions"][0]["typed_config"]["mutations"].to_string();
        assert!(early.contains(&format!("\"prefix\":\"{}\"", wire::RESERVED_PREFIX)));
        let buffer = &whole(profile)["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"];
        assert!(buffer.as_u64().unwrap() >= wire::MAX_BODY_BYTES + 256 * 1024);
    }
    // in HTTP/2 Envoy buffers no more of a stream than its window (in `portable` ext_authz raises it)
    let window = &manager(Profile::Inline)["http2_protocol_options"]["initial_stream_window_size"];
    assert!(window.as_u64().unwrap() >= wire::MAX_BODY_BYTES + 256 * 1024);
    let authz = filter(Profile::Portable, wire::EXT_AUTHZ);
    assert_eq!(authz["with_request_body"]["max_request_bytes"], wire::MAX_BODY_BYTES);
    assert_eq!(authz["failure_mode_allow"], false);
    assert_eq!(authz["grpc_service"]["envoy_grpc"]["cluster_name"], wire::SERVICE_CLUSTER);
    assert_eq!(said(&authz), [(wire::PROXY, "edge-1"), (wire::SOURCE, CLIENT)]);
}

#[test]
fn inline_skips_on_the_modules_words_alone_and_both_gates_know_them() {
    let chain = manager(Profile::Inline)["http_filters"].as_array().unwrap().clone();
    let names: Vec<&str> = chain.iter().map(|one| one["name"].as_str().unwrap()).collect();
    let order = [
        "blank",
        "tenant-context",
        wire::EXT_AUTHZ,
        "gate",
        "gateway",
        "strip-credentials",
        "last-hop",
        "last-hop-gate",
        "envoy.filters.http.router",
    ];
    assert_eq!(names, order);
    assert_eq!(filter(Profile::Inline, "blank")["metadata"][0]["value"][wire::LAST_HOP_DONE], "none");

    let stripped = filter(Profile::Inline, "strip-credentials")["mutations"]["request_mutations"].clone();
    for carrier in CREDENTIAL_CARRIERS {
        assert!(stripped.as_array().unwrap().contains(&serde_json::json!({"remove": carrier})), "{carrier}");
    }

    for (name, key, word, room, source) in [
        (wire::EXT_AUTHZ, wire::MARK, ("prefix", wire::MARK_HELD), wire::ROOM_INLINE, &[(wire::SOURCE, CLIENT)][..]),
        ("last-hop", wire::LAST_HOP, ("exact", wire::LAST_HOP_PLATFORM), wire::ROOM_LAST_HOP, &[]),
    ] {
        let wrapper = filter(Profile::Inline, name);
        assert!(wrapper["xds_matcher"]["matcher_list"]["matchers"][0]["predicate"].get("not_matcher").is_none());
        let (read, value, authz) = skipped(&wrapper);
        assert_eq!((read, value), (&state(key), &serde_json::json!({word.0: word.1})));
        assert_eq!(authz["failure_mode_allow"], false);
        assert!(authz.get("with_request_body").is_none(), "{name}: the body never leaves Envoy");
        assert_eq!(authz["grpc_service"]["envoy_grpc"]["cluster_name"], wire::SERVICE_CLUSTER);
        assert_eq!(said(authz), [&[(wire::PROXY, "edge-1"), (wire::ROOM, room)], source].concat());
    }
    let marked = filter(Profile::Inline, "gate")["rules"]["policies"]["granted"]["principals"][1].clone();
    let held =
        serde_json::json!({"filter_state": {"key": state(wire::MARK), "string_match": {"prefix": wire::MARK_HELD}}});
    assert_eq!(marked, held);
    let keyed = filter(Profile::Inline, "last-hop-gate")["rules"]["policies"]["keyed"]["principals"].clone();
    let platform = serde_json::json!({"filter_state": {"key": state(wire::LAST_HOP), "string_match": {"exact": wire::LAST_HOP_PLATFORM}}});
    assert_eq!(keyed[0], platform);
    let done = &keyed[1]["sourced_metadata"]["metadata_matcher"];
    assert_eq!((&done["filter"], &done["path"][0]["key"]), (&wire::EXT_AUTHZ.into(), &wire::LAST_HOP_DONE.into()));
    assert_eq!(done["value"]["string_match"]["exact"], wire::LAST_HOP_DONE_WORD);
    assert_eq!(keyed.as_array().unwrap().len(), 2);
}

#[test]
fn the_two_roots_are_one_vm_and_the_one_that_waits_may() {
    let [front, gateway] = ["tenant-context", "gateway"].map(|name| filter(Profile::Inline, name)["config"].clone());
    assert_eq!((&front["root_id"], &gateway["root_id"]), (&"tenant-context".into(), &"gateway".into()));
    assert_eq!(front["vm_config"], gateway["vm_config"]);
    let told = |root: &Value| serde_json::from_str::<Value>(root["configuration"]["value"].as_str().unwrap()).unwrap();
    for (field, value) in told(&gateway).as_object().unwrap() {
        assert_eq!(&told(&front)[field], value, "{field}");
    }
    assert_eq!((&told(&gateway)["proxy"], &told(&gateway)["profile"]), (&"edge-1".into(), &"inline".into()));
    assert_eq!(gateway["allow_on_headers_stop_iteration"], true);
    for root in [front, gateway] {
        assert_eq!(root["failure_policy"], "FAIL_RELOAD");
    }
}

#[test]
fn each_provider_has_a_key_of_its_own_and_nobody_else_has_one() {
    let clusters = whole(Profile::Inline)["static_resources"]["clusters"].as_array().unwrap().clone();
    let mut providers = Vec::new();
    for cluster in &clusters {
        let options = cluster["typed_extension_protocol_options"].as_object().unwrap().values().next().unwrap();
        let Some(filters) = options["http_filters"].as_array() else {
            assert_eq!(cluster["name"], wire::SERVICE_CLUSTER);
            continue;
        };
        assert_eq!(filters.len(), 2);
        let wrapper = &filters[0]["typed_config"];
        assert!(wrapper["xds_matcher"]["matcher_list"]["matchers"][0]["predicate"].get("not_matcher").is_some());
        let (read, value, injector) = skipped(wrapper);
        assert_eq!((read, &value["exact"]), (&state(wire::LAST_HOP), &wire::LAST_HOP_PLATFORM.into()));
        assert_eq!((&injector["overwrite"], injector.get("allow_request_without_credential")), (&true.into(), None));
        let credential = &injector["credential"]["typed_config"]["credential"];
        let name = credential["name"].as_str().unwrap().to_owned();
        let path = format!("/etc/bulkhead/secrets/{name}.yaml");
        assert_eq!(credential["sds_config"]["path_config_source"]["path"], path);
        let example = repository().join(format!("envoy/standalone/secrets/{name}.yaml"));
        let example: Value = serde_saphyr::from_str(&std::fs::read_to_string(example).unwrap()).unwrap();
        assert_eq!(example["resources"][0]["name"], name);
        let key = &example["resources"][0]["generic_secret"]["secret"]["inline_string"];
        assert_eq!(key, "", "what is shipped is no key, and no word that could be sent as one");
        providers.push(name);
    }
    assert_eq!(providers, ["gpu-pool", "hosted"]);
}

#[test]
fn a_route_without_a_decision_leads_nowhere_and_none_is_retried() {
    for profile in Profile::ALL {
        let manager = manager(profile);
        let hosts = manager["route_config"]["virtual_hosts"].as_array().unwrap();
        assert_eq!(hosts.len(), 1);
        let (last, routes) = hosts[0]["routes"].as_array().unwrap().split_last().unwrap();
        assert_eq!(last["direct_response"]["status"], 404);
        for route in routes {
            assert!(route["match"]["headers"].to_string().contains(wire::ROUTE), "{}", route["name"]);
            assert!(route["route"].get("retry_policy").is_none());
            let to_service = route["route"]["cluster"] == wire::SERVICE_CLUSTER;
            let removes = route["request_headers_to_remove"].to_string().contains(wire::GRANT_HEADER);
            assert!(removes != to_service || profile == Profile::Portable, "{}: who sees the grant", route["name"]);
        }
        assert!(hosts[0].get("retry_policy").is_none());
        assert!(manager["route_config"]["request_headers_to_remove"].to_string().contains(wire::ROUTE));
    }
}

#[test]
fn filters_are_put_in_replaced_and_taken_out_in_both_texts() {
    for text in Profile::ALL.map(Profile::text) {
        let with = insert_filter_before(&text, "gate", "name: other\ntyped_config:\n  \"@type\": x\n");
        assert!(with.contains(
            "          - name: other\n            typed_config:\n              \"@type\": x\n          - name: gate\n"
        ));
        assert_eq!(without_filter(&with, "other"), text);
        let moved = move_filter_before(&text, "gateway", "blank");
        assert!(moved.len() == text.len() && moved.find("- name: gateway\n") < moved.find("- name: blank\n"));
        assert_eq!(nameless(&text).matches("x-bulkhead-proxy").count(), 0);
        assert!(whole(Profile::Inline).is_object() && serde_saphyr::from_str::<Value>(&nameless(&text)).is_ok());
        let instead = replace_filter(&text, "gateway", "name: other\n");
        assert!(!instead.contains("- name: gateway\n") && instead.contains("          - name: other\n\n"), "{instead}");
        assert!(
            !patient(&text, "5s").contains(" timeout: 0.25s")
                && patient_checks(&text, "5s").contains("connect_timeout: 0.25s")
        );
    }
}
