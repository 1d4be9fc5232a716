//! The scenarios. Each prepares its people, says who writes to whom, and makes figures of what came of it.

pub mod fanout;
pub mod hostile;
pub mod idle;
pub mod login;
pub mod max;
pub mod pairs;
pub mod reconnect;
pub mod rest;
pub mod verify;
