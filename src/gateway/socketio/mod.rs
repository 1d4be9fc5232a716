//! Socket.IO (protocol v5 over Engine.IO v4), our own thin codec: websocket, polling, and the upgrade between them.
//! The official clients are its judges. No binary, no namespace but `/`.

pub mod dialect;
