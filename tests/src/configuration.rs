//! The shipped Envoy configuration with its addresses and paths replaced, and nothing else; and what the tests ask of it.

use std::path::{Path, PathBuf};

/// What replaces the literal values that `envoy/standalone/portable.yaml` documents at its top.
#[derive(Clone, Debug)]
pub struct Places<'a> {
    /// Address of the first provider.
    pub upstream: std::net::SocketAddr,
    /// Address of the second provider.
    pub upstream_2: std::net::SocketAddr,
    /// The service's socket.
    pub proxies: &'a Path,
    /// The module.
    pub wasm: &'a Path,
    /// The access log.
    pub access_log: &'a Path,
}

/// Root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests' parent").to_owned()
}

/// The shipped text.
///
/// # Panics
/// It cannot be read.
#[must_use]
pub fn portable() -> String {
    std::fs::read_to_string(repository().join("envoy/standalone/portable.yaml")).expect("portable.yaml")
}

/// The text with its places: listeners on ports that the system chooses.
///
/// # Panics
/// A place does not stand in the text exactly once.
#[must_use]
pub fn placed(text: &str, places: &Places<'_>) -> String {
    placed_on(text, places, 0, 0)
}

/// The text with its places: listeners on these ports.
///
/// # Panics
/// A place does not stand in the text exactly once.
#[must_use]
pub fn placed_on(text: &str, places: &Places<'_>, gateway: u16, admin: u16) -> String {
    let port = |old: u16, new: u16| (format!("port_value: {old}}}"), format!("port_value: {new}}}"));
    let path = |key: &str, old: &str, new: &Path| (format!("{key}: {old}"), format!("{key}: {}", new.display()));
    let replacements = [
        port(10_000, gateway),
        port(9_901, admin),
        port(8_001, places.upstream.port()),
        port(8_002, places.upstream_2.port()),
        path("path", "/run/bulkhead/proxies.sock", places.proxies),
        path("filename", "/usr/lib/bulkhead/bulkhead.wasm", places.wasm),
        path("path", "/dev/stdout", places.access_log),
    ];
    replacements.iter().fold(text.to_owned(), |text, (old, new)| replaced(&text, old, new))
}

/// Replaces a text that must stand exactly once.
///
/// # Panics
/// It does not.
#[must_use]
pub fn replaced(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "`{old}` must stand once in the configuration");
    text.replacen(old, new, 1)
}

/// Gives the service more time to decide than the shipped quarter of a second, which a debug build on a busy machine needs
/// for megabytes or under load; for tests whose subject is another one.
///
/// # Panics
/// The shipped time does not stand in the text exactly once.
#[must_use]
pub fn patient(text: &str, time: &str) -> String {
    let old = "grpc_service:\n                envoy_grpc: {cluster_name: bulkhead-service}\n                timeout: ";
    replaced(text, &format!("{old}0.25s"), &format!("{old}{time}"))
}

/// Puts an HTTP filter (YAML at no indent, without its `- `) in front of another one, which is told by its `name`.
///
/// # Panics
/// There is no such filter.
#[must_use]
pub fn insert_filter_before(text: &str, name: &str, filter: &str) -> String {
    let mark = format!("          - name: {name}\n");
    let indented: Vec<String> = filter.trim_end().lines().map(|line| format!("            {line}\n")).collect();
    replaced(text, &mark, &format!("          - {}{mark}", indented.concat().trim_start()))
}

#[cfg(test)]
mod tests {
    use gateway_core::denial::Code;
    use gateway_core::wire;
    use serde_json::Value;

    use super::*;

    fn manager() -> Value {
        let whole: Value = serde_saphyr::from_str(&portable()).unwrap();
        whole["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"].clone()
    }

    fn filter(name: &str) -> Value {
        let manager = manager();
        let filters = manager["http_filters"].as_array().unwrap();
        filters.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no `{name}`"))["typed_config"].clone()
    }

    #[test]
    fn envoys_own_refusals_are_rows_of_the_table() {
        let mappers = manager()["local_reply_config"]["mappers"].as_array().unwrap().clone();
        assert!(mappers.len() > 10);
        assert!(mappers[0].get("status_code").or(mappers[0].get("body_format_override")).is_none(), "ours stay");
        for mapper in &mappers[1..] {
            let error = &mapper["body_format_override"]["json_format"]["error"];
            let code = Code::ALL.iter().find(|code| error["code"] == code.row().code);
            let row = code.unwrap_or_else(|| panic!("{} is not in the table", error["code"])).row();
            assert_eq!(error["message"], row.message, "{}", row.code);
            assert_eq!(error["type"], row.kind, "{}", row.code);
            assert_eq!(mapper["status_code"], row.status, "{}", row.code);
            assert_eq!(error["request_id"], "%REQ(X-REQUEST-ID)%");
            let fields: Vec<&String> = error.as_object().unwrap().keys().collect();
            assert_eq!(fields, ["code", "message", "param", "request_id", "type"]);
        }
    }

    #[test]
    fn names_and_limits_are_those_of_wire_rs() {
        let authz = filter(wire::EXT_AUTHZ);
        assert_eq!(authz["with_request_body"]["max_request_bytes"], wire::MAX_BODY_BYTES);
        assert_eq!(authz["failure_mode_allow"], false);
        assert_eq!(authz["grpc_service"]["envoy_grpc"]["cluster_name"], wire::SERVICE_CLUSTER);
        assert_eq!(authz["grpc_service"]["initial_metadata"][0]["key"], wire::PROXY);
        assert_eq!(authz["grpc_service"]["initial_metadata"][1]["key"], wire::SOURCE);
        let blanked = filter("blank")["metadata"][0].clone();
        assert_eq!(blanked["metadata_namespace"], wire::EXT_AUTHZ);
        for key in [wire::DECISION, wire::GRANT, wire::DENIAL, wire::LOG_TENANT, wire::LOG_MODEL, wire::LOG_CODE] {
            assert!(blanked["value"][key].is_string(), "{key} is not blanked");
        }
        let gate = filter("gate")["rules"]["policies"]["granted"]["principals"][0].clone();
        let matcher = &gate["sourced_metadata"]["metadata_matcher"];
        assert_eq!((&matcher["filter"], &matcher["path"][0]["key"]), (&wire::EXT_AUTHZ.into(), &wire::DECISION.into()));
        assert_eq!(matcher["value"]["string_match"]["exact"], wire::DECISION_ALLOW);
        let early = manager()["early_header_mutation_extensions"][0]["typed_config"]["mutations"].to_string();
        assert!(early.contains(&format!("\"prefix\":\"{}\"", wire::RESERVED_PREFIX)));
        let whole: Value = serde_saphyr::from_str(&portable()).unwrap();
        let buffer = &whole["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"];
        assert!(buffer.as_u64().unwrap() >= wire::MAX_BODY_BYTES + 256 * 1024);
    }

    #[test]
    fn a_route_without_a_decision_leads_nowhere_and_none_is_retried() {
        let manager = manager();
        let hosts = manager["route_config"]["virtual_hosts"].as_array().unwrap();
        assert_eq!(hosts.len(), 1);
        let (last, routes) = hosts[0]["routes"].as_array().unwrap().split_last().unwrap();
        assert_eq!(last["direct_response"]["status"], 404);
        for route in routes {
            assert!(route["match"]["headers"].to_string().contains(wire::ROUTE), "{}", route["name"]);
            assert!(route["route"].get("retry_policy").is_none());
        }
        assert!(hosts[0].get("retry_policy").is_none());
        assert!(manager["route_config"]["request_headers_to_remove"].to_string().contains(wire::ROUTE));
    }
}
