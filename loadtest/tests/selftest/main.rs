//! The harness against a server whose faults are known: its report must say exactly those, and no others.
//! The program itself is run, so that its command line and its file are tested with it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod fake;
mod faults;
#[path = "../http/mod.rs"]
mod http;
mod report;
mod sampled;
mod scenarios;
mod timing;
