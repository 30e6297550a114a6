//! What the contexts of one VM share: a worker has one VM, and in it both root ids. Single-threaded; every borrow ends
//! within the callback that took it, and no host call is made under one that could call back in.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::rc::Rc;

use gateway_core::admission::Terms;
use gateway_core::denial::Denial;
use gateway_core::gate::{Header, LimitState};
use gpu_accounting::leases::{Pool, Ticket};
use gpu_accounting::outbox::Outbox;
use tenant_context::front::RequestKey;
use tenant_context::held::{HeldGrant, HeldGrants};
use tenant_context::revocations::Revocations;

use crate::cut::Cut;
use crate::host;
use crate::host::gate::Call;

/// A grant that streams of this worker hold, with its terms compiled once.
pub(crate) type Granted = HeldGrant<Rc<Terms>>;

/// One VM's state.
pub(crate) struct Shared {
    /// Names this VM to the service.
    pub(crate) id: [u8; 16],
    pub(crate) outbox: RefCell<Outbox>,
    pub(crate) pool: RefCell<Pool>,
    pub(crate) held: RefCell<HeldGrants<Rc<Terms>>>,
    pub(crate) revocations: RefCell<Revocations>,
    /// What the front knows of a stream, by the number in its mark, until the gateway's context takes it.
    pub(crate) fronts: RefCell<HashMap<u32, FrontPart>>,
    /// Streams that wait for a lease, by their context's id.
    pub(crate) waiting: RefCell<HashMap<u32, Rc<Wait>>>,
    /// Of these, the ones that are to be let go or answered, in order; and streams that are to be cut.
    pub(crate) due: RefCell<VecDeque<Due>>,
    /// Streams whose answers are cut at some time, the first first.
    pub(crate) cuts: RefCell<BTreeMap<(u64, u32), Rc<Cut>>>,
    /// Wakes the worker's root context.
    pub(crate) queue: Cell<Option<u32>>,
    /// Streams under an inline grant, from their headers to their end: they too must hear of revocations.
    pub(crate) under_way: Cell<u32>,
    /// The one call to the Gate that is under way, and its token.
    pub(crate) call: Cell<Option<(u32, Call)>>,
}

/// What the root `tenant-context` leaves for the root `gateway` of the same stream.
pub(crate) enum FrontPart {
    /// The service is being asked; its grant may be held under this key.
    Asked(RequestKey, String),
    /// Goes on with a held grant.
    Held(Rc<Granted>, String),
    /// Was refused.
    Refused(Denial),
}

/// A stream that waits for a lease, as the worker's root context sees it.
pub(crate) struct Wait {
    pub(crate) request_id: String,
    pub(crate) grant: Rc<Granted>,
    pub(crate) end: RefCell<Option<WaitEnd>>,
    /// The stream was let go, or answered.
    pub(crate) acted: Cell<bool>,
}

/// A stream that something is to be done to.
pub(crate) enum Due {
    /// Its waiting for a lease has ended; its context's id.
    Waited(u32),
    /// Its credential has.
    Over(Rc<Cut>),
}

/// How waiting ended.
pub(crate) enum WaitEnd {
    /// The request goes on; where limits stand, for the answer.
    Admitted(Ticket, Vec<LimitState>),
    /// It was answered, with these headers.
    Refused(Denial, Vec<Header>),
}

impl Shared {
    /// This VM's.
    pub(crate) fn of_this_vm() -> Rc<Self> {
        thread_local! {
            static SHARED: Rc<Shared> = Rc::new(Shared::new());
        }
        SHARED.with(Rc::clone)
    }

    fn new() -> Self {
        Self {
            id: random(),
            outbox: RefCell::default(),
            pool: RefCell::default(),
            held: RefCell::default(),
            revocations: RefCell::default(),
            fronts: RefCell::default(),
            waiting: RefCell::default(),
            due: RefCell::default(),
            cuts: RefCell::default(),
            queue: Cell::new(None),
            under_way: Cell::new(0),
            call: Cell::new(None),
        }
    }

    /// Whether somebody here relies on hearing of revocations.
    pub(crate) fn keep_alive(&self) -> bool {
        self.under_way.get() > 0 || !self.held.borrow().is_empty()
    }

    /// Somebody begins to rely on hearing of revocations: without fresh news the service is asked now.
    pub(crate) fn listen(&self, now_ms: u64) {
        if !self.revocations.borrow_mut().fresh(now_ms) {
            self.wake();
        }
    }

    /// Wakes the worker's root context: only there may the service be called.
    pub(crate) fn wake(&self) {
        if let Some(queue) = self.queue.get() {
            host::gate::wake(queue);
        }
    }
}

/// Random bytes from the host, by way of the standard library's hasher keys.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    for chunk in bytes.chunks_mut(8) {
        let word = RandomState::new().build_hasher().finish().to_le_bytes();
        chunk.iter_mut().zip(word).for_each(|(byte, drawn)| *byte = drawn);
    }
    bytes
}
