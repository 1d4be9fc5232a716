//! Every endpoint: its happy path, its errors, who may call it.

mod auth;
mod conversations;
mod messages;
mod parameters;
mod settings;
mod sync;
mod users;
