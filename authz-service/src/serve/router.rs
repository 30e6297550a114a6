//! Everything that proxies reach: gRPC and the data endpoints, behind the list of proxies that may ask.

use std::sync::Arc;

use axum::{Router, middleware};
use envoy_types::pb::envoy::service::auth::v3::authorization_server::AuthorizationServer;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer;

use super::proxies::{self, Listed};
use super::rate_limit::RateLimit;
use super::{Service, check, data, gate};
use crate::cli::ListedProxy;
use crate::gate_service::gate_server::GateServer;

/// Greatest gRPC message from a proxy: the body limit and room for headers beside it, in bytes.
const MAX_MESSAGE: usize = 6 * 1024 * 1024;

/// The proxies' router; each connection must say who its peer is ([`proxies::Peer`]).
///
/// # Errors
/// The descriptions of our own services do not decode.
pub(super) fn proxies(
    service: &Arc<Service>,
    listed: &[ListedProxy],
) -> Result<Router, tonic_reflection::server::Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(async move { reporter.set_service_status("", tonic_health::ServingStatus::Serving).await });
    let check = AuthorizationServer::new(check::Check(Arc::clone(service))).max_decoding_message_size(MAX_MESSAGE);
    let gate = GateServer::new(gate::Gate(Arc::clone(service))).max_decoding_message_size(MAX_MESSAGE);
    // Envoy's own services come without descriptions in `envoy-types`.
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(crate::GATE_DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let router = tonic::service::Routes::new(check)
        .add_service(gate)
        .add_service(RateLimitServiceServer::new(RateLimit::new(Arc::clone(service))))
        .add_service(health)
        .add_service(reflection)
        .into_axum_router()
        .merge(data::router(Arc::clone(service)));
    Ok(router.layer(middleware::from_fn_with_state(Arc::new(Listed(listed.to_vec())), proxies::guard)))
}
