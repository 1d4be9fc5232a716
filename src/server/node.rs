//! What and how the node itself is: `/` (its name and links), `/health` (it runs), `/ready` (it can be sent traffic).

use std::sync::Arc;
use std::time::Duration;

use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi, Tags};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::bus::Bus;
use crate::error::Error;
use crate::rest::{ApiResult, Json};
use crate::store::Probe;

/// How long the store may take to show that it is there.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Tags)]
enum Tag {
    /// The node itself: what it is, and whether it is well.
    Node,
}

/// What this is.
#[derive(Serialize, Deserialize, Object)]
#[oai(example)]
pub struct Index {
    /// `urge`
    pub name: String,
    /// The version of the server.
    pub version: String,
    /// Where to go from here.
    pub links: Links,
}

impl Example for Index {
    /// There is only one.
    fn example() -> Self {
        let links = Links {
            api: "/api".to_owned(),
            docs: "/docs".to_owned(),
            redoc: "/redoc".to_owned(),
            openapi: "/openapi.json".to_owned(),
            health: "/health".to_owned(),
            ready: "/ready".to_owned(),
            metrics: "/metrics".to_owned(),
        };
        Self { name: "urge".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned(), links }
    }
}

/// The paths that a newcomer wants.
#[derive(Serialize, Deserialize, Object)]
pub struct Links {
    /// The base path of the API.
    pub api: String,
    /// Its documentation (Swagger UI).
    pub docs: String,
    /// Its documentation (Redoc).
    pub redoc: String,
    /// Its OpenAPI document.
    pub openapi: String,
    /// Whether the node runs.
    pub health: String,
    /// Whether it can be sent traffic.
    pub ready: String,
    /// Its metrics, for Prometheus.
    pub metrics: String,
}

/// The answer of a node that runs.
#[derive(Serialize, Deserialize, Object)]
#[oai(example)]
pub struct Health {
    /// `ok`
    pub status: String,
}

impl Example for Health {
    fn example() -> Self {
        Self { status: "ok".to_owned() }
    }
}

/// The answer of a node that can be sent traffic.
#[derive(Serialize, Deserialize, Object)]
#[oai(example)]
pub struct Readiness {
    /// `ready`
    pub status: String,
    /// `up`: it has just been written to.
    pub store: String,
    /// `up` or `down`; while it is down, delivery is slower and nothing is lost.
    pub bus: String,
}

impl Readiness {
    fn new(bus_is_up: bool) -> Self {
        let bus = if bus_is_up { "up" } else { "down" };
        Self { status: "ready".to_owned(), store: "up".to_owned(), bus: bus.to_owned() }
    }
}

impl Example for Readiness {
    fn example() -> Self {
        Self::new(true)
    }
}

/// The calls about the node itself.
pub struct NodeApi {
    /// Must answer for the node to be ready.
    pub store: Arc<dyn Probe>,
    /// Is shown, and is no reason to be unready.
    pub bus: Arc<dyn Bus>,
    /// Cancelled: the node drains.
    pub stopping: CancellationToken,
}

#[OpenApi(tag = "Tag::Node")]
#[allow(clippy::unused_async, reason = "handlers are async, also those that wait for nothing")]
impl NodeApi {
    /// What this is, and where to go from here
    ///
    /// The name and version of the server, and the paths that a newcomer wants.
    #[oai(path = "/", method = "get", operation_id = "get_index")]
    async fn get_index(&self) -> ApiResult<Index> {
        Ok(Json(Index::example()))
    }

    /// Whether the node runs
    ///
    /// For whoever restarts it: it asks nothing of the store or the bus.
    #[oai(path = "/health", method = "get", operation_id = "get_health")]
    async fn get_health(&self) -> ApiResult<Health> {
        Ok(Json(Health::example()))
    }

    /// Whether the node can be sent traffic
    ///
    /// The store can be written to and the node is not draining; else 503. The bus is shown only.
    #[oai(path = "/ready", method = "get", operation_id = "get_readiness")]
    async fn get_readiness(&self) -> ApiResult<Readiness> {
        if self.stopping.is_cancelled() {
            return Err(Error::unavailable("the node is stopping").into());
        }
        match tokio::time::timeout(PROBE_TIMEOUT, self.store.probe()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Error::unavailable("the store is down").with_source(error).into()),
            Err(_) => return Err(Error::unavailable("the store is down").with_source("it did not answer in time").into()),
        }
        Ok(Json(Readiness::new(self.bus.is_up())))
    }
}
