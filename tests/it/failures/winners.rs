//! Of many who want the same at once, through four nodes, one wins: a DIRECT conversation begins once, a number is one account's, a
//! code, a new password and a ticket are used once, guesses are counted, and one refresh token is as good everywhere.

mod codes;

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use loadtest::socket::{ConnectError, Event};
use loadtest::verify::{read_log, told};
use loadtest::{Auth, Door, Options, Rest, RestError};
use serde_json::{Value, json};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};
use urge::log::{Body, MemberState};

use super::tally::Tally;
use super::{is_long, report, unless_busy};
use crate::support::{Nodes, PASSWORD, PATIENCE, Person, World};

/// People who are made side by side.
const TOGETHER: usize = 32;
/// Pairs who begin their conversation side by side.
const PAIRS_TOGETHER: usize = 8;
/// Revocation reaches every node within a second, with threefold slack.
const REVOKED: Duration = Duration::from_secs(3);

/// Four nodes and a client of each.
struct Four {
    nodes: Nodes,
    worlds: Vec<World>,
}

/// What became of the requests of one race.
#[derive(Debug, Default)]
struct Race {
    won: Vec<Value>,
    /// By status.
    refused: Vec<RestError>,
}

impl Race {
    fn ends(&mut self, answer: Result<Value, RestError>) {
        match answer {
            Ok(answer) => self.won.push(answer),
            Err(error) => self.refused.push(error),
        }
    }

    fn with(&self, status: u16) -> usize {
        self.refused.iter().filter(|error| error.status() == status).count()
    }

    /// Everybody was answered: who lost, with one of these, and who came too soon with 429 or 503 and when to come again.
    fn lost_with(&self, statuses: &[u16]) {
        for error in &self.refused {
            let status = error.status();
            assert!(statuses.contains(&status) || [429, 503].contains(&status), "{error}");
            let refusal = error.refusal().unwrap();
            assert!(refusal.is_envelope && (statuses.contains(&status) || refusal.retry_after_s.is_some()), "{error}");
        }
    }
}

impl Four {
    fn rest(&self, n: usize) -> &Rest {
        &self.worlds[n % self.worlds.len()].rest
    }

    fn through(&self, n: usize, person: &Person) -> Rest {
        self.rest(n).as_account(&person.account)
    }

    /// So many people, made through all nodes.
    async fn people(&self, count: usize) -> Vec<Person> {
        let worlds = &self.worlds;
        let making = (0..count).map(|n| async move {
            let (world, name) = (&worlds[n % worlds.len()], format!("Person {n}"));
            unless_busy(async || world.try_person(&name).await).await
        });
        futures_util::stream::iter(making).buffered(TOGETHER).collect().await
    }

    /// Posts what `body` says to one node after the other, all at once.
    async fn race(&self, count: usize, path: &str, body: impl Fn(usize) -> Value) -> Race {
        let mut race = Race::default();
        self.answers(count, path, body).await.for_each(|answer| race.ends(answer));
        race
    }

    /// The same, as each was answered.
    async fn answers(&self, count: usize, path: &str, body: impl Fn(usize) -> Value) -> impl Iterator<Item = Result<Value, RestError>> {
        let posts = (0..count).map(|n| {
            let (rest, body) = (self.rest(n).clone(), body(n));
            async move { rest.post(path, &body).await }
        });
        join_all(posts).await.into_iter()
    }

