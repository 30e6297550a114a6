//! A model provider for tests, quickstart and bench: OpenAI's chat completions and models endpoints over HTTP/1.1 and h2c.
//!
//! How it answers is said in the last user message (`[tokens=50] [drip=20ms]`, see [`Directives`]) or, for every request,
//! with [`Upstream::behave`]. What reached it is recorded, also what never arrived whole. It believes every credential.

mod answer;
mod control;
mod directives;
mod gzip;
mod record;
mod scripted;
mod serve;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use directives::{Cut, Directives, Hold};
pub use record::{Record, Seen};
pub use scripted::Scripted;

/// A running upstream; dropping it closes its ports and connections.
#[derive(Debug)]
pub struct Upstream {
    addr: SocketAddr,
    control: Option<SocketAddr>,
    state: Arc<State>,
    tasks: Vec<JoinHandle<()>>,
    closing: watch::Sender<bool>,
}

/// What the listener, its connections and the control port share.
#[derive(Debug)]
struct State {
    record: Record,
    behaviour: std::sync::Mutex<String>,
    script: std::sync::Mutex<Option<Scripted>>,
    /// Counts releases; a held request waits for the next.
    releases: watch::Sender<u64>,
    held: AtomicUsize,
    /// The models it lists; it serves any name.
    models: Vec<String>,
    /// Answers that are kept byte for byte: content type and body by name.
    answers: std::sync::Mutex<BTreeMap<String, (&'static str, Bytes)>>,
}

/// How to start an [`Upstream`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it serves; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where it is asked and told (`/_record`, `/_behave`, `/_release`, `/_held`), if at all.
    pub control: Option<SocketAddr>,
    /// Whether requests are recorded: off for the bench.
    pub record: bool,
    /// The models it lists.
    pub models: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        let models = ["gpt-4o", "gpt-4o-mini", "llama-3.1-8b"].map(String::from).to_vec();
        Self { listen: ([127, 0, 0, 1], 0).into(), control: None, record: true, models }
    }
}

/// Starts an upstream on the current runtime.
///
/// # Errors
/// The address cannot be bound.
pub async fn spawn(options: Options) -> std::io::Result<Upstream> {
    let listener = TcpListener::bind(options.listen).await?;
    let addr = listener.local_addr()?;
    let state = Arc::new(State {
        record: Record::new(options.record),
        behaviour: std::sync::Mutex::default(),
        script: std::sync::Mutex::default(),
        releases: watch::Sender::new(0),
        held: AtomicUsize::new(0),
        models: options.models,
        answers: std::sync::Mutex::default(),
    });
    let closing = watch::Sender::new(false);
    let mut tasks = vec![tokio::spawn(serve::run(listener, Arc::clone(&state), closing.subscribe()))];
    let mut control = None;
    if let Some(at) = options.control {
        let listener = TcpListener::bind(at).await?;
        control = Some(listener.local_addr()?);
        tasks.push(tokio::spawn(control::run(listener, Arc::clone(&state))));
    }
    Ok(Upstream { addr, control, state, tasks, closing })
}

impl Upstream {
    /// Where it serves.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it is asked and told, if that was wished for.
    #[must_use]
    pub fn control(&self) -> Option<SocketAddr> {
        self.control
    }

    /// Every request that reached it so far, in the order of their first bytes.
    #[must_use]
    pub fn record(&self) -> Vec<Seen> {
        self.state.record.all()
    }

    /// How connections ended that did not speak HTTP to the end.
    #[must_use]
    pub fn connection_errors(&self) -> Vec<String> {
        self.state.record.errors()
    }

    /// Forgets what was recorded.
    pub fn clear(&self) {
        self.state.record.clear();
    }

    /// Directives for every request from now on; those in a request's own message come after and win.
    pub fn behave(&self, directives: &str) {
        self.state.behave(directives);
    }

    /// Answers every request with this from now on, or by directives again.
    pub fn script(&self, script: Option<Scripted>) {
        *self.state.script.lock().unwrap() = script;
    }

    /// Keeps bytes to be answered, with status 200, to whoever says `[answer=NAME]`.
    ///
    /// # Panics
    /// Never: nothing panics with the lock held.
    pub fn keep_answer(&self, name: &str, content_type: &'static str, body: impl Into<Bytes>) {
        self.state.answers.lock().unwrap().insert(name.into(), (content_type, body.into()));
    }

    /// Lets every request go on that is held at this moment.
    pub fn release(&self) {
        self.state.release();
    }

    /// How many requests are held at this moment.
    #[must_use]
    pub fn held(&self) -> usize {
        self.state.held.load(Ordering::SeqCst)
    }

    /// Closes the port and cuts every connection; the record stays.
    pub fn stop(&mut self) {
        self.closing.send_replace(true);
        self.tasks.drain(..).for_each(|task| task.abort());
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop();
    }
}

impl State {
    fn behave(&self, directives: &str) {
        directives.clone_into(&mut self.behaviour.lock().unwrap());
    }

    fn release(&self) {
        self.releases.send_modify(|count| *count += 1);
    }

    /// Waits for the next release.
    async fn wait_for_release(&self) {
        struct Held<'a>(&'a AtomicUsize);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let mut releases = self.releases.subscribe();
        self.held.fetch_add(1, Ordering::SeqCst);
        let _held = Held(&self.held);
        let _ = releases.changed().await;
    }
}
