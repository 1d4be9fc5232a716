//! The integration tests: one binary, so that everything is linked once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod architecture;
mod client;
mod cluster;
mod contract;
mod failures;
mod fuzz;
mod gateway;
mod history;
mod log;
mod model;
mod api;
mod ops;
mod readme;
mod realtime;
mod server;
mod support;
