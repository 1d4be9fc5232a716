//! README.md works as printed: its blocks are cut out of it and run against the real binary, and what they print is
//! compared with what it says. Only the address and the one-time code are other ones.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client;
use crate::support::{Process, command};

const README: &str = include_str!("../../README.md");
const ADDRESS: &str = "http://127.0.0.1:8080";

/// The fenced blocks of this language, in their order; `""` are those of none.
fn blocks(language: &str) -> Vec<&'static str> {
    let mut blocks = Vec::new();
    let mut rest = README;
    while let Some((_, opened)) = rest.split_once("\n```") {
        let (name, body) = opened.split_once('\n').unwrap();
        let (block, behind) = body.split_once("```").unwrap();
        if name == language {
            blocks.push(block);
        }
        rest = behind;
    }
    blocks
}

/// The one block of this language that has these words.
fn block(language: &str, words: &str) -> &'static str {
    let mut found = blocks(language).into_iter().filter(|block| block.contains(words));
    let block = found.next().unwrap_or_else(|| panic!("no block of {language:?} with {words:?}"));
    assert!(found.next().is_none(), "{words} is in two blocks");
    block
}

fn shell(folder: &Path, script: &str) -> Output {
    command::tool(Command::new("sh").args(["-c", script]).current_dir(folder).env("no_proxy", "*"))
}

/// What the script prints, line by line.
fn lines(folder: &Path, script: &str) -> Vec<String> {
    let output = shell(folder, script);
    let (printed, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && errors.is_empty(), "{errors}\n{printed}");
    printed.lines().map(str::to_owned).collect()
}

