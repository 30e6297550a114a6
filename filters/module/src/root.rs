//! The root contexts: one for each of the module's root ids in each VM. Reads the configuration, makes the streams' contexts.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use crate::config::{Config, Profile};
use crate::front::Front;
use crate::host;
use crate::shared::Shared;
use crate::stream::Stream;
use crate::worker::Worker;

/// A root context; until it is configured its streams are refused.
pub(crate) struct Root {
    id: u32,
    shared: Rc<Shared>,
    role: Role,
}

enum Role {
    Unconfigured,
    /// `tenant-context`
    Front(Rc<Config>),
    /// `gateway`
    Gateway(Rc<Config>, Worker),
}

impl Root {
    pub(crate) fn new(id: u32) -> Self {
        Self { id, shared: Shared::of_this_vm(), role: Role::Unconfigured }
    }

    fn worker(&mut self) -> Option<&mut Worker> {
        match &mut self.role {
            Role::Gateway(_, worker) => Some(worker),
            Role::Unconfigured | Role::Front(_) => None,
        }
    }
}

impl Context for Root {
    fn on_grpc_call_response(&mut self, token: u32, status: u32, size: usize) {
        if let Some(worker) = self.worker() {
            worker.answered(token, status, size);
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let config = match Config::parse(&host::configuration(size)) {
            Ok(config) => Rc::new(config),
            Err(bad) => {
                log::error!("{bad}");
                return false;
            }
        };
        self.role = match host::root_id().as_str() {
            "tenant-context" if config.profile == Profile::Inline => Role::Front(config),
            "tenant-context" => {
                log::error!("the root id `tenant-context` belongs to profile `inline`: write \"profile\":\"inline\"");
                return false;
            }
            _ => Role::Gateway(Rc::clone(&config), Worker::start(self.id, config, Rc::clone(&self.shared))),
        };
        true
    }

    fn on_tick(&mut self) {
        if let Some(worker) = self.worker() {
            worker.tick();
        }
    }

    fn on_queue_ready(&mut self, queue: u32) {
        while host::gate::woken(queue) {}
        if let Some(worker) = self.worker() {
            worker.woken();
        }
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        let shared = Rc::clone(&self.shared);
        Some(match &self.role {
            Role::Front(config) => Box::new(Front::new(id, Rc::clone(config), shared)),
            Role::Gateway(config, _) => Box::new(Stream::new(id, Some(Rc::clone(config)), shared)),
            Role::Unconfigured => Box::new(Stream::new(id, None, shared)),
        })
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
