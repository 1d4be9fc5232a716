//! Starting on what cannot be worked with: refused, with what to do, before anything is changed.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::command;

fn urge(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_urge"));
    command.args(arguments).args(["--listen", "127.0.0.1:0"]).current_dir(folder).env_clear().env("NO_COLOR", "1");
    command::output(&mut command)
}

/// A folder with a store that this version made.
fn made() -> TempDir {
    let folder = TempDir::new().unwrap();
    assert!(urge(folder.path(), &["migrate"]).status.success());
    folder
}

/// Starts the node in this folder, where it must not run, and returns its last words.
fn refusal(folder: &TempDir) -> String {
    let output = urge(folder.path(), &[]);
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.starts_with("urge: "), "{words}");
    words
}

fn store(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join("data/urge.db")
}

fn change(folder: &TempDir, sql: &str) {
    Connection::open(store(folder)).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let folder = made();
    let garbage = b"these bytes were never a database ".repeat(4_096);
    std::fs::write(store(&folder), &garbage).unwrap();
    let words = refusal(&folder);
    assert!(words.contains("urge.db is damaged or no database") && words.contains("restore a backup"), "{words}");
    assert_eq!(std::fs::read(store(&folder)).unwrap(), garbage);
}

#[test]
fn a_file_that_breaks_off_is_refused() {
    let folder = made();
    let file = std::fs::OpenOptions::new().write(true).open(store(&folder)).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    let words = refusal(&folder);
    assert!(words.contains("urge.db is damaged or no database") && words.contains("restore a backup"), "{words}");
}

#[test]
fn a_file_of_a_newer_version_is_refused() {
    let folder = made();
    change(&folder, "INSERT INTO migrations VALUES (999, '999_future.sql', 'feed')");
    let words = refusal(&folder);
    assert!(words.contains("written by a newer version of urge (it has migration 999_future.sql)"), "{words}");
    assert!(words.contains("run that version or newer, or point URGE_DATA_DIR elsewhere"), "{words}");
}

#[test]
fn an_altered_migration_is_refused() {
    let folder = made();
    change(&folder, "UPDATE migrations SET checksum = 'feed' WHERE number = 1");
    let words = refusal(&folder);
    assert!(words.contains("001_log.sql is not the one that this version carries"), "{words}");
    assert!(words.contains("restore a backup"), "{words}");
}

#[test]
fn a_data_folder_that_is_none_is_refused() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("data"), "in the way").unwrap();
    let words = refusal(&folder);
    assert!(words.contains("the data folder") && words.contains("cannot be used"), "{words}");
}

#[test]
fn a_port_that_is_taken_is_refused() {
    let folder = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_urge"));
    let output = command::output(command.args(["--listen", &address]).current_dir(folder.path()).env_clear());
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains(&format!("cannot listen on {address}")), "{words}");
    assert!(!folder.path().join("data").exists(), "nothing was begun");
}
