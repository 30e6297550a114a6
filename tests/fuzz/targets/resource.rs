//! Resources: one YAML file beside one key set. It is a whole registry, which its kept form gives again, or every problem
//! names a place that exists.
#![no_main]

use std::path::Path;

use authz_service::resource::{Sources, from_sources};
use bulkhead_fuzz::PUBLIC;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let jwks = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": *PUBLIC}]}).to_string();
    let kept = json!({"resources": {"set.yaml": text}, "jwks": {"acme.json": jwks}});
    let sources = Sources::from_bytes(kept.to_string().as_bytes()).unwrap();
    // Nothing is there: a credential file that a set names is a problem.
    let dir = Path::new("/nonexistent");
    match from_sources(&sources, dir) {
        Ok(loaded) => {
            let again = Sources::from_bytes(&loaded.sources.to_bytes().unwrap()).unwrap();
            assert_eq!(again, loaded.sources);
            let again = from_sources(&again, dir).unwrap().registry;
            assert_eq!(format!("{:?}", again.version), format!("{:?}", loaded.registry.version));
            assert_registry(&loaded.registry);
        }
        Err(problems) => {
            // A carriage return ends a line of YAML too (YAML 1.2.2 §5.4); the end of the text may be a place of its own.
            let lines = 1 + text.bytes().filter(|byte| matches!(byte, b'\r' | b'\n')).count();
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(!problem.message.is_empty() && !problem.message.contains('\n'), "{problem}");
                assert!(problem.line as usize <= lines + 1, "{problem}");
            }
        }
    }
});

/// What decisions rely on.
fn assert_registry(registry: &authz_service::registry::Registry) {
    for (name, tenant) in &registry.tenants {
        assert_eq!(*name, tenant.name);
        assert!(tenant.plan.output_tokens > 0 && tenant.plan.choices > 0);
        assert!(tenant.plan.limits.iter().all(|limit| limit.amount > 0));
    }
    for endpoints in registry
        .endpoints
        .iter()
        .enumerate()
        .flat_map(|(at, one)| registry.endpoints.iter().skip(at + 1).map(move |two| (one, two)))
    {
        let (one, two) = endpoints;
        assert!(!one.template.overlaps(&two.template), "{} {}", one.template.as_str(), two.template.as_str());
    }
    for key in registry.keys.values() {
        assert!(registry.tenants.contains_key(&key.tenant));
    }
    for (url, trusting) in &registry.issuers {
        assert!(trusting.iter().all(|issuer| issuer.url == *url && registry.tenants.contains_key(&issuer.tenant)));
    }
    for provider in &registry.providers {
        assert!(provider.extra_fields.is_subset(&registry.extra_fields));
    }
}
