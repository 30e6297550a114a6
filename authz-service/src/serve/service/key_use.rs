//! When API keys are used: noted as they are, written down every few seconds and at the end.

use super::Service;
use crate::store::Command;

/// Keys in one command, at most: others wait for none of them.
const AT_ONCE: usize = 1_000;

impl Service {
    /// A key was used at this time, milliseconds since 1970.
    pub(in crate::serve) fn used(&self, key_id: Option<&str>, at_ms: u64) {
        if let Some(id) = key_id.filter(|id| !id.is_empty()) {
            self.last_used.note(id, at_ms);
        }
    }

    /// Writes down what was noted. What cannot be written is tried again the next time.
    pub(in crate::serve) async fn keep_last_used(&self) {
        for used in self.last_used.unkept().chunks(AT_ONCE) {
            if self.write(Command::KeysUsed(used.to_vec())).await.is_err() {
                return;
            }
            self.last_used.kept(used);
        }
    }
}
