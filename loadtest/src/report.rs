//! The result of a run: a line for people, and everything in a file for programs.

use std::{
    fs,
    io::{Write, stdout},
    time::SystemTime,
};

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    cli::Settings,
    failure::{Result, Trying},
    people::People,
    sample::Sampler,
};

/// A finished run.
#[derive(Debug)]
pub struct Report {
    /// Which scenario.
    pub scenario: &'static str,
    /// What it was asked for beside the settings that all have.
    pub figures: Value,
    /// The line.
    pub line: String,
    /// What came of it.
    pub result: Value,
}

impl Report {
    /// A report of a scenario.
    pub fn new(scenario: &'static str, figures: &impl Serialize, line: String, result: &impl Serialize) -> Result<Self> {
        let figures = serde_json::to_value(figures).trying("writing the report")?;
        let result = serde_json::to_value(result).trying("writing the report")?;
        Ok(Self { scenario, figures, line, result })
    }

    /// Prints the line, and writes the file if one is wanted.
    pub fn publish(self, settings: &Settings, people: &People, sampler: &Sampler) -> Result<()> {
        let line = format!("{} {}: {}\n", self.scenario, settings.door.name(), self.line);
        stdout().write_all(line.as_bytes()).trying("printing the result")?;
        let Some(path) = &settings.json else { return Ok(()) };
        let whole = json!({
            "scenario": self.scenario,
            "date": chrono::DateTime::<chrono::Utc>::from(SystemTime::now()).to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            "versions": {
                "loadtest": env!("CARGO_PKG_VERSION"),
                "server": people.server["version"],
                "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
                "processors": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            },
            "settings": settings,
            "figures": self.figures,
            "line": line.trim_end(),
            "result": self.result,
            "sampled": {"processes": sampler.pids(), "samples": sampler.samples()},
        });
        let text = serde_json::to_string_pretty(&whole).trying("writing the report")?;
        fs::write(path, text + "\n").trying(format!("writing {}", path.display()))
    }
}
