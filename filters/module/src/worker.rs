//! The root context: configuration, the worker's outbox, and the reports to the service.
//!
//! One per VM and root id. The main thread's VM ticks too but serves nothing, and so reports nothing.

use std::cell::RefCell;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::rc::Rc;

use gpu_accounting::outbox::{Outbox, Reporter};
use prost::Message as _;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use crate::config::Config;
use crate::host;
use crate::stream::Stream;

/// The root context of one worker.
pub(crate) struct Worker {
    id: Vec<u8>,
    configured: Option<Configured>,
    outbox: Rc<RefCell<Outbox>>,
    call: Option<u32>,
}

struct Configured {
    config: Rc<Config>,
    service: host::Service,
    /// Wakes the root context out of a stream's callback: only there may the service be called.
    queue: Option<u32>,
}

impl Worker {
    pub(crate) fn new() -> Self {
        Self { id: random_id(), configured: None, outbox: Rc::default(), call: None }
    }

    fn report(&mut self) {
        let Some(Configured { config, service, .. }) = &self.configured else { return };
        let by =
            Reporter { proxy: &config.proxy, worker: &self.id, epoch: 0, now_ms: host::now_ms(), keep_alive: false };
        let Some(report) = self.outbox.borrow_mut().report(&by) else { return };
        self.call = host::call_sync(service, &config.proxy, &report.encode_to_vec());
        if self.call.is_none() {
            self.outbox.borrow_mut().answered(false);
        }
    }
}

impl Context for Worker {
    fn on_grpc_call_response(&mut self, token: u32, status: u32, _size: usize) {
        if self.call != Some(token) {
            return;
        }
        self.call = None;
        self.outbox.borrow_mut().answered(status == 0);
        if status != 0 {
            log::warn!("the service did not take the report (gRPC status {status}): it is sent again");
        } else if self.outbox.borrow().is_urgent() {
            self.report();
        }
    }
}

impl RootContext for Worker {
    fn on_configure(&mut self, size: usize) -> bool {
        match Config::parse(&host::configuration(size)) {
            Ok(config) => {
                host::tick_every(config.sync_interval_ms.saturating_add(jitter(&self.id)));
                let service = host::Service::new(&config.service);
                let queue = host::register_queue(&self.id.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
                self.configured = Some(Configured { config: Rc::new(config), service, queue });
                true
            }
            Err(bad) => {
                log::error!("{bad}");
                false
            }
        }
    }

    fn on_tick(&mut self) {
        self.report();
    }

    fn on_queue_ready(&mut self, queue: u32) {
        while host::woken(queue) {}
        self.report();
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        let config = self.configured.as_ref().map(|configured| Rc::clone(&configured.config));
        let queue = self.configured.as_ref().and_then(|configured| configured.queue);
        Some(Box::new(Stream::new(config, Rc::clone(&self.outbox), queue)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// 16 random bytes from the host, by way of the standard library's hasher keys.
fn random_id() -> Vec<u8> {
    let word = || RandomState::new().build_hasher().finish().to_le_bytes();
    [word(), word()].concat()
}

/// Up to 63 ms, so that workers do not report in step.
fn jitter(id: &[u8]) -> u64 {
    u64::from(id.first().copied().unwrap_or_default() & 63)
}
