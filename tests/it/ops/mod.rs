//! What surrounds a node going wrong: a full disk, a held or damaged file, no more files to open, clients that hang, logs
//! that nobody reads, a store that is away.

mod bus;
mod cluster;
mod connections;
mod draining;
mod folder;
mod logging;
mod outage;
mod production;
mod spoilt;
mod start;
