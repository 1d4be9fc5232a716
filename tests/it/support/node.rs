//! A node in this process, on a free port and in a folder of its own; it is what `urge serve` runs.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use loadtest::Rest;
use reqwest::{Method, Response};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use urge::app::{App, Backends, Services, Stores};
use urge::clock::ShiftedClock;
use urge::config::Config;
use urge::id::UserId;

use super::pair::{Agreement, Places, Streams};
use super::{Outbox, keyspaces};

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A running node; or several that look like one, if [`pair`] says so: what asks and who connects gets to any of them. They
/// share the clock, the codes and whatever a test has put before the stores.
pub struct TestServer {
    /// Where it listens; the first of several.
    pub address: SocketAddr,
    /// Its clock, for tests to shift.
    pub clock: Arc<ShiftedClock>,
    /// Its data folder; it outlives the node when a test keeps it.
    pub folder: Arc<TempDir>,
    /// The codes that it sent.
    pub sms: Arc<Outbox>,
    /// Its services, for what no call does; the first one's of several.
    pub services: Services,
    /// The stores below whatever a test has put in between.
    pub stores: Stores,
    places: Places,
    agreement: Agreement,
    client: reqwest::Client,
    nodes: Nodes,
}

/// How many nodes a server has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Count {
    One,
    AsTheRunSays,
}

impl TestServer {
    /// A development node; limits by address, user and socket are off.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// The same with other settings.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::on(Arc::new(TempDir::new().unwrap()), change, |backends| backends).await
    }

    /// The same in this folder and on backends that `wrap` may have changed, with faults for one.
    pub async fn on(folder: Arc<TempDir>, change: impl FnOnce(&mut Config), wrap: impl FnOnce(Backends) -> Backends) -> Self {
        let stores = keyspaces::stores(folder.path()).await;
        Self::on_stores(stores, Count::AsTheRunSays, folder, change, wrap).await
    }

    /// One node, however many a server has in this run: for what each node does for itself. Whoever asks for it says why.
    pub async fn alone(change: impl FnOnce(&mut Config)) -> Self {
        Self::alone_on(Arc::new(TempDir::new().unwrap()), change, |backends| backends).await
    }

    /// The same in this folder and on such backends.
    pub async fn alone_on(folder: Arc<TempDir>, change: impl FnOnce(&mut Config), wrap: impl FnOnce(Backends) -> Backends) -> Self {
        let stores = keyspaces::stores(folder.path()).await;
        Self::on_stores(stores, Count::One, folder, change, wrap).await
    }

    /// The same on the embedded store wherever other nodes keep everything: for tests of its file.
    pub async fn embedded(folder: Arc<TempDir>, wrap: impl FnOnce(Backends) -> Backends) -> Self {
        Self::on_stores(None, Count::One, folder, |_| {}, wrap).await
    }

    /// On these stores, or on the embedded one.
    async fn on_stores(
        stores: Option<Stores>,
        count: Count,
        folder: Arc<TempDir>,
        change: impl FnOnce(&mut Config),
        wrap: impl FnOnce(Backends) -> Backends,
    ) -> Self {
        let config = test_config(folder.path(), change);
        let clock = Arc::new(ShiftedClock::default());
        let sms = Arc::new(Outbox::default());
        let mut backends = Backends { clock: clock.clone(), sms: sms.clone(), ..Backends::embedded(&config).unwrap() };
        if let Some(stores) = stores {
            backends.stores = stores;
        }
        let streams = if count == Count::One { None } else { Streams::new() };
        let mut buses = Vec::new();
        if let Some(streams) = &streams {
            buses = streams.buses().await;
            backends.bus = buses.remove(0);
        }
        let stores = backends.stores.clone();
        let first = wrap(backends);
        let first_bus = first.bus.clone();
        let others: Vec<_> = buses.into_iter().map(|bus| Backends { bus, ..first.clone() }).collect();
        urge::telemetry::recorder();
        let mut nodes = Nodes { stop: CancellationToken::new(), running: Vec::new(), streams };
        let (address, services) = nodes.add(config.clone(), first).await;
        let (mut addresses, mut agreement) = (vec![address], Agreement(vec![(services.online.clone(), first_bus)]));
        for other in others {
            let bus = other.bus.clone();
            let (address, services) = nodes.add(config.clone(), other).await;
            addresses.push(address);
            agreement.0.push((services.online, bus));
        }
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { address, clock, folder, sms, services, stores, places: Places::new(addresses), agreement, client, nodes }
    }

    /// The address of this path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.places.any())
    }

    /// A client of it.
    pub fn rest(&self) -> Rest {
        let places = self.places.clone();
        Rest::choosing(move || places.any())
    }

    /// What its nodes know of who is there.
    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// Waits until all its nodes take this person for online, or for gone: of several one may hear of it a little later.
    pub async fn all_know(&self, user: UserId, online: bool) {
        self.agreement.about(user, online).await;
    }

    /// Waits until its nodes have taken in what they were told so far.
    pub async fn settled(&self) {
        self.agreement.settled().await;
    }

    /// A request to send.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, self.url(path))
    }

    /// The answer to a GET.
    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    /// Stops it and waits until it has. What the tests have seen so far must be in the document.
    pub async fn stop(self) {
        self.nodes.end().await;
        super::document::holds_what_was_seen(&urge::telemetry::recorder().render());
    }
}

/// The nodes of a server.
struct Nodes {
    stop: CancellationToken,
    running: Vec<JoinHandle<()>>,
    streams: Option<Streams>,
}

impl Nodes {
    /// One more; where it listens.
    async fn add(&mut self, config: Config, backends: Backends) -> (SocketAddr, Services) {
        let listener = TcpListener::bind(config.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = App::new(config, backends).unwrap();
        let services = app.services.clone();
        self.running.push(tokio::spawn(app.serve(listener, self.stop.clone().cancelled_owned())));
        (address, services)
    }

    /// Ends them all.
    async fn end(mut self) {
        self.stop.cancel();
        let ending = async {
            for running in std::mem::take(&mut self.running) {
                running.await.unwrap();
            }
            if let Some(streams) = self.streams.take() {
                streams.end_with(Vec::new()).await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, ending).await.expect("the node did not stop");
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        if let Some(streams) = self.streams.take() {
            streams.end_with(std::mem::take(&mut self.running));
        }
    }
}

fn test_config(folder: &Path, change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::development(folder.to_owned()).unwrap();
    config.rate_limit = false;
    change(&mut config);
    config
}

/// The body as JSON.
pub async fn json(response: Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

/// Holds an answer to the contract's envelope and returns its body.
pub async fn failure(response: Response, status: u16, code: &str) -> Value {
    assert_eq!(response.status(), status);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("application/json"));
    let body = json(response).await;
    assert_eq!(body["success"], false);
    assert_eq!(body["code"], code);
    assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()));
    if status == 422 {
        assert_eq!(body["detail"][0]["msg"], body["message"]);
    } else {
        assert_eq!(body["detail"], body["message"]);
    }
    body
}
