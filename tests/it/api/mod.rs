//! Every endpoint: its happy path, its errors, who may call it.

mod auth;
mod conversations;
mod messages;
mod sync;
