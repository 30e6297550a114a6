//! The shipped Envoy configurations with their addresses and paths replaced, and nothing else; and what the tests ask of them.

pub mod stand_in;

use std::path::{Path, PathBuf};

/// Where rooms 4 and 5 are (DESIGN section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// In the service.
    Portable,
    /// In Envoy.
    Inline,
}

impl Profile {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Portable, Self::Inline];

    /// The profile under test: `BULKHEAD_PROFILE`, or `portable`.
    ///
    /// # Panics
    /// There is no profile of that name.
    #[must_use]
    pub fn under_test() -> Self {
        let Some(name) = std::env::var_os("BULKHEAD_PROFILE") else { return Self::Portable };
        let found = Self::ALL.into_iter().find(|profile| name == profile.name());
        found.unwrap_or_else(|| panic!("BULKHEAD_PROFILE is `portable` or `inline`, not {name:?}"))
    }

    /// Its name, also of its file in `envoy/standalone/`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Inline => "inline",
        }
    }

    /// The shipped text.
    ///
    /// # Panics
    /// It cannot be read.
    #[must_use]
    pub fn text(self) -> String {
        let file = repository().join(format!("envoy/standalone/{}.yaml", self.name()));
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }
}

/// Whether a test that is about `portable` alone has nothing to look at in the profile under test; `why` is printed then.
#[must_use]
pub fn portable_only(why: &str) -> bool {
    let inline = Profile::under_test() == Profile::Inline;
    if inline {
        println!("not in profile `inline`: {why}");
    }
    inline
}

/// What replaces the literal values that the shipped texts document at their top.
#[derive(Clone, Debug)]
pub struct Places<'a> {
    /// Address of the first provider.
    pub upstream: std::net::SocketAddr,
    /// Address of the second provider.
    pub upstream_2: std::net::SocketAddr,
    /// The service's socket.
    pub proxies: &'a Path,
    /// The module.
    pub wasm: &'a Path,
    /// Directory of the SDS files with the platform's keys; `portable` has none.
    pub secrets: &'a Path,
    /// The access log.
    pub access_log: &'a Path,
}

/// Root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests' parent").to_owned()
}

/// The text with its places: listeners on ports that the system chooses.
///
/// # Panics
/// A place does not stand in the text as often as it should.
#[must_use]
pub fn placed(text: &str, places: &Places<'_>) -> String {
    placed_on(text, places, 0, 0)
}

/// The text with its places: listeners on these ports.
///
/// # Panics
/// A place does not stand in the text as often as it should.
#[must_use]
pub fn placed_on(text: &str, places: &Places<'_>, gateway: u16, admin: u16) -> String {
    let port = |old: u16, new: u16| (format!("port_value: {old}}}"), format!("port_value: {new}}}"));
    let path = |key: &str, old: &str, new: &Path| (format!("{key}: {old}"), format!("{key}: {}", new.display()));
    let once = [
        port(10_000, gateway),
        port(9_901, admin),
        port(8_001, places.upstream.port()),
        port(8_002, places.upstream_2.port()),
        path("path", "/run/bulkhead/proxies.sock", places.proxies),
        path("path", "/dev/stdout", places.access_log),
    ];
    let text = once.iter().fold(text.to_owned(), |text, (old, new)| replaced(&text, old, new));
    with_secrets(&with_wasm(&text, places.wasm), places.secrets)
}

/// The text with the module's path, once for each of its roots.
///
/// # Panics
/// It has no root, or one without the module.
#[must_use]
pub fn with_wasm(text: &str, wasm: &Path) -> String {
    let (old, roots) = ("filename: /usr/lib/bulkhead/bulkhead.wasm", text.matches("root_id: ").count());
    assert!(roots > 0 && text.matches(old).count() == roots, "`{old}` must stand once for each root");
    text.replace(old, &format!("filename: {}", wasm.display()))
}

/// The text with the directory of the platform's keys; one that has none stays as it is.
#[must_use]
pub fn with_secrets(text: &str, secrets: &Path) -> String {
    text.replace("path: /etc/bulkhead/secrets/", &format!("path: {}/", secrets.display()))
}

/// The text with client certificates, as `envoy/standalone/client-certificates.yaml` has them. `tls` is in the place of
/// /etc/bulkhead/tls, and gets the two SDS files as well.
///
/// # Panics
/// A place does not stand in the texts, or a file cannot be read or written.
#[must_use]
pub fn with_client_certificates(text: &str, tls: &Path) -> String {
    let shipped = repository().join("envoy/standalone");
    for name in ["gateway.yaml", "clients.yaml"] {
        let secret = std::fs::read_to_string(shipped.join("secrets").join(name)).expect("the SDS file");
        assert!(secret.contains("/etc/bulkhead/tls"), "{name}");
        std::fs::write(tls.join(name), secret.replace("/etc/bulkhead/tls", &tls.display().to_string())).expect(name);
    }
    let lines = std::fs::read_to_string(shipped.join("client-certificates.yaml")).expect("the lines");
    let lines: String = lines.split_inclusive('\n').filter(|line| !line.starts_with('#')).collect();
    replaced(text, "    - filters:\n", &with_secrets(&lines, tls))
}

