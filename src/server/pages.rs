//! The pages that belong to no feature: `/metrics` and the documentation, which is
//! complete in itself: a browser without internet shows it whole.

use poem::endpoint::make_sync;
use poem::{Response, Route, get};
use poem_openapi::{OpenApi, OpenApiService};

use super::document;
use crate::telemetry;

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
        let spec = service.spec();
        let openapi = document::tidy(&spec);
        // `</script>` inside a description would end the script that holds the document.
        let inlined = openapi.replace("</", "<\\/");
        let swagger = service.swagger_ui_html().replace(&spec, &inlined);
        let redoc = without_outside(&service.redoc_html().replace(&spec, &inlined));
        Self { openapi, swagger, redoc }
    }

    /// The one page that has no need of a service.
    pub fn metrics() -> Route {
        let page = make_sync(|_| Response::builder().content_type("text/plain; version=0.0.4").body(telemetry::recorder().render()));
        Route::new().at("/metrics", get(page))
    }

    /// The routes, without the API's own.
    pub fn routes(self) -> Route {
        let text = |content_type: &'static str, text: String| {
            let text = bytes::Bytes::from(text);
            get(make_sync(move |_| Response::builder().content_type(content_type).body(text.clone())))
        };
        let html = |page: String| text("text/html; charset=utf-8", page);
        Self::metrics()
            .at("/docs", html(self.swagger))
            .at("/redoc", html(self.redoc))
            .at("/openapi.json", text("application/json", self.openapi))
    }
}

/// The page without its links to fonts elsewhere: the reader's own fonts do.
fn without_outside(page: &str) -> String {
    let is_outside = |line: &&str| line.contains("<link") && line.contains("fonts.googleapis.com");
    page.lines().filter(|line| !is_outside(line)).collect::<Vec<_>>().join("\n")
}
