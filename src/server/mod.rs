//! The HTTP side of a node: the listener, what happens to every request before and after its handler
//! ([`Front`]), and the pages that belong to no feature. What a request means is the features' business.

mod cors;
mod failure;
mod front;
mod listener;
mod pages;
mod proxies;

pub use cors::Cors;
pub use front::{Front, Methods};
pub use listener::serve;
pub use pages::{Pages, Readiness};
pub use proxies::Proxies;
