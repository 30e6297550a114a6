//! The service's own log: JSON, one line an event, on standard error.
//!
//! Never holds a secret: our types print none, and of the libraries, whose debug output shows frames and headers, only
//! `info` and above is written.

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

/// The environment variable that sets the level, as in `info` or `info,authz_service::decide=debug`.
pub const VARIABLE: &str = "BULKHEAD_LOG";
const DEFAULT: &str = "info";

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The variable's value is none.
    #[error("environment variable `{VARIABLE}`: `{value}` is no level or filter")]
    Filter {
        /// Its value.
        value: String,
    },
    /// Logging was started before.
    #[error("logging was started before")]
    Twice,
}

/// Starts logging for this process.
///
/// # Errors
/// [`LogError`].
pub fn init() -> Result<(), LogError> {
    let value = std::env::var(VARIABLE).ok().filter(|value| !value.is_empty());
    let subscriber = subscriber(value.as_deref().unwrap_or(DEFAULT), std::io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)
}

fn subscriber<W>(filter: &str, writer: W) -> Result<impl Subscriber + Send + Sync, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let asked = EnvFilter::builder().parse(filter).map_err(|_| LogError::Filter { value: filter.to_owned() })?;
    let ours = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("authz_service", LevelFilter::TRACE)
        .with_target("gateway_core", LevelFilter::TRACE);
    let json =
        tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
    Ok(tracing_subscriber::registry().with(json.with_writer(writer).with_filter(asked.and(ours))))
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(filter: &str, log: impl FnOnce()) -> Vec<serde_json::Value> {
        let written = Written::default();
        let writer = written.clone();
        tracing::subscriber::with_default(subscriber(filter, move || writer.clone()).unwrap(), log);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn an_event_is_one_json_line_whatever_is_in_it() {
        let lines = lines("info", || tracing::info!(tenant = "acme\n{\"level\":\"ERROR\"}", count = 3, "loaded"));
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["message"], "loaded");
        assert_eq!(lines[0]["tenant"], "acme\n{\"level\":\"ERROR\"}");
        assert_eq!((&lines[0]["level"], &lines[0]["count"]), (&"INFO".into(), &3.into()));
    }

    #[test]
    fn libraries_never_write_below_info() {
        let lines = lines("trace", || {
            tracing::debug!(target: "h2::codec", headers = "authorization: Bearer x", "send");
            tracing::trace!(target: "hyper::proto", "x");
            tracing::info!(target: "tonic", "started");
            tracing::debug!("ours");
        });
        let said: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!(said, ["started", "ours"]);
    }

    #[test]
    fn a_filter_that_is_none_is_refused() {
        assert!(matches!(subscriber("authz_service=loud", io::sink), Err(LogError::Filter { .. })));
        assert!(subscriber("warn,authz_service::decide=debug", io::sink).is_ok());
    }
}
