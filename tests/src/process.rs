//! Child processes of a test: logged to a file, stopped with their owner, never orphaned.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::process::Child;

use crate::runtime;

/// A running program; dropping it kills it, and so does the end of the test process.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    log: PathBuf,
    pid: u32,
    child: Mutex<Child>,
}

/// A signal by the name that POSIX gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Read the configuration again.
    Hup,
    /// End in order.
    Term,
    /// End at once.
    Kill,
    /// Hang.
    Stop,
    /// Go on.
    Cont,
}

impl Process {
    /// Starts a program; both its outputs go to `log`, after what is there.
    ///
    /// # Panics
    /// It cannot be started.
    pub async fn start(name: &'static str, program: &Path, arguments: &[String], log: &Path) -> Self {
        // killed when the thread that started it ends: that must be one of the runtime's own, which end with the process
        Self::start_through(&["setpriv", "--pdeathsig", "KILL", "--"], name, program, arguments, log).await
    }

    /// Starts a program in a session of its own, so that it can be [left](Self::leave); dropping it kills it all the same.
    ///
    /// # Panics
    /// It cannot be started.
    pub async fn start_apart(name: &'static str, program: &Path, arguments: &[String], log: &Path) -> Self {
        Self::start_through(&["setsid", "--"], name, program, arguments, log).await
    }

    async fn start_through(
        wrapper: &[&str],
        name: &'static str,
        program: &Path,
        arguments: &[String],
        log: &Path,
    ) -> Self {
        let out = File::options().create(true).append(true).open(log).expect("a log file");
        let mut command = tokio::process::Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(program).args(arguments).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(out.try_clone().expect("a log file")).stderr(out);
        let started = runtime().spawn(async move { command.spawn() }).await.expect("the runtime");
        let child = started.unwrap_or_else(|error| panic!("{name} cannot be started ({}): {error}", program.display()));
        let pid = child.id().expect("a process id");
        Self { name, log: log.into(), pid, child: Mutex::new(child) }
    }

    /// Lets it go on when its owner ends; only one that was started apart survives that.
    pub fn leave(self) {
        std::mem::forget(self);
    }

    /// What its owner calls it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// The process is gone.
    pub fn signal(&self, signal: Signal) {
        let name = match signal {
            Signal::Hup => "HUP",
            Signal::Term => "TERM",
            Signal::Kill => "KILL",
            Signal::Stop => "STOP",
            Signal::Cont => "CONT",
        };
        assert!(self.running(), "{} is gone:\n{}", self.name, self.tail());
        // the shell's own kill: a bare Debian has no other
        let sent = Command::new("sh").args(["-c", &format!("kill -s {name} {}", self.pid)]).status().expect("a shell");
        assert!(sent.success(), "{} got no SIG{name}", self.name);
        if signal == Signal::Stop {
            // Each thread stops when it next looks: on a busy machine that is not at once.
            while !self.stopped() {
                std::thread::yield_now();
            }
        }
    }

    fn stopped(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid)).expect("the process");
        tasks.flatten().all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
        })
    }

    /// Whether it runs (a stopped one does).
    #[must_use]
    pub fn running(&self) -> bool {
        matches!(self.child.lock().unwrap().try_wait(), Ok(None))
    }

    /// Waits until it has ended, and says how.
    ///
    /// # Panics
    /// It does not end within ten seconds.
    pub async fn ended(&self) -> std::process::ExitStatus {
        crate::eventually(self.name, async || self.child.lock().unwrap().try_wait().ok().flatten()).await
    }

    /// All that it wrote.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The end of what it wrote, for a failure's message.
    #[must_use]
    pub fn tail(&self) -> String {
        let end = read_tail(&self.log).unwrap_or_else(|error| error.to_string());
        let state = self.child.lock().unwrap().try_wait();
        let state = state.ok().flatten().map_or_else(|| "runs".into(), |status| status.to_string());
        format!("---- end of {} ({state}, {})\n{end}----", self.name, self.log.display())
    }

    /// CPU that it has used, user and system, in seconds (proc(5): clock ticks of a hundredth).
    ///
    /// # Panics
    /// The process is gone.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("the process");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok()).expect("a number");
        (ticks(11) + ticks(12)) as f64 / 100.0
    }

    /// Memory that it holds, in bytes.
    ///
    /// # Panics
    /// The process is gone.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }
}

fn read_tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(6000)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A free port below the range that outgoing connections take theirs from.
///
/// # Panics
/// All are taken.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let from = 20_000 + (std::process::id() % 60) as u16 * 200;
    (0..12_000)
        .map(|_| 20_000 + (from - 20_000 + NEXT.fetch_add(1, Ordering::SeqCst) % 12_000) % 12_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// A binary that `tests/run.sh` has built: next to the directory of the test binary itself.
///
/// # Panics
/// It is not there.
#[must_use]
pub fn built(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the path of this binary");
    let found = own.ancestors().skip(1).take(2).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("`{name}` is not built: run tests/run.sh, or `cargo build --bins`"))
}
