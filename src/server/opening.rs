//! What a node answers before it is put together: that it lives, and what it waits for. A start that nothing holds up is
//! over in a moment, and who connects meanwhile waits for the node itself; only one that lasts is answered for from here.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use poem::endpoint::{BoxEndpoint, make_sync};
use poem::error::NotFoundError;
use poem::http::{HeaderValue, header};
use poem::{EndpointExt, IntoResponse, Response, Route, get};
use poem_openapi::types::Example;
use tokio::sync::watch;

use super::Front;
use super::node::Health;
use crate::clock::{Clock, RealClock, Timestamp};
use crate::error::Error;
use crate::rest::{ApiError, Json};

/// A start that takes longer is answered for, whether or not it is known what holds it up: probes must not time out for long.
const MOMENT: Duration = Duration::from_secs(3);

/// How far a node has come that starts; clones share it.
#[derive(Clone)]
pub struct Opening(Arc<watch::Sender<Step>>);

/// What it is at.
struct Step {
    words: Cow<'static, str>,
    since: Timestamp,
    /// Why it did not go well the last time.
    cause: Option<String>,
    /// Whether it, or one before it, has to be waited for.
    lasts: bool,
}

impl Default for Opening {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Step { words: "nothing is open yet".into(), since: RealClock.now(), cause: None, lasts: false })))
    }
}

impl Opening {
    /// The next step has begun; it is waited for as these words say, which everybody may read.
    pub fn begins(&self, words: impl Into<Cow<'static, str>>) {
        self.0.send_modify(|step| *step = Step { words: words.into(), since: RealClock.now(), cause: None, lasts: step.lasts });
    }

    /// This step lasts, for this cause if there is one.
    pub fn lasts_for(&self, words: impl Into<Cow<'static, str>>, cause: Option<String>) {
        self.0.send_modify(|step| *step = Step { words: words.into(), since: step.since, cause, lasts: true });
    }

    /// Waits until the start takes longer than one that nothing holds up.
    pub async fn lasts(&self) {
        let mut steps = self.0.subscribe();
        // Also when nobody has said so within this time.
        let _ = tokio::time::timeout(MOMENT, steps.wait_for(|step| step.lasts)).await;
    }

    /// What answers meanwhile, with this in front of it. One answer a connection: none is left over when the node itself
    /// begins to serve.
    pub fn endpoint(&self, front: impl FnOnce(BoxEndpoint<'static>) -> Front) -> Arc<BoxEndpoint<'static, Response>> {
        let opening = self.clone();
        let routes = Route::new()
            .at("/health", get(make_sync(|_| Json(Health::example()).into_response())))
            .at("/ready", get(make_sync(move |_| opening.refusal())))
            .catch_error(|_: NotFoundError| async { ApiError(Error::unavailable("the node is starting, try again in a moment")) });
        let last = |answer: poem::Result<Response>| async {
            let mut answer = answer?;
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            Ok::<_, poem::Error>(answer)
        };
        Arc::new(front(routes.map_to_response().boxed()).after(last).boxed())
    }

    /// That the node is not ready, and why.
    fn refusal(&self) -> Response {
        let Step { words, since, cause, .. } = &*self.0.borrow();
        let waited_s = RealClock.now().since(*since).as_secs();
        let cause = cause.as_ref().map(|cause| format!("; last: {cause}")).unwrap_or_default();
        ApiError(Error::unavailable(format!("the node is starting: {words}, since {since} ({waited_s} s){cause}"))).into_response()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_start_lasts_once_something_is_waited_for() {
        let opening = Opening::default();
        opening.begins("the first step");
        assert_eq!(opening.lasts().now_or_never(), None);
        opening.lasts_for("the first step does not end", Some("it is stuck".to_owned()));
        assert_eq!(opening.lasts().now_or_never(), Some(()));
        let body = |opening: &Opening| opening.refusal().into_body().into_string();
        let first = body(&opening).await.unwrap();
        assert!(first.contains("the first step does not end, since 2") && first.contains("(0 s); last: it is stuck"), "{first}");
        // Who asks is answered already, and so he is while the next step takes its time.
        opening.begins("the second step");
        assert_eq!(opening.lasts().now_or_never(), Some(()));
        let second = body(&opening).await.unwrap();
        assert!(second.contains("the second step, since 2") && !second.contains("stuck"), "{second}");
    }
}
