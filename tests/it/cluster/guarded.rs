//! Three NATS servers as `nats/server/` says, with TLS and logins, and three copies of each stream: one of them may end.

use std::sync::Arc;
use std::time::Duration;

use loadtest::Door;
use serde_json::json;

use super::Cluster;
use crate::support::cluster::OwnServers;

/// How long what is sent while a server ends or comes may be on its way: servers that miss their leader wait 4 to 9 s before they choose
/// another (nats-server's `minElectionTimeout` and `maxElectionTimeout`), and begin again when they do not agree.
const CHOOSING: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn one_server_of_three_may_end() {
    let options = ["--only", "nats", "--nats", "3", "--tls"];
    let started = tokio::task::spawn_blocking(move || OwnServers::start("nats-cluster", &options)).await.unwrap();
    let Some(own) = started.map(Arc::new) else { return };
    let guarded = own.servers.guarded.as_ref().unwrap();
    let servers = own.servers.nats.iter().map(|server| format!("tls://{server}")).collect();
    let cluster = Cluster::at(servers, 2, |settings| {
        settings.login = Some(("urge".to_owned(), guarded.urge.clone()));
        settings.ca = Some(guarded.ca.clone());
        settings.replicas = 3;
    });
    let cluster = cluster.await;
    let (ann, ben) = (cluster.worlds[0].person("Ann").await, cluster.worlds[1].person("Ben").await);
    let place = cluster.worlds[0].direct(&ann, &ben).await;
    let (phone, mut peer) = (cluster.connect(0, &ann, Door::WebSocket).await, cluster.connect(1, &ben, Door::WebSocket).await);
    let say = async |number: usize| {
        let command = json!({"conversationId": place, "content": number.to_string(), "clientMessageId": number.to_string()});
        phone.call("message:sent", &command).await.unwrap();
    };
    let (mut said, mut heard) = (0, 0);
    for server in ["nats-1", "nats-2", "nats-3"] {
        for what in ["kill", "restart"] {
            let own = Arc::clone(&own);
            let told = tokio::task::spawn_blocking(move || own.tell(what, server));
            while !told.is_finished() {
                say(said).await;
                said += 1;
            }
            told.await.unwrap();
            for _ in 0..10 {
                say(said).await;
                said += 1;
            }
            // Each once and in order, whatever the servers do.
            while heard < said {
                let event = peer.next_event("message:received", CHOOSING).await;
                let event = event.unwrap_or_else(|error| panic!("{what} {server}, {said} said, {heard} heard: {error:?}"));
                assert_eq!(event["content"], heard.to_string(), "{what} {server}");
                heard += 1;
            }
        }
        // What is not written down passes again too, as soon as all are connected: until then it is lost.
        cluster.all_know(&ann, true).await;
        let mut tries = 0;
        while peer.next_event("typing:start", Duration::from_secs(1)).await.is_err() {
            assert!(tries < 10, "{server}");
            tries += 1;
            for what in ["typing:stop", "typing:start"] {
                phone.call(what, &json!({"conversationId": place})).await.unwrap();
            }
        }
    }
    cluster.stop().await;
}
