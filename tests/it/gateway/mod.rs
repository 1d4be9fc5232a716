//! The doors over real TCP, with a gateway of the tests' own behind them.

mod fake;
mod moving;
mod polling;
mod socketio;
mod websocket;
