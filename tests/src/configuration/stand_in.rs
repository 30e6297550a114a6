//! Filters of Envoy's own in the module's place, which say the module's words as a request's headers tell them: for tests of
//! what `inline.yaml` does with these words, whatever the module.

use super::{replace_filter, replaced};

/// The header that a test names the mark with (`wire::MARK`).
pub const MARK: &str = "x-test-mark";
/// The header that a test names the module's word to the last hop with (`wire::LAST_HOP`).
pub const LAST_HOP: &str = "x-test-last-hop";
/// The header that a test names the route with; it becomes `wire::ROUTE`, and a grant's header goes with it.
pub const ROUTE: &str = "x-test-route";

/// `inline.yaml` without its module. What the real one also does, and this does not: it takes the client's credential away
/// (and the text does so once more behind it).
///
/// # Panics
/// The text is not `inline.yaml`.
#[must_use]
pub fn with_stand_ins(text: &str) -> String {
    let front = filter("tenant-context", "wasm.bh_grant", MARK);
    let gateway = filter("gateway", "wasm.bh_last_hop", LAST_HOP);
    let text = replace_filter(&replace_filter(text, "tenant-context", &front), "gateway", &gateway);
    let last = "              - remove_on_match: {key_matcher: {prefix: x-gateway-inference-}}\n";
    let set = |name: &str, value: &str| {
        format!(
            "              - append: {{header: {{key: {name}, value: \"{value}\"}}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}}\n"
        )
    };
    let more = [set("x-bulkhead-route", &format!("%REQ({ROUTE})%")), set("x-bulkhead-grant", "handle")];
    replaced(&text, last, &format!("{last}{}", more.concat()))
}

fn filter(name: &str, key: &str, header: &str) -> String {
    format!(
        "\
name: {name}
typed_config:
  \"@type\": type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config
  on_request_headers:
  - object_key: {key}
    factory_key: envoy.string
    format_string: {{text_format_source: {{inline_string: \"%REQ({header})%\"}}, omit_empty_values: true}}
    skip_if_empty: true
"
    )
}
