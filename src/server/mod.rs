//! The HTTP side of a node: the listener, what happens to every request before and after its handler
//! ([`Front`]), and the pages that belong to no feature. What a request means is the features' business.

mod connection;
mod cors;
mod document;
mod exchange;
mod failure;
mod front;
mod listener;
mod node;
mod opening;
mod pages;
mod places;
mod proxies;
mod query;
mod routes;
mod unparsed;

pub use cors::Cors;
pub use document::{document, service};
pub use front::Front;
pub use listener::{Serving, bind, serve};
pub use node::NodeApi;
pub use opening::Opening;
pub use pages::Pages;
pub use places::Places;
pub use proxies::Proxies;
pub use routes::Routes;
