//! The integration tests: one binary, so that everything is linked once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod model;
//! The end-to-end tests: nodes in this process, spoken to from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod server;
mod support;
