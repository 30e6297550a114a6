//! Answers under way that end with the credential that asked for them, where the tenant's policy says so.

use std::cell::Cell;
use std::rc::Rc;

use gateway_core::denial::{Code, Denial, Words};
use gateway_core::gate::Grant;

use crate::host;
use crate::shared::Shared;

/// One such request, as the worker's root context sees it.
pub(crate) struct Cut {
    /// When it is over, in milliseconds of the host's clock, and its stream context's id.
    at: (u64, u32),
    request_id: String,
    words: Words,
    answering: Cell<bool>,
    done: Cell<bool>,
}

/// The stream's own end of it: a stream that is over is not cut.
pub(crate) struct CutGuard {
    shared: Rc<Shared>,
    cut: Rc<Cut>,
}

impl CutGuard {
    /// Of a request that goes on under a grant received at `received_ms`; none where its answer may finish.
    pub(crate) fn new(shared: &Rc<Shared>, grant: &Grant, received_ms: u64, id: u32, request_id: &str) -> Option<Self> {
        let after_ms = Some(grant.cut_after_ms).filter(|after_ms| *after_ms > 0)?;
        let cut = Rc::new(Cut {
            at: (received_ms.saturating_add(after_ms), id),
            request_id: request_id.to_owned(),
            words: Words::from(grant.words.as_ref()),
            answering: Cell::new(false),
            done: Cell::new(false),
        });
        shared.cuts.borrow_mut().insert(cut.at, Rc::clone(&cut));
        Some(Self { shared: Rc::clone(shared), cut })
    }

    /// The answer's head has come.
    pub(crate) fn answers(&self) {
        self.cut.answering.set(true);
    }

    /// The request was cut: why.
    pub(crate) fn cut(&self) -> Option<Denial> {
        self.cut.done.get().then(denial)
    }
}

impl Drop for CutGuard {
    fn drop(&mut self) {
        self.shared.cuts.borrow_mut().remove(&self.cut.at);
    }
}

impl Cut {
    /// The stream context's id.
    pub(crate) const fn stream(&self) -> u32 {
        self.at.1
    }

    /// Ends the request: who waits for an answer is told, one that is under way breaks off. Within
    /// [`host::gate::on_stream`] alone.
    pub(crate) fn act(&self) {
        self.done.set(true);
        if self.answering.get() {
            host::gate::reset();
        } else {
            let denial = denial();
            host::refuse(&denial, &self.words.body(&denial, &self.request_id), &[]);
        }
    }
}

fn denial() -> Denial {
    Denial {
        challenge: Some("Bearer error=\"invalid_token\", error_description=\"The credential has expired\"".into()),
        ..Denial::new(Code::InvalidCredential).detail("It expired while the answer was awaited.")
    }
}