fn read(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The same with every UUID as `ID`.
fn masked(line: &str) -> String {
    let masked = line.split(' ').map(|word| if uuid::Uuid::parse_str(word).is_ok() { "ID" } else { word });
    masked.collect::<Vec<_>>().join(" ")
}

/// A node, a folder to work in, and the session with curl run in it; what it printed, and its conversation and tokens.
fn session() -> (Process, TempDir, Vec<String>, String) {
    let (node, folder) = (Process::start(), TempDir::new().unwrap());
    // Found within 2 s, and three times that on a machine that is busy with other tests.
    let script = block("sh", "# Two people.").replace(ADDRESS, &node.url()).replace("sleep 2;", "sleep 6;");
    let mut printed = lines(folder.path(), &format!("{script}\necho \"$C\" \"$ADAS_TOKEN\" \"$BENS_TOKEN\""));
    let arguments = printed.pop().unwrap();
    (node, folder, printed, arguments)
}

#[test]
fn the_session_with_curl_prints_what_it_says() {
    if !client::have(&["curl"]) {
        return;
    }
    let (node, folder, printed, arguments) = session();
    let [sent, again, list, history, read_answer, unread, lacks, nothing, found] = &printed[..] else { panic!("{printed:#?}") };
    let sent = read(sent);
    assert_eq!((&sent["content"], &sent["clientMessageId"], &sent["seq"]), (&json!("Hello, Ben!"), &json!("1"), &json!(2)));
    assert_eq!(read(again), sent, "the same client_message_id again gives the same message");
    assert_eq!(read(list)["conversations"][0]["unreadCount"], 1);
    assert!(list.contains("\"unreadCount\":1"), "as the comment quotes it");
    assert_eq!((&read(history)["messages"][0]["id"], &read(history)["total"]), (&sent["id"], &json!(1)));
    assert_eq!((read(read_answer)["success"].clone(), unread.as_str()), (json!(true), "\"unreadCount\":0"));
    assert_eq!(read(lacks)["conversations"][0]["messages"][0]["id"], sent["id"]);
    assert_eq!(read(nothing)["conversations"], json!([]));
    assert_eq!((&read(found)["messages"][0]["id"], &read(found)["total"]), (&sent["id"], &json!(1)));

    // Signing up with a code, which is in the log in the words that are quoted.
    let script = block("sh", "send-code").replace(ADDRESS, &node.url());
    let (ask, register) = script.trim().split_once('\n').unwrap();
    let variables: Vec<_> = block("sh", "# Two people.").lines().filter(|line| line.starts_with("B=") || line.starts_with("J=")).collect();
    let variables = variables.join("\n").replace(ADDRESS, &node.url());
    let asked = lines(folder.path(), &format!("{variables}\n{ask}"));
    assert_eq!(read(&asked[0])["success"], true);
    let words = "one-time code (development): phone=+12025550105 code=";
    assert!(README.replace('\n', " ").contains(words), "the README quotes the line");
    let line = node.logged(words);
    let code = line.split_once(words).and_then(|(_, code)| code.get(..6)).unwrap();
    let quoted = register.split_once("\"verification_code\": \"").unwrap().1.get(..6).unwrap();
    let registered = lines(folder.path(), &format!("{variables}\n{}", register.replace(quoted, code)));
    let registered = read(&registered[0]);
    assert_eq!((&registered["user"]["display_name"], &registered["user"]["is_verified"]), (&json!("Eve"), &json!(true)));
    assert_eq!(arguments.split(' ').count(), 3);
}

#[test]
fn the_session_in_javascript_prints_what_it_says() {
    let Some(installed) = client::javascript() else { return };
    let (node, folder, _, arguments) = session();
    std::os::unix::fs::symlink(installed.join("node_modules"), folder.path().join("node_modules")).unwrap();
    std::fs::write(folder.path().join("chat.mjs"), block("js", "socket.io-client")).unwrap();
    // The command as it is printed, with what the shell of the session knows.
    let command = "node chat.mjs \"$C\" \"$ADAS_TOKEN\" \"$BENS_TOKEN\"";
    assert!(README.contains(&format!("`{command}`")));
    let set = format!("set -- {arguments}; C=$1 ADAS_TOKEN=$2 BENS_TOKEN=$3; export SERVER={}", node.url());
    let mut printed: Vec<_> = lines(folder.path(), &format!("{set}; {command}")).iter().map(|line| masked(line)).collect();
    let mut expected: Vec<_> = block("", "ada  sent").lines().map(masked).collect();
    assert!(expected.iter().any(|line| line.ends_with(" ID")), "{expected:?}");
    // "In about this order": two clients print.
    printed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(printed, expected);
}

#[test]
fn every_command_and_setting_that_it_names_exists() {
    let help = command::output(Command::new(env!("CARGO_BIN_EXE_urge")).arg("--help"));
    let help = String::from_utf8(help.stdout).unwrap();
    let template = command::output(Command::new(env!("CARGO_BIN_EXE_urge")).args(["config", "--template"]));
    let template = String::from_utf8(template.stdout).unwrap();
    for quoted in README.split('`').skip(1).step_by(2) {
        if let Some(command) = quoted.strip_prefix("urge ").and_then(|rest| rest.split(' ').next()) {
            assert!(help.contains(&format!("  {command} ")), "`{quoted}`");
        }
        for name in
            quoted.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')).filter(|name| name.starts_with("URGE_"))
        {
            let is_of_the_tests = name.starts_with("URGE_TEST_");
            let stands_for_several = name.ends_with('_');
            assert!(is_of_the_tests || stands_for_several || template.contains(&format!("# {name};")), "{name}");
        }
    }
    // And what the layout names is there.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for line in README.split_once("## Where things are").unwrap().1.lines().filter(|line| line.starts_with("| `")) {
        let folder = line.split('`').nth(1).unwrap();
        assert!(root.join(folder).is_dir(), "{folder}");
        if folder == "tests/it/" {
            let named: Vec<_> = line.split('`').skip(3).step_by(2).filter(|name| name.ends_with('/')).collect();
            for entry in std::fs::read_dir(root.join(folder)).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir()) {
                let name = format!("{}/", entry.file_name().into_string().unwrap());
                assert!(named.contains(&name.as_str()), "{name} is not in the layout");
            }
            assert!(named.iter().all(|name| root.join(folder).join(name).is_dir()), "{named:?}");
        }
    }
}
