//! What surrounds a node going wrong: a full disk, a held or damaged file, no more files to open, clients that hang.

mod connections;
mod draining;
mod outage;
mod production;
mod start;