/// Replaces a text that must stand exactly once.
///
/// # Panics
/// It does not.
#[must_use]
pub fn replaced(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "`{old}` must stand once in the configuration");
    text.replacen(old, new, 1)
}

/// Gives the service more time to decide and to lend than the shipped fractions of a second, which a debug build on a busy
/// machine needs for megabytes or under load; for tests whose subject is another one.
///
/// # Panics
/// The shipped time does not stand in the text, or `time` is no seconds.
#[must_use]
pub fn patient(text: &str, time: &str) -> String {
    let seconds: f64 = time.trim_end_matches('s').parse().expect("seconds");
    let lease = format!("\"profile\":\"inline\",\"leaseTimeoutMs\":{}", seconds * 1000.0);
    let text = patient_checks(text, time).replace("connect_timeout: 0.25s", &format!("connect_timeout: {time}"));
    text.replace("\"profile\":\"inline\"", &lease)
}

/// The same for every call of ext_authz alone, the last hop's too: leases are waited for as shipped.
///
/// # Panics
/// The shipped time does not stand in the text.
#[must_use]
pub fn patient_checks(text: &str, time: &str) -> String {
    let old = " timeout: 0.25s\n";
    assert!(text.contains(old), "`{old}` must stand in the configuration");
    text.replace(old, &format!(" timeout: {time}\n"))
}

/// Every ext_authz of the text, the last hop's too, lets pass what it could not ask about: what an operator might set.
///
/// # Panics
/// None says that it does not.
#[must_use]
pub fn fails_open(text: &str) -> String {
    let old = "failure_mode_allow: false";
    assert!(text.contains(old), "`{old}` must stand in the configuration");
    text.replace(old, "failure_mode_allow: true")
}

/// No ext_authz says which proxy asks.
///
/// # Panics
/// None did.
#[must_use]
pub fn nameless(text: &str) -> String {
    let name = "{key: x-bulkhead-proxy, value: edge-1}";
    assert!(text.contains(name), "`{name}` must stand in the configuration");
    let lines = text.split_inclusive('\n').filter(|line| line.trim() != format!("- {name}"));
    lines.collect::<String>().replace(&format!("{name}, "), "").replace(name, "")
}

/// Puts an HTTP filter (YAML at no indent, without its `- `) in front of another one, which is told by its `name`.
///
/// # Panics
/// There is no such filter.
#[must_use]
pub fn insert_filter_before(text: &str, name: &str, filter: &str) -> String {
    let mark = format!("          - name: {name}\n");
    replaced(text, &mark, &format!("{}{mark}", item(filter)))
}

/// Puts an HTTP filter, written as for [`insert_filter_before`], in another one's place.
///
/// # Panics
/// There is no such filter.
#[must_use]
pub fn replace_filter(text: &str, name: &str, filter: &str) -> String {
    let old = filter_text(text, name);
    replaced(text, &old, &item(filter))
}

/// Puts an HTTP filter in front of another one.
///
/// # Panics
/// One of them is not there.
#[must_use]
pub fn move_filter_before(text: &str, name: &str, other: &str) -> String {
    let (moved, mark) = (filter_text(text, name), format!("          - name: {other}\n"));
    replaced(&replaced(text, &moved, ""), &mark, &format!("{moved}{mark}"))
}

/// Takes an HTTP filter out.
///
/// # Panics
/// There is no such filter.
#[must_use]
pub fn without_filter(text: &str, name: &str) -> String {
    replaced(text, &filter_text(text, name), "")
}

/// The lines of an HTTP filter, up to the next one or the comment in front of it.
fn filter_text(text: &str, name: &str) -> String {
    let mark = format!("          - name: {name}\n");
    let (_, rest) = text.split_once(&mark).unwrap_or_else(|| panic!("no filter `{name}`"));
    let deeper = rest.lines().take_while(|line| line.starts_with("           "));
    deeper.fold(mark, |text, line| text + line + "\n")
}

/// YAML at no indent as an item of the filters' list.
fn item(filter: &str) -> String {
    let indented: Vec<String> = filter.trim_end().lines().map(|line| format!("            {line}\n")).collect();
    format!("          - {}", indented.concat().trim_start())
}

#[cfg(test)]
mod tests;
