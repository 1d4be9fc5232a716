//! All nodes are stopped and started again, one after the other, as a deployment does, behind a balancer that hands connections to
//! those that listen: no send fails, and everybody is back by himself.

use std::time::Duration;

use loadtest::rest::draft;
use loadtest::verify::read_log;
use loadtest::{Door, Socket};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use super::scene::through;
use super::tally::Tally;
use super::{Cluster, QUIET, accept, form, goes_on};
use crate::support::{Nodes, PATIENCE, World, balance, id};

/// In which the app tries five times.
const BACK_WITHIN: Duration = Duration::from_secs(8);
/// Of which each has one device.
const PEOPLE: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_is_noticed_by_nobody() {
    let form = form();
    for seed in form.seeds {
        let Some(cluster) = Cluster::start(3).await else { return };
        let addresses = cluster.0.lock().processes.iter().map(|node| node.address).collect();
        let (url, balancing) = balance(addresses).await;
        let verify = cluster
            .verify(|options| {
                options.seed = seed;
                options.nodes = vec![url];
                options.as_app = true;
                options.senders = PEOPLE;
            })
            .await;
        goes_on(&verify, 50).await;
        let (began, mut restarts) = (Instant::now(), 0);
        // Again and again all of them.
        while restarts % 3 > 0 || began.elapsed() < form.length {
            cluster
                .with(move |nodes| {
                    let node = &mut nodes.processes[restarts % 3];
                    assert!(node.terminate().success(), "the node did not stop well");
                    node.start_again();
                    node.until_ready();
                })
                .await;
            restarts += 1;
            // The next one is one that people use. Who has not come back by then does not.
            assert!(verify.all_connected(QUIET).await, "somebody stays away after {restarts} restarts");
        }
        let verdict = verify.judge(QUIET).await.unwrap();
        accept(&format!("12 rolling restart of three, {restarts} restarts"), seed, &verdict);
        assert_eq!(verdict.failed_calls, 0, "a call failed: {verdict}");
        assert!(verdict.longest_away < BACK_WITHIN.as_secs_f64(), "somebody was away for long: {verdict}");
        let ended = verdict.connections - PEOPLE;
        assert!(ended > 0, "nobody had to come back");
        // What is under way when a node drains is answered. What a client asks while the end is on its way to it is not read any more:
        // it tries again elsewhere. That is seldom.
        assert!(verdict.cut_off * 4 <= ended, "more was cut off than crosses the end of a socket: {verdict}");
        assert_eq!(verdict.stored_unanswered, 0, "a node did not answer what it had taken: {verdict}");
        assert_eq!(verdict.retries as usize, verdict.cut_off, "tried again without being cut off: {verdict}");
        balancing.abort();
    }
}

/// What a socket has asked of a node and takes its time is answered before the node ends.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_of_a_node_that_stops_is_answered() {
    let Some(mut nodes) = block_in_place(|| Nodes::start(1)) else { return };
    let stores = nodes.stores().await;
    let world = World::at(&nodes.processes[0].url());
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let place = world.direct(&ann, &ben).await;
    let mut tally = Tally::default();
    let mut acknowledged = Vec::new();
    for door in Door::ALL {
        block_in_place(|| nodes.add(&[("URGE_TEST_FAIL_POINT", "send.appended=slow")]));
        let mut node = nodes.processes.pop().unwrap();
        let socket = Socket::connect(&node.url(), &ann.account.access_token, door).await.unwrap();
        // From now on it knows the conversation.
        acknowledged.push(id(&through(&node, &ann).send_text(&place, &format!("before {door:?}"), None).await.unwrap()));
        let words = format!("through {door:?}");
        let asked = draft(&place, &words, Some(&words));
        let sending = tokio::spawn(async move { socket.call("message:sent", &asked).await });
        let began = Instant::now();
        while stores.log.rows_after(place.parse().unwrap(), 1, 100).await.unwrap().len() <= acknowledged.len() {
            assert!(began.elapsed() < PATIENCE, "it is not stored");
            // The store tells nobody.
            sleep(Duration::from_millis(10)).await;
        }
        assert!(!sending.is_finished(), "it is answered already: nothing keeps the node");
        node.signal("TERM");
        let answer = sending.await.unwrap().expect("a node that stops does not answer what it has taken");
        assert!(block_in_place(|| node.ended()).success());
        acknowledged.push(id(&answer));
    }
    let log: Vec<_> = read_log(&world.rest.as_account(&ben.account), &place).await.unwrap().into_iter().map(|row| row.id).collect();
    tally.log(&[&acknowledged], &log);
    tally.accept("12 a node that stops while a socket waits for its answer", "what was asked through each door is answered");
}
