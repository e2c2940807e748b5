//! Logs: one JSON object a line on standard output, where Fly collects them.

use tracing_subscriber::EnvFilter;

/// Starts logging; `RUST_LOG` chooses what, `info` when it is not set. A second call is refused and
/// changes nothing.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_env_filter(filter)
        .with_writer(std::io::stdout)
        .try_init();
}
