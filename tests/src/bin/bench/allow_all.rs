//! The empty service of the column "Envoy's own": an ext_authz server that reads the call and allows it, and nothing else. A
//! process of its own, so that its CPU can be told.

use std::path::Path;

use envoy_types::pb::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use envoy_types::pb::google::rpc;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

struct AllowAll;

#[tonic::async_trait]
impl Authorization for AllowAll {
    async fn check(&self, _: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let status = Some(rpc::Status::default());
        Ok(Response::new(CheckResponse { status, ..CheckResponse::default() }))
    }
}

/// Serves until it is ended.
pub(crate) async fn serve(socket: &Path) -> anyhow::Result<()> {
    let listener = UnixListenerStream::new(UnixListener::bind(socket)?);
    let server = AuthorizationServer::new(AllowAll);
    Ok(tonic::transport::Server::builder().add_service(server).serve_with_incoming(listener).await?)
}
