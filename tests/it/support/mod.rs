//! What the tests stand on: nodes that they start, and people who use them.
#![allow(dead_code, unused_imports, reason = "the features' tests come to use all of it")]

mod away;
pub mod cable;
mod balanced;
pub mod cluster;
pub mod command;
mod crash;
pub mod document;
pub mod faulty;
pub mod growths;
pub mod island;
pub mod keyspaces;
mod node;
mod nodes;
pub mod pair;
mod people;
mod process;
pub mod rows;
pub mod sabotage;
mod sms;
pub mod wire;
mod world;

pub use away::Switch;
pub use balanced::{Balanced, balance};
pub use cable::Cable;
pub use crash::files_after_a_crash;
pub use node::{PATIENCE, TestServer, failure, json};
pub use nodes::Nodes;
pub use people::{Human, People};
pub use process::{Process, Reader, lasting_address};
pub use sms::Outbox;
pub use world::{PASSWORD, Person, World, id};
