//! The doors over real TCP, with a gateway of the tests' own behind them.

mod fake;
mod hub;
mod moving;
mod patience;
mod polling;
mod socketio;
mod websocket;
