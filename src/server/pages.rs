//! The pages that belong to no feature: `/`, `/health`, `/ready`, `/metrics` and the documentation, which is
//! complete in itself: a browser without internet shows it whole.

use std::sync::Arc;
use std::time::Duration;

use poem::endpoint::make_sync;
use poem::http::StatusCode;
use poem::{Endpoint, Response, Route, get};
use poem_openapi::{OpenApi, OpenApiService};
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::bus::Bus;
use crate::rest::Json;
use crate::store::Probe;
use crate::telemetry;

/// How long the store may take to show that it is there.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// What `/ready` looks at.
#[derive(Clone)]
pub struct Readiness {
    /// Must answer.
    pub store: Arc<dyn Probe>,
    /// Is shown; a bus that is away is no reason to be unready.
    pub bus: Arc<dyn Bus>,
    /// Cancelled: the node drains.
    pub stopping: CancellationToken,
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    store: &'static str,
    bus: &'static str,
    draining: bool,
}

impl Readiness {
    async fn answer(&self) -> Response {
        let probed = tokio::time::timeout(PROBE_TIMEOUT, self.store.probe()).await;
        let store = matches!(probed, Ok(Ok(())));
        let draining = self.stopping.is_cancelled();
        let ready = store && !draining;
        let words = |up| if up { "up" } else { "down" };
        let body = Ready { ready, store: words(store), bus: words(self.bus.is_up()), draining };
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut response = poem::IntoResponse::into_response(Json(body));
        response.set_status(status);
        if !ready {
            response.headers_mut().insert(poem::http::header::RETRY_AFTER, poem::http::HeaderValue::from_static("1"));
        }
        response
    }
}

/// The documents and pages of one service.
pub struct Pages {
    /// `/openapi.json`
    pub openapi: String,
    swagger: String,
    redoc: String,
}

impl Pages {
    /// Those of this service.
    pub fn of<T: OpenApi>(service: &OpenApiService<T, ()>) -> Self {
        let openapi = service.spec();
        Self { swagger: service.swagger_ui_html(), redoc: without_outside(&service.redoc_html()), openapi }
    }

    /// The routes, without the API's own.
    pub fn routes(self, readiness: Readiness) -> Route {
        let text = |content_type: &'static str, text: String| {
            let text = bytes::Bytes::from(text);
            get(make_sync(move |_| Response::builder().content_type(content_type).body(text.clone())))
        };
        let index = json!({
            "name": "urge",
            "version": env!("CARGO_PKG_VERSION"),
            "links": {"api": "/api", "docs": "/docs", "redoc": "/redoc", "openapi": "/openapi.json", "health": "/health", "ready": "/ready", "metrics": "/metrics"},
        });
        let html = |page: String| text("text/html; charset=utf-8", page);
        Route::new()
            .at("/", text("application/json", index.to_string()))
            .at("/health", text("application/json", json!({"status": "ok"}).to_string()))
            .at("/ready", get(readiness))
            .at(
                "/metrics",
                get(make_sync(|_| Response::builder().content_type("text/plain; version=0.0.4").body(telemetry::recorder().render()))),
            )
            .at("/docs", html(self.swagger))
            .at("/redoc", html(self.redoc))
            .at("/openapi.json", text("application/json", self.openapi))
    }
}

impl Endpoint for Readiness {
    type Output = Response;

    async fn call(&self, _: poem::Request) -> poem::Result<Response> {
        Ok(self.answer().await)
    }
}

/// The page without its links to fonts elsewhere: the reader's own fonts do.
fn without_outside(page: &str) -> String {
    let is_outside = |line: &&str| line.contains("<link") && line.contains("fonts.googleapis.com");
    page.lines().filter(|line| !is_outside(line)).collect::<Vec<_>>().join("\n")
}
