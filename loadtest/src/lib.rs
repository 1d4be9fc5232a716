//! The one client of URGE, and what judges a cluster with it ([`verify::Verify`]): tests and harness drive the server with the same code.
//! REST over a keep-alive pool ([`rest::Rest`]) and the realtime doors behind one interface
//! ([`socket::Socket`]): plain WebSocket, Socket.IO over WebSocket, over long-polling, and the upgrade between.
//! It shares no code with the server, so that a mistake in a codec cannot hide by being made twice.

pub mod http;
pub mod rest;
pub mod socket;
pub mod verify;

pub use rest::{Account, Rest, RestError};
pub use socket::{Auth, Door, Options, Socket};
