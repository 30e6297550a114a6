//! Envoy's `RateLimitService/ShouldRateLimit`, a translation of the ledger for data planes that run no module.
//!
//! A descriptor without `cost` admits a request, one with `cost` charges what was measured; docs/runbooks/rate-limit.md
//! has the table. What it counts is durable before the answer leaves. What cannot be decided is answered OVER_LIMIT,
//! never UNKNOWN and never an error: a filter that fails open would let those pass.

mod answer;
mod ask;
mod book;
mod count;
mod who;

use std::sync::Arc;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use gateway_core::denial::{Code, Denial};
use gateway_core::wire;
use tonic::{Request, Response, Status};

use self::answer::Verdict;
use self::ask::{Ask, What};
use self::book::Book;
use self::count::Counting;
use super::Service;
use crate::store::Command;

/// The domain that Envoy's filter must be set to.
const DOMAIN: &str = "bulkhead";
/// Greatest number of descriptors in one call.
const MOST: usize = 64;

/// The rate limit service.
pub(super) struct RateLimit {
    service: Arc<Service>,
    book: Book,
}

impl RateLimit {
    /// Nothing charged yet, so that nothing can be given back.
    pub(super) fn new(service: Arc<Service>) -> Self {
        Self { service, book: Book::default() }
    }

    async fn answer(&self, proxy: &str, asked: &RateLimitRequest) -> RateLimitResponse {
        let asks = match read(proxy, asked) {
            Ok(asks) => asks,
            Err(why) => {
                tracing::error!(proxy, why, "a rate limit call that says nothing: it is answered OVER_LIMIT");
                let denial = Denial::new(Code::Internal).detail(why);
                return answer::response(vec![Verdict::denied(denial); asked.descriptors.len()]);
            }
        };
        let mut counting = Counting::new(&self.service, &self.book, proxy, self.service.now());
        let verdicts: Vec<Verdict> = asks.iter().map(|ask| counting.count(ask, &asks)).collect();
        let Counting { commands, settled, .. } = counting;
        if !commands.is_empty() && self.service.write(Command::Batch(commands)).await.is_err() {
            // It stays counted in memory, and is said not to be: never understated.
            return answer::response(vec![Verdict::denied(Code::ServiceUnavailable.into()); asks.len()]);
        }
        settled.into_iter().for_each(|id| self.service.ledger.confirm(id));
        answer::response(verdicts)
    }
}

#[tonic::async_trait]
impl RateLimitService for RateLimit {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let (metadata, _, asked) = request.into_parts();
        let proxy = metadata.get(wire::PROXY).and_then(|id| id.to_str().ok()).unwrap_or_default();
        let answer = self.answer(proxy, &asked).await;
        self.service.metrics().rate_limited(answer::is_over(&answer));
        Ok(Response::new(answer))
    }
}

/// The questions of a call: all of them, or why there are none.
fn read(proxy: &str, asked: &RateLimitRequest) -> Result<Vec<Ask>, String> {
    if proxy.is_empty() {
        return Err(format!("no metadata `{}`: the proxy does not say who it is", wire::PROXY));
    }
    if asked.domain != DOMAIN {
        return Err(format!("domain `{}` is not `{DOMAIN}`", asked.domain.escape_debug()));
    }
    if asked.descriptors.is_empty() || asked.descriptors.len() > MOST {
        return Err(format!("{} descriptors: 1 to {MOST} are read", asked.descriptors.len()));
    }
    let asks: Result<Vec<Ask>, String> =
        asked.descriptors.iter().map(|descriptor| ask::read(descriptor, asked.hits_addend)).collect();
    let asks = asks?;
    for ask in &asks {
        let half = |what| asks.iter().filter(|other| other.whom == ask.whom && other.what == what).count();
        let usage = matches!(ask.what, What::InputTokens | What::OutputTokens);
        if usage && (half(What::InputTokens), half(What::OutputTokens)) != (1, 1) {
            return Err("`input_tokens` and `output_tokens` go together, once each".to_owned());
        }
    }
    Ok(asks)
}
