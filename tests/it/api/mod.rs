//! Every endpoint: its happy path, its errors, who may call it.

mod access;
mod answers;
mod auth;
mod away;
mod conversations;
mod good;
mod input;
mod messages;
mod parameters;
mod seen;
mod settings;
mod sync;
mod users;
