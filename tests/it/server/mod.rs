//! The node as HTTP sees it, whatever the features do: listener, envelope, limits, pages.

mod command;
mod envelope;
mod limits;
mod listener;
mod pages;
