//! The binary as it is run: in production, with files of settings, and what starting and idling costs.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::timeout;

use crate::support::{PATIENCE, Process, World, command};

/// Settings with which production starts; nobody listens where codes go.
pub(super) const PRODUCTION: [(&str, &str); 8] = [
    ("URGE_ENV", "production"),
    ("URGE_SECRET_KEY", "a secret of more than thirty-two characters"),
    ("URGE_CORS_ORIGINS", "https://app.example.com"),
    ("URGE_USERS_DIRECTORY", "contacts"),
    ("URGE_SMS_PROVIDER", "twilio"),
    ("URGE_SMS_TWILIO_ACCOUNT_SID", "AC01"),
    ("URGE_SMS_TWILIO_AUTH_TOKEN", "token-of-the-account"),
    ("URGE_SMS_TWILIO_FROM", "+15005550006"),
];

fn urge(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_urge"));
    command.args(arguments).current_dir(folder).env_clear().envs(PRODUCTION).env("URGE_LISTEN", "127.0.0.1:0");
    command::output(&mut command)
}

#[test]
fn production_does_not_migrate_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let refused = urge(folder.path(), &[]);
    let words = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(words.contains("lacks 001_log.sql") && words.contains("run `urge migrate` first"), "{words}");
    let migrated = urge(folder.path(), &["migrate"]);
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn production_runs_after_it_and_logs_json() {
    let url = [("URGE_SMS_TWILIO_URL", "http://127.0.0.1:9"), ("URGE_LOG", "info,urge=debug")];
    let mut node = Process::under("\"$0\" migrate || exit 1", &[&PRODUCTION[..], &url].concat());
    let world = World::at(&node.url());
    // Without a code an account can do nothing but verify.
    let phone = World::new_phone();
    let account = world.rest.register(&phone, "Ada").await.unwrap();
    let refused = world.rest.as_account(&account).me().await.unwrap_err();
    assert_eq!((refused.status(), refused.code()), (403, "phone_unverified"));
    let refused = world.rest.post("/auth/send-code", &serde_json::json!({"phone_number": phone})).await.unwrap_err();
    assert_eq!((refused.status(), refused.code()), (503, "sms_unavailable"));
    assert!(node.terminate().success());

    let lines = node.log();
    let (schema, log): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.starts_with("the store's schema"));
    assert_eq!(schema.len(), 1, "what migrate said");
    let mut messages = Vec::new();
    for line in log {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(["timestamp", "level", "message", "target"].iter().all(|field| entry[field].is_string()), "{line}");
        assert!(entry["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
        if entry["message"].as_str().unwrap().contains("SMS") {
            assert_eq!((&entry["level"], &entry["code"]), (&"WARN".into(), &"sms_unavailable".into()), "{line}");
            assert_eq!(entry["span"]["id"].as_str().map(str::len), Some(32), "it says which request: {line}");
        }
        messages.push(entry["message"].as_str().unwrap().to_owned());
    }
    for message in ["listening", "stopping", "the SMS could not be sent, try again in a moment"] {
        assert!(messages.iter().any(|one| one == message), "{message} in {messages:?}");
    }
    for private in
        [phone.trim_start_matches('+'), &account.access_token, &account.refresh_token, "token-of-the-account", "a secret of more"]
    {
        assert!(!lines.iter().any(|line| line.contains(private)), "the log holds {private}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_come_from_files_too_and_the_later_source_wins() {
    // In the folder in which it is started: the file says three things, `.env` two of them, the environment one.
    let write = "\
        printf '[auth]\\naccess_token_ttl = \"1h\"\\nrefresh_token_ttl = \"90d\"\\n[sockets]\\nper_user = 3\\n' > urge.toml; \
        printf 'URGE_AUTH_ACCESS_TOKEN_TTL=2h\\nURGE_SOCKETS_PER_USER=4\\nURGE_DEFAULT_COUNTRY=US\\n' > .env; \
        \"$0\" config";
    let node = Process::under(write, &[("URGE_SOCKETS_PER_USER", "5")]);
    let account = World::at(&node.url()).rest.register("(202) 555-0101", "Ada").await.unwrap();
    assert_eq!(account.answer["expires_in"], 7_200);
    assert_eq!(account.answer["user"]["phone_number"], "+12025550101");
    let lines = node.log();
    let shown = |key: &str| {
        let line = lines.iter().find(|line| line.starts_with(&format!("{key} "))).unwrap();
        let (value, origin) = line.split_once('=').unwrap().1.rsplit_once('#').unwrap();
        (value.trim().to_owned(), origin.trim().to_owned())
    };
    let (ttl, origin) = shown("auth.access_token_ttl");
    assert!(ttl == "2h" && origin.contains(".env"), "{ttl} {origin}");
    let (ttl, origin) = shown("auth.refresh_token_ttl");
    assert!(ttl == "90d" && origin.contains("urge.toml"), "{ttl} {origin}");
    let (count, origin) = shown("sockets.per_user");
    assert!(count == "5" && origin.contains("environment"), "{count} {origin}");
}

/// A line of what the kernel says about a process, in kB.
fn kilobytes(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// docs/BENCHMARKS.md has what the release build takes. Here are its bounds, with room for a binary that is not
/// optimised on a machine that does other things meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_ready_within_a_second_and_small_when_idle() {
    let begin = Instant::now();
    let node = Process::start();
    let rest = World::at(&node.url()).rest.with_prefix("");
    while rest.get("/ready").await.is_err() {}
    let took = begin.elapsed();
    assert!(took < 3 * Duration::from_secs(1), "{took:?} to /ready");
    // 40 MB, of which the release binary is 24: what is left is the node's own. The pages of the tests' binary, twice as
    // large, are not counted.
    let own = || kilobytes(node.pid(), "RssAnon") + kilobytes(node.pid(), "RssShmem");
    let is_below = async |kilobytes: u64| {
        let small = async {
            // The allocator gives back what is free when something happens.
            while own() >= kilobytes {
                rest.get("/ready").await.unwrap();
            }
        };
        timeout(PATIENCE, small).await.is_ok()
    };
    assert!(is_below(16 * 1024).await, "{} kB when idle", own());
    // A password hash takes 19 MiB. Each thread that hashes may keep them for the next one, and no more.
    let threads = std::thread::available_parallelism().unwrap().get() as u64;
    let ann = World::at(&node.url()).person_with_password("Ann").await;
    let devices = join_all((0..20).map(|_| ann.another_device())).await;
    assert_eq!(devices.len(), 20);
    assert!(is_below((16 + 20 * threads) * 1024).await, "{} kB after twenty logins", own());
}
