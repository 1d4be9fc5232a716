//! The binary from the command line.

use std::process::{Command, Output};

use crate::support::{TestServer, command};

fn urge(folder: &std::path::Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_urge"));
    command.args(arguments).current_dir(folder).env_clear().envs(environment.iter().copied());
    command::output(&mut command)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn wrong_settings_are_refused_all_at_once_with_examples() {
    let folder = tempfile::tempdir().unwrap();
    let output = urge(folder.path(), &[], &[("URGE_LISTEN", "8080"), ("URGE_STORE", "postgres://db/urge")]);
    assert!(!output.status.success());
    let words = text(&output.stderr);
    assert!(words.contains("listen = \"8080\" (environment: URGE_LISTEN) is not an IP address with a port"), "{words}");
    assert!(words.contains("for example: URGE_LISTEN=0.0.0.0:8080"), "{words}");
    assert!(words.contains("is neither sqlite nor scylla://"), "{words}");
    assert!(!folder.path().join("data").exists(), "nothing was begun");
}

#[test]
fn an_unknown_key_of_the_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("urge.toml"), "[users]\ndirectry = \"open\"\n").unwrap();
    let output = urge(folder.path(), &["config"], &[]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("is users.directory meant?"), "{}", text(&output.stderr));
}

#[test]
fn config_shows_where_values_come_from_and_no_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [("SECRET_KEY", "a-secret-that-nobody-may-see-anywhere")];
    let output = urge(folder.path(), &["config", "--set", "sockets.per_user=3", "--listen", "127.0.0.1:9"], &environment);
    assert!(output.status.success());
    let shown = text(&output.stdout);
    let line = |key: &str| shown.lines().find(|line| line.starts_with(key)).unwrap();
    assert!(line("secret_key ").contains("***") && line("secret_key ").ends_with("# environment: SECRET_KEY"));
    assert!(line("sockets.per_user").ends_with("# flag") && line("listen").contains("127.0.0.1:9"));
    assert!(line("bus").ends_with("# default"));
    assert!(!shown.contains("nobody-may-see"));
}

#[test]
fn the_template_is_a_good_settings_file() {
    let folder = tempfile::tempdir().unwrap();
    let template = urge(folder.path(), &["config", "--template"], &[]).stdout;
    let defaults = urge(folder.path(), &["config"], &[]);
    // As it is it changes nothing; with every line uncommented it says what holds anyway.
    std::fs::write(folder.path().join("urge.toml"), &template).unwrap();
    assert_eq!(text(&urge(folder.path(), &["config"], &[]).stdout), text(&defaults.stdout));
    let is_setting = |line: &&str| line.strip_prefix('#').is_some_and(|line| !line.starts_with(' ') && line.contains(" = "));
    let lines = text(&template).lines();
    let uncommented: Vec<_> = lines.map(|line| if is_setting(&line) { &line[1..] } else { line }).collect();
    std::fs::write(folder.path().join("urge.toml"), uncommented.join("\n")).unwrap();
    let shown = urge(folder.path(), &["config"], &[]);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    let values = |output: &Output| -> Vec<String> {
        text(&output.stdout).lines().map(|line| line.rsplit_once(" # ").unwrap().0.trim_end().to_owned()).collect()
    };
    assert_eq!(values(&shown), values(&defaults));
    let of_the_file = text(&shown.stdout).lines().filter(|line| line.contains(" # ") && !line.ends_with("# default")).count();
    assert_eq!(of_the_file, uncommented.iter().filter(|line| line.contains(" = ") && !line.starts_with('#')).count());
}

#[test]
fn migrate_makes_the_store() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let output = urge(folder.path(), &["migrate"], &[]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    assert!(folder.path().join("data/urge.db").exists());
}

#[test]
fn openapi_prints_the_document() {
    let folder = tempfile::tempdir().unwrap();
    let output = urge(folder.path(), &["openapi"], &[]);
    assert_eq!(text(&output.stdout), urge::server::document::<urge::app::Apis>());
}

#[tokio::test(flavor = "multi_thread")]
async fn health_asks_a_running_node() {
    let server = TestServer::start().await;
    let (folder, listen) = (server.folder.clone(), server.address.to_string());
    let ask = move || urge(folder.path(), &["health", "--listen", &listen], &[]).status.success();
    assert!(tokio::task::spawn_blocking(ask.clone()).await.unwrap());
    server.stop().await;
    assert!(!tokio::task::spawn_blocking(ask).await.unwrap());
}
