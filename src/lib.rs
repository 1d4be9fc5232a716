//! URGE, the backend of a mobile messenger: the crate's map, in the order of imports.
//! A module imports only from modules above it in this list; `tests/it/architecture.rs` holds it to that.
//! Handlers (`api.rs`) alone may name `auth` from above it: its `Caller` is who asks.

pub mod fail_point;
pub mod id;
pub mod clock;
pub mod error;
pub mod page;
pub mod phone;
pub mod text;
pub mod event;
pub mod task;
pub mod store;
pub mod bus;
pub mod config;
pub mod telemetry;
pub mod rate;
pub mod rest;
pub mod outbox;
pub mod log;
pub mod presence;
pub mod settings;
pub mod users;
pub mod auth;
pub mod messages;
pub mod conversations;
pub mod gateway;
pub mod server;
pub mod worker;
pub mod app;

pub use app::run;
