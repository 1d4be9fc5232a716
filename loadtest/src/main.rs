//! The load-test harness: `loadtest <scenario>` against a running node. What it measures and how to believe it: README.md.

mod attack;
mod cli;
mod closed;
mod failure;
mod histogram;
mod ledger;
mod logins;
mod outcome;
mod pacer;
mod people;
mod plan;
mod post;
mod progress;
mod report;
mod run;
mod sample;
mod scenario;
mod schedule;
mod search;
mod shard;
mod stamp;
mod tally;

use std::{
    io::{Write, stderr},
    process::ExitCode,
};

use clap::Parser;

use crate::{
    cli::{Cli, Scenario},
    failure::{Result, Trying},
};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(stderr(), "loadtest: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let settings = cli.settings.checked()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().trying("starting an event loop")?;
    runtime.block_on(async {
        match &cli.scenario {
            Scenario::Idle(figures) => scenario::idle::run(&settings, figures).await,
            Scenario::Pairs(figures) => scenario::pairs::run(&settings, figures).await,
            Scenario::Fanout(figures) => scenario::fanout::run(&settings, figures).await,
            Scenario::Reconnect(figures) => scenario::reconnect::run(&settings, figures).await,
            Scenario::Login(figures) => scenario::login::run(&settings, figures).await,
            Scenario::Hostile(figures) => scenario::hostile::run(&settings, figures).await,
            Scenario::Rest(figures) => scenario::rest::run(&settings, figures).await,
            Scenario::Max(figures) => scenario::max::run(&settings, figures).await,
            Scenario::Verify(figures) => scenario::verify::run(&settings, figures).await,
        }
    })
}