    /// The code that this node sends to this number, to which it has sent none so far.
    async fn send_code(&self, node: usize, path: &str, phone: &str) -> String {
        let (process, words) = (&self.nodes.processes[node], format!("phone={phone} code="));
        assert!(!process.has_logged(&words), "node {node} has sent {phone} a code before");
        unless_busy(async || self.rest(node).post(path, &json!({"phone_number": phone})).await).await;
        let line = block_in_place(|| process.logged(&words));
        line.split_once(&words).unwrap().1[..6].to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_wins() {
    let Some(nodes) = tokio::task::spawn_blocking(|| Nodes::start(4)).await.unwrap() else { return };
    let worlds = nodes.urls().iter().map(|url| World::at(url)).collect();
    let four = Four { nodes, worlds };
    let times = if is_long() { 5 } else { 1 };
    for _ in 0..times {
        conversations_begin_once(&four).await;
        messages_are_stored_once(&four).await;
        numbers_have_one_account(&four).await;
        refresh_tokens_show_a_theft(&four).await;
        codes::guesses_are_counted(&four).await;
        codes::the_right_guess_wins_once_or_is_not_compared(&four).await;
        codes::codes_are_used_once(&four).await;
        codes::passwords_are_reset_once(&four).await;
        tickets_open_one_socket(&four).await;
    }
}

async fn conversations_begin_once(four: &Four) {
    let (people, began) = (four.people(200).await, Instant::now());
    let log = four.nodes.stores().await.log;
    let pairs = people.chunks(2).map(async |pair| {
        let [ann, ben] = pair else { unreachable!() };
        let made = join_all((0..4).map(|n| async move {
            let (maker, peer) = if n % 2 == 0 { (ann, ben) } else { (ben, ann) };
            unless_busy(async || four.through(n, maker).create_direct(peer.id()).await).await
        }));
        let made = made.await;
        let id = made[0]["id"].as_str().unwrap().to_owned();
        for (n, conversation) in made.iter().enumerate() {
            let peer = if n % 2 == 0 { ben } else { ann };
            assert_eq!((&conversation["id"], &conversation["name"]), (&json!(id), &json!(peer.name)));
            assert_eq!((&conversation["type"], &conversation["participantCount"]), (&json!("DIRECT"), &json!(2)));
        }
        let place = id.parse().unwrap();
        let rows = log.rows_after(place, 0, 10).await.unwrap();
        assert!(matches!(rows.as_slice(), [row] if row.seq == 1 && matches!(row.body, Body::Created(_))), "{rows:?}");
        let members = log.members(place, None, 10).await.unwrap();
        assert!(members.len() == 2 && members.iter().all(|member| member.state == MemberState::Active), "{members:?}");
        for (n, person) in [ann, ben].into_iter().enumerate() {
            let list = unless_busy(async || four.through(n, person).conversations().await).await;
            assert_eq!((&list["total"], &list["conversations"][0]["id"]), (&json!(1), &json!(id)));
        }
        // And it goes on, from whichever node.
        let sent = join_all((0..4).map(|n| {
            let rest = four.through(n, if n % 2 == 0 { ann } else { ben });
            let (id, name) = (&id, format!("hello {n}"));
            async move { told(&unless_busy(async || rest.send_text(id, &name, Some(&name)).await).await) }
        }));
        let sent = sent.await;
        let mut seqs: Vec<_> = sent.iter().map(|sent| sent.seq).collect();
        seqs.sort_unstable();
        assert_eq!(seqs, [2, 3, 4, 5]);
        (sent, unless_busy(async || read_log(&four.through(1, ann), &id).await).await)
    });
    let mut tally = Tally::default();
    for (sent, stored) in futures_util::stream::iter(pairs).buffer_unordered(PAIRS_TOGETHER).collect::<Vec<_>>().await {
        // Nobody waits for the others.
        tally.log(&sent.chunks(1).collect::<Vec<_>>(), &stored);
    }
    let words = format!("100 pairs at four nodes, each log began once; {:.1} s", began.elapsed().as_secs_f64());
    tally.accept("10 winners, conversations", words);
}

async fn messages_are_stored_once(four: &Four) {
    let people = four.people(2).await;
    let [ann, ben] = people.as_slice() else { unreachable!() };
    let place = four.worlds[0].direct(ann, ben).await;
    let mut socket = ben.connect(Door::WebSocket).await;
    let (mut acknowledged, mut conflicts) = (Vec::new(), 0);
    for n in 0..50 {
        let name = format!("message {n}");
        let sent = join_all((0..8).map(|n| {
            let (rest, name, place) = (four.through(n, ann), &name, &place);
            async move { rest.send_text(place, name, Some(name)).await }
        }));
        let (sent, refused): (Vec<_>, Vec<_>) = sent.await.into_iter().partition(Result::is_ok);
        conflicts += refused.len();
        assert!(refused.iter().all(|refused| refused.as_ref().is_err_and(|error| error.status() == 503)), "{refused:?}");
        let sent: Vec<_> = sent.into_iter().map(|sent| sent.unwrap()).collect();
        assert!(sent.iter().all(|message| message["id"] == sent[0]["id"] && message["seq"] == json!(n + 2)), "{sent:?}");
        // All eight may have been told to send it again.
        let again = unless_busy(async || four.through(n, ann).send_text(&place, &name, Some(&name)).await).await;
        acknowledged.push(told(sent.first().unwrap_or(&again)));
        assert_eq!(told(&again), acknowledged[n]);
    }
    let is_last = |event: &Event| event.name == "message:received" && event.json()["content"] == "message 49";
    let mut heard = socket.collect_until(PATIENCE, |events| events.last().is_some_and(is_last)).await.unwrap();
    let synced = four.through(3, ben).sync(&json!({&place: 1}), None).await.unwrap();
    let brought: Vec<_> = synced["conversations"][0]["messages"].as_array().unwrap().iter().map(told).collect();
    // What came until now: whatever is told again does so behind the last.
    heard.extend(socket.drain());
    let heard: Vec<_> = heard.iter().filter(|event| event.name == "message:received").map(|event| told(&event.json())).collect();
    let rest = four.through(1, ben);
    assert_eq!(rest.history(&place, "limit=1").await.unwrap()["total"], 50);
    let mut tally = Tally::default();
    tally.log(&[&acknowledged], &read_log(&rest, &place).await.unwrap());
    tally.told("Ben", &acknowledged, &heard);
    tally.resumed("Ben", &acknowledged, &brought);
    tally.accept("10 winners, messages", format!("each sent 8 times at once; {conflicts} to be sent again"));
}

async fn numbers_have_one_account(four: &Four) {
    let mut refused = 0;
    for _ in 0..5 {
        let phone = World::new_phone();
        let register = |_| json!({"phone_number": phone, "display_name": "Somebody", "password": PASSWORD});
        let race = four.race(8, "/auth/register", register).await;
        race.lost_with(&[400]);
        refused += race.with(503);
        assert!(race.won.len() == 1 || race.with(503) > 0 && race.won.is_empty(), "{race:?}");
        let phone = &phone;
        let logins = (0..4).map(|n| unless_busy(async move || four.rest(n).login(phone, PASSWORD).await));
        let ids: Vec<_> = join_all(logins).await.into_iter().map(|login| login.user_id).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
    report("10 winners, numbers", format!("5 numbers registered 8 times at once, one account each; {refused} answered 503"));
}

/// Using the same token again and again, everywhere at once, is what the app does; using one after its successor is theft.
async fn refresh_tokens_show_a_theft(four: &Four) {
    let (mut in_time, mut busy) = (0, 0);
    for person in four.people(10).await {
        let first = person.account.refresh_token.clone();
        let race = four.race(20, "/auth/refresh", |_| json!({"refresh_token": first})).await;
        race.lost_with(&[]);
        busy += race.refused.len();
        // All of them are as good: who used it gets the same next one, and an access token that holds.
        assert!(!race.won.is_empty() && race.won.len() + race.with(503) == 20, "{race:?}");
        let next = race.won[0]["refresh_token"].clone();
        assert_ne!(next, json!(first));
        assert!(race.won.iter().all(|login| login["refresh_token"] == next && login["user"]["id"] == person.id()), "{race:?}");
        let lets_in = race.won.iter().enumerate().map(|(n, login)| {
            let rest = four.rest(n + 1).with_token(login["access_token"].as_str().unwrap());
            async move { unless_busy(async || rest.me().await).await }
        });
        assert!(join_all(lets_in).await.iter().all(|me| me["id"] == person.id()));

        let race = four.race(16, "/auth/refresh", |n| json!({"refresh_token": if n % 8 < 4 { json!(first) } else { next.clone() }})).await;
        race.lost_with(&[401]);
        in_time += race.won.len();
        busy += race.with(503);
        // By now the next one has been used, or the session is over.
        let again = four.race(4, "/auth/refresh", |_| json!({"refresh_token": first})).await;
        again.lost_with(&[401]);
        assert_eq!((again.won.len(), again.with(401) > 0), (0, true), "{again:?}");
        let dead = four.race(4, "/auth/refresh", |_| json!({"refresh_token": next})).await;
        dead.lost_with(&[401]);
        assert_eq!((dead.won.len(), dead.with(401) > 0), (0, true), "{dead:?}");
        let ended = Instant::now();
        for n in 0..4 {
            while four.through(n, &person).me().await.map_or_else(|error| error.status(), |_| 200) != 401 {
                assert!(ended.elapsed() < REVOKED, "node {n} lets him in whose login has ended");
                // Nodes tell each other, and nobody else.
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    report("10 winners, refresh", format!("10 logins, {in_time} of 160 before the theft showed, all ended by it; {busy} answered 503"));
}

async fn tickets_open_one_socket(four: &Four) {
    let (mut refused, mut busy, mut tickets) = (0, 0, 0);
    for (round, person) in four.people(20).await.into_iter().enumerate() {
        let began = Instant::now();
        loop {
            tickets += 1;
            let ticket = unless_busy(async || four.through(round, &person).socket_ticket().await).await;
            let ticket = &ticket;
            let opened = join_all((0..8).map(async |n| {
                let door = if n % 3 == 0 { Door::SocketIo } else { Door::WebSocket };
                let opening = Options::new(&four.rest(n).base(), door, Auth::Ticket(ticket.clone())).connect();
                opening.await.map_err(|error| (door, error))
            }));
            let (opened, others): (Vec<_>, Vec<_>) = opened.await.into_iter().partition(Result::is_ok);
            // A busy store does not say whether it was this one that it let in: then nobody is, and he asks for another ticket.
            let uncertain = others.iter().filter(|other| other.as_ref().is_err_and(is_busy)).count();
            (refused, busy) = (refused + others.len() - uncertain, busy + uncertain);
            assert!(opened.len() <= 1 && opened.len() + uncertain > 0, "{others:?}");
            if let [Ok(socket)] = &opened[..] {
                assert_eq!(socket.user_id(), person.id());
                break;
            }
            assert!(began.elapsed() < PATIENCE, "no ticket opens a socket: {others:?}");
        }
    }
    assert!(refused > 0, "nobody was told that a ticket is not valid");
    let figures = format!("{tickets} tickets of 20 people shown 8 times at once, one socket each; {refused} refused, {busy} to come again");
    report("10 winners, tickets", figures);
}

/// The node is there, and its store is not at the moment: for the login, or for letting in, which Socket.IO ends without a code.
fn is_busy((door, error): &(Door, ConnectError)) -> bool {
    match error {
        ConnectError::Refused(error) => error["data"]["code"] == "unavailable",
        ConnectError::Closed(close) => close.code == Some(4503) || door.is_socket_io() && close.code.is_none(),
        _ => false,
    }
}
