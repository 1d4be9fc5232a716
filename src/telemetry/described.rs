//! Every metric there is, with what it counts: the `# HELP` of `/metrics`. A test holds the table to the code.

use metrics::{describe_counter, describe_gauge, describe_histogram};

/// What has only ever grown.
const COUNTERS: &[(&str, &str)] = &[
    ("urge_accept_errors_total", "Connections that could not be accepted for want of files or memory."),
    ("urge_bus_deaf_total", "Times that own words did not come back, and the bus was followed anew."),
    ("urge_bus_foreign_total", "Messages on the bus that were not understood, and skipped."),
    ("urge_bus_overlooked_total", "Users on other nodes of whom this one heard so late that their heads were read again."),
    ("urge_bus_tails_total", "Messages to nodes that say how far the numbers of those before have come."),
    ("urge_bus_gaps_total", "Times that messages of another node were found lost on their way here; the heads are read then."),
    ("urge_bus_live_messages_total", "Messages to other nodes for their sockets."),
    ("urge_bus_lost_total", "Messages that were not sent because the bus was away or slow."),
    ("urge_bus_presence_messages_total", "Messages to other nodes of who is here."),
    ("urge_bus_publish_failures_total", "Announcements that the bus did not take; what they told comes later, from the log."),
    ("urge_bus_repeated_total", "Messages that were sent once more when the bus was back, by kind."),
    ("urge_bus_slow_total", "Times that the bus found this node too slow."),
    ("urge_connections_refused_total", "Connections turned away: too many of their network, or in all."),
    ("urge_connections_stalled_total", "Connections cut off because their client did not read."),
    ("urge_events_dead_total", "Events that a worker could not work on, and that lie with the dead letters."),
    ("urge_events_done_total", "Events that a worker has worked on."),
    ("urge_events_failed_total", "Tries of a worker at an event that failed."),
    ("urge_events_publish_failures_total", "Events that the bus did not acknowledge in time."),
    ("urge_events_published_total", "Events that the bus has acknowledged."),
    ("urge_gate_refusals_total", "Requests refused at once because too much of their kind was under way."),
    ("urge_http_requests_total", "Requests answered."),
    ("urge_hub_gap_fills_total", "Gaps between events that were filled from the log."),
    ("urge_hub_heads_repaired_total", "Gaps of which nothing but the periodic repair knew."),
    (
        "urge_hub_views_left_out_total",
        "Conversations that were not shown to who should hear of them, by event and reason: he was out of it again (gone), or the store did not answer (failed).",
    ),
    ("urge_hub_rows_dropped_total", "Rows that came to live delivery when it was already past them."),
    ("urge_log_append_conflicts_total", "Appends that lost their place to another one and took the next."),
    ("urge_log_lines_dropped_total", "Lines of the log that were dropped because nobody read them."),
    ("urge_log_retries_total", "Steps of appends that were tried again because the store was away or full."),
    ("urge_log_rows_rolled_forward_total", "Rows of other appends that were found beyond the known head and taken in."),
    ("urge_log_unreadable_rows_total", "Rows that could not be read, and were passed over."),
    ("urge_outbox_drained_total", "Events of the outbox that the bus has taken."),
    ("urge_outbox_written_total", "Events that were written to the outbox, for the bus did not take them."),
    ("urge_search_indexed_messages_total", "Messages put into the search index."),
    ("urge_socket_commands", "Commands of sockets."),
    ("urge_sockets_closed", "Sockets closed, by reason."),
    ("urge_store_statements_total", "Statements to the cluster's store, a batch counting as one, by kind."),
];

/// What there is now.
const GAUGES: &[(&str, &str)] = &[
    ("urge_gate_waiting", "Work that waits for a place, by gate: it is put off while too much of its kind is under way."),
    ("urge_bus_connected", "Whether the connection to the bus is up and its stream is followed, by kind."),
    ("urge_bus_consumer_differs", "Settings of a worker's consumer that are not as they should be."),
    ("urge_bus_nodes", "Nodes of the cluster that live, for all that this one knows."),
    ("urge_bus_stream_differs", "Settings of a stream that are not as they should be."),
    ("urge_clock_skew_seconds", "How far this node's clock is ahead of the bus's, in seconds."),
    ("urge_clock_correction_seconds", "What this node takes off its clock, to go by that of the others, in seconds."),
    ("urge_connections", "Connections, those of sockets included."),
    ("urge_outbox_depth", "Events in the outbox, when this node last looked and had drained what it could."),
    ("urge_search_index_waiting", "Conversations that wait to be indexed."),
    ("urge_sockets", "Sockets that have been let in."),
];

/// What has a distribution.
const HISTOGRAMS: &[(&str, &str)] = &[
    ("urge_http_request_seconds", "How long requests took, in seconds."),
    ("urge_log_append_rows", "Rows written by one append."),
    ("urge_store_commit_writes", "Writes that shared one commit of the embedded store."),
];

/// Describes them to the recorder that is installed.
pub fn describe() {
    for &(name, what) in COUNTERS {
        describe_counter!(name, what);
    }
    for &(name, what) in GAUGES {
        describe_gauge!(name, what);
    }
    for &(name, what) in HISTOGRAMS {
        describe_histogram!(name, what);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// The names given to this macro below this folder.
    fn used(folder: &Path, call: &str, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                used(&path, call, names);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let calls = text.split(call).skip(1);
            let literals = calls.filter_map(|rest| Some(rest.trim_start().strip_prefix('"')?.split_once('"')?.0.to_owned()));
            names.extend(literals.filter(|name| name.starts_with("urge_")));
        }
    }

    #[test]
    fn every_metric_is_described_as_what_it_is() {
        for (call, described) in [("metrics::counter!(", COUNTERS), ("metrics::gauge!(", GAUGES), ("metrics::histogram!(", HISTOGRAMS)] {
            let mut names = BTreeSet::new();
            used(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), call, &mut names);
            assert_eq!(names, described.iter().map(|(name, _)| (*name).to_owned()).collect(), "{call}");
        }
    }
}
