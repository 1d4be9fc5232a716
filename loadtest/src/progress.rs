//! The live line: on standard error, one line that is written over on a terminal, one line after another elsewhere.

use std::{
    io::{IsTerminal, Write, stderr},
    time::{Duration, Instant},
};

/// See the module.
#[derive(Debug)]
pub struct Progress {
    is_terminal: bool,
    shown: Option<Instant>,
    width: usize,
}

impl Default for Progress {
    fn default() -> Self {
        Self { is_terminal: stderr().is_terminal(), shown: None, width: 0 }
    }
}

impl Progress {
    /// Shows a line, if the last one is a second old.
    pub fn show(&mut self, line: &str) {
        if self.shown.is_none_or(|shown| shown.elapsed() >= Duration::from_millis(990)) {
            self.shown = Some(Instant::now());
            let end = if self.is_terminal { '\r' } else { '\n' };
            let (pad, width) = (if self.is_terminal { self.width } else { 0 }, line.chars().count());
            // Nobody may be reading.
            let _ = write!(stderr(), "{line:pad$}{end}");
            self.width = width;
        }
    }

    /// Whether a line would be shown now.
    pub fn is_due(&self) -> bool {
        self.shown.is_none_or(|shown| shown.elapsed() >= Duration::from_millis(990))
    }

    /// Says something that stays.
    pub fn say(&mut self, line: &str) {
        self.clear();
        let _ = writeln!(stderr(), "{line}");
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if self.is_terminal && self.width > 0 {
            let _ = write!(stderr(), "{:width$}\r", "", width = self.width);
            self.width = 0;
        }
    }
}
