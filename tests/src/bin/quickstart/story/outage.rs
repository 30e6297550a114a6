//! The service hangs, as a frozen machine would: nothing passes, and nothing has to be repaired afterwards.

use bulkhead_tests::process::Signal;

use crate::stage::{Asked, Stage, says};

/// SIGSTOP, a request, SIGCONT, a request.
pub(super) async fn tell(stage: &mut Stage<'_>) {
    stage.page.chapter("When the service hangs: closed, never open");
    let hello = Asked::chat(&says("llama", "hello")).bearer(stage.keys.of("acme"));
    stage.service.process().signal(Signal::Stop);
    let answer = stage.send_once(&hello).await;
    stage.service.process().signal(Signal::Cont);
    let got = stage.outcome(&hello, &answer);
    stage.page.row("acme, API key", "chat while the service is stopped", "503 service_unavailable", &got);
    stage.row("acme, API key", "chat after it goes on", "200", &hello).await;
}
