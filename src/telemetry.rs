//! Logs and metrics of the process. Logs go to standard output: for people in development, JSON in production.
//! Metrics are recorded where things happen, with `metrics::counter!` and its like, and rendered here for Prometheus.
//! Labels never hold ids: their number must not grow with use.

mod described;
mod output;

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
pub use output::Output;
use tracing_subscriber::EnvFilter;

use crate::config::Config;

/// How often old samples are folded together.
pub const UPKEEP: Duration = Duration::from_secs(5);

/// Who is not heard unless the settings name him: NATS's client complains of each attempt, and what there is to say of one the
/// bus says itself.
const QUIET: &str = "async_nats=off";

/// How long the end waits for the log's reader.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Upper bounds of durations, in seconds.
const SECONDS: [f64; 13] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
/// Upper bounds of everything else that has a distribution: sizes of groups and queues.
const COUNTS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Starts logging as the settings say; a second call changes nothing.
pub fn start_logging(config: &Config) {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", config.log)).unwrap_or_else(|_| EnvFilter::new(format!("{QUIET},info")));
    // What the subscriber says of its own troubles would go to standard error, and panic when nobody reads that either.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false).with_writer(|| Output::standard().clone());
    let started = if config.is_production() {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    } else {
        builder.with_target(false).try_init()
    };
    if started.is_ok() {
        // Where it happened, not its words: they may quote what a user sent. The line is only queued: a hook that panics
        // itself, or waits, would take the node along.
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(place, "a thread panicked");
        }));
    }
}

/// Waits until what was logged has been written; not for a reader who does not read.
pub fn finish_logging() {
    Output::standard().flush_within(LAST_WORDS);
}

/// The process's metrics, recorded from the first call on.
pub fn recorder() -> &'static Recorder {
    static RECORDER: OnceLock<Recorder> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let builder = PrometheusBuilder::new();
        let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS);
        let builder = builder.and_then(|builder| builder.set_buckets(&COUNTS));
        let handle = builder.and_then(PrometheusBuilder::install_recorder);
        if let Err(error) = &handle {
            tracing::error!(%error, "metrics are not recorded");
        }
        described::describe();
        Recorder(handle.ok())
    })
}

/// What has been recorded.
pub struct Recorder(Option<PrometheusHandle>);

impl Recorder {
    /// Everything, in Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.as_ref().map(PrometheusHandle::render).unwrap_or_default()
    }

    /// Folds old samples together; called every [`UPKEEP`].
    pub fn upkeep(&self) {
        if let Some(handle) = &self.0 {
            handle.run_upkeep();
        }
    }
}
