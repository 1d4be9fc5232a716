//! The one client of URGE: its tests drive the server with it today, the load harness with the same code.
//! REST over a keep-alive pool ([`rest::Rest`]) and the realtime doors behind one interface
//! ([`socket::Socket`]): plain WebSocket, Socket.IO over WebSocket, over long-polling, and the upgrade between.
//! It shares no code with the server, so that a mistake in a codec cannot hide by being made twice.

pub mod http;
pub mod rest;
pub mod socket;

pub use rest::{Account, Rest, RestError};
pub use socket::{Auth, Door, Options, Socket};
