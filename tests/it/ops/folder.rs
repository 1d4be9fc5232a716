//! The data folder: one node at a time, and nobody else's business.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use tokio::time::timeout;

use super::cluster::becomes;
use crate::support::{PATIENCE, Process, World, command};

/// The binary with this data folder.
fn urge(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_urge"));
    command.args(arguments).args(["--listen", "127.0.0.1:0"]).current_dir(data.parent().unwrap()).env_clear();
    command::output(command.env("URGE_DATA_DIR", data))
}

/// Waits until it has logged this.
async fn logged(node: &Process, words: &str) {
    let logged = async {
        while !node.has_logged(words) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, logged).await.expect(words);
}

const WAITS: &str = "another node has the data folder";

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_is_refused_and_the_first_goes_on() {
    let mut node = Process::start();
    let world = World::at(&node.url());
    let ada = world.person("Ada").await;
    let refused = urge(&node.folder.path().join("data"), &[]);
    let words = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(words.contains("is in use by another node") && words.contains("stop that one, or point URGE_DATA_DIR elsewhere"), "{words}");
    ada.rest.me().await.unwrap();

    // What is left of a node that was killed is in nobody's way.
    node.kill();
    node.start_again();
    ada.rest.me().await.unwrap();
    assert!(!node.has_logged(WAITS));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_waits_until_the_one_before_has_ended() {
    let mut node = Process::start();
    let ada = World::at(&node.url()).person("Ada").await;
    let data = node.folder.path().join("data");
    let successor = Process::with(&[("URGE_DATA_DIR", data.to_str().unwrap())]);
    logged(&successor, WAITS).await;
    ada.rest.me().await.unwrap();
    let waiting = World::at(&successor.url()).rest.with_prefix("");
    waiting.get("/health").await.unwrap();
    let unready = waiting.get("/ready").await.unwrap_err();
    assert_eq!((unready.status(), unready.code()), (503, "unavailable"));
    let words = &unready.refusal().unwrap().message;
    assert!(words.contains("the node is starting: another node has the data folder, since 20"), "{words}");
    assert!(node.terminate().success());
    becomes(&successor, "/ready", 200).await;
    World::at(&successor.url()).rest.as_account(&ada.account).me().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_waits_can_be_stopped() {
    let node = Process::start();
    let data = node.folder.path().join("data");
    let mut successor = Process::with(&[("URGE_DATA_DIR", data.to_str().unwrap())]);
    logged(&successor, WAITS).await;
    assert!(successor.terminate().success());
    World::at(&node.url()).rest.get("/ready").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_runs_beside_a_node() {
    let node = Process::start();
    let ada = World::at(&node.url()).person("Ada").await;
    let migrated = urge(&node.folder.path().join("data"), &["migrate"]);
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    ada.rest.me().await.unwrap();
}

/// Who may do what with it.
fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_is_for_its_owner_alone() {
    let node = Process::under("umask 022", &[]);
    World::at(&node.url()).person("Ada").await;
    let data = node.folder.path().join("data");
    assert_eq!(mode(&data), 0o700);
    let files: Vec<_> = std::fs::read_dir(&data).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(["urge.db", "urge.db-wal", "lock", "secret"].iter().all(|name| files.contains(&data.join(name))), "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn a_folder_that_is_there_is_left_as_it_is() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o750)).unwrap();
    assert!(urge(&data, &["migrate"]).status.success());
    assert_eq!((mode(&data), mode(&data.join("urge.db"))), (0o750, 0o600));
}
