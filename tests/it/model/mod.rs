//! The append protocol, explored exhaustively: every order of steps, crashes, lost answers and late writes within bounds.
//! With any one guarantee switched off the exploration must find a counterexample: that shows that the properties bite.

mod protocol;

use std::sync::Arc;

use protocol::{Guarantee, Protocol, Witness};
use stateright::{Checker, HasDiscoveries, Model};

/// The same message from two nodes, and another one in between.
fn one_message_twice() -> Protocol {
    protocol(&[&[0], &[0], &[1]], &[true, false], 1, 1)
}

/// A batch of two, and one of the two alone from another node.
fn batch_and_single() -> Protocol {
    protocol(&[&[0, 1], &[0]], &[true, true], 2, 1)
}

fn protocol(attempts: &[&[u8]], named: &[bool], crashes: u8, timeouts: u8) -> Protocol {
    let attempts = attempts.iter().map(|batch| batch.to_vec()).collect();
    Protocol { attempts, named: named.to_vec(), crashes, timeouts, without: None, whole: false, seen: Arc::default() }
}

/// Explores everything; nothing may be found but the examples that must exist.
fn explore(protocol: &Protocol) {
    let checker = protocol.clone().checker().threads(2).spawn_bfs().join();
    assert!(checker.is_done(), "the exploration ended early");
    println!("{} states, depth {}", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

#[test]
fn one_message_from_two_nodes_among_others() {
    let protocol = one_message_twice();
    explore(&protocol);
    for witness in Witness::STEPS {
        assert!(protocol.has_seen(witness), "{witness:?} was never reached");
    }
}

#[test]
fn a_batch_and_one_of_its_messages_alone() {
    explore(&batch_and_single());
}

#[test]
fn three_attempts_of_one_message() {
    explore(&protocol(&[&[0], &[0], &[0]], &[true], 2, 2));
}

#[test]
fn two_named_messages_that_compete() {
    explore(&protocol(&[&[0], &[0], &[1]], &[true, true], 1, 1));
}

/// The same in one transaction first, and step by step where that is refused.
fn whole(base: Protocol) -> Protocol {
    Protocol { whole: true, ..base }
}

#[test]
fn in_one_transaction_first() {
    let protocol = whole(one_message_twice());
    explore(&protocol);
    for witness in [Witness::AppendedWhole, Witness::WholeRefused, Witness::LateRows, Witness::FoundInRows] {
        assert!(protocol.has_seen(witness), "{witness:?} was never reached");
    }
    explore(&whole(batch_and_single()));
    explore(&whole(self::protocol(&[&[0], &[0], &[0]], &[true], 2, 2)));
}

#[test]
fn with_a_transaction_that_does_not_ask_for_locations_a_message_is_doubled() {
    breaks(whole(one_message_twice()), Guarantee::WholeUnlocated, "no message stands twice in the log");
}

/// The counterexample that must exist when a guarantee is missing.
fn breaks(base: Protocol, without: Guarantee, property: &'static str) {
    let checker = Protocol { without: Some(without), ..base }.checker().threads(2);
    let checker = checker.finish_when(HasDiscoveries::AnyOf([property].into())).spawn_bfs().join();
    assert!(checker.discovery(property).is_some(), "without {without:?} nothing was found");
}

#[test]
fn without_the_floor_a_message_is_doubled() {
    breaks(one_message_twice(), Guarantee::Floor, "no message stands twice in the log");
}

#[test]
fn with_a_floor_that_nobody_waited_for_a_message_is_doubled() {
    breaks(one_message_twice(), Guarantee::FloorAwaited, "no message stands twice in the log");
}

#[test]
fn with_the_location_read_before_the_head_a_message_is_doubled() {
    breaks(one_message_twice(), Guarantee::HeadBeforeLocation, "no message stands twice in the log");
}

#[test]
fn without_the_rows_from_the_floor_a_message_is_doubled() {
    breaks(one_message_twice(), Guarantee::RowsFromFloor, "no message stands twice in the log");
}

#[test]
fn with_the_next_number_after_a_timeout_the_log_has_a_gap() {
    breaks(one_message_twice(), Guarantee::SameNumber, "the log has no gap");
}

#[test]
fn with_the_next_number_after_a_timeout_a_message_is_doubled() {
    breaks(one_message_twice(), Guarantee::SameNumber, "no message stands twice in the log");
}

#[test]
fn with_a_batch_settled_by_one_of_its_rows_an_answer_is_a_lie() {
    breaks(batch_and_single(), Guarantee::OneByOne, "an answered message stands where the answer says");
}

#[test]
fn without_monotone_heads_they_go_back() {
    breaks(one_message_twice(), Guarantee::MonotoneHeads, "heads never go back");
}

#[test]
fn without_the_heads_before_the_answer_they_lag_behind_it() {
    breaks(one_message_twice(), Guarantee::HeadsBeforeAnswer, "heads cover every answered message");
}
