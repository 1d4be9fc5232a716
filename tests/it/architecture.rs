//! The house rules that a compiler does not know: imports point one way, statements stay with their store, HTTP stays at
//! the edge, every file says what it is and is short enough to be read. Each finding names its file and line.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Past this many lines a file is to be split by use case.
const MAX_LINES: usize = 450;
/// Endings that name nothing.
const EMPTY_NAMES: [&str; 7] = ["Manager", "Helper", "Util", "Impl", "Inner", "Info", "Data"];

/// A file below `src/`, without its comments, its texts and its tests.
struct Source {
    /// Its path below `src/`, with slashes.
    path: String,
    /// As written.
    text: String,
    /// As long as `text`, line by line, with blanks for what is no code of the product.
    code: String,
}

impl Source {
    /// The first folder or file name: the module of the crate's root that it belongs to.
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// How many modules lead to it: `super::` so many times is the crate's root.
    fn depth(&self) -> usize {
        self.path.split('/').count() - usize::from(self.path.ends_with("/mod.rs"))
    }

    fn is_tests(&self) -> bool {
        self.path.ends_with("/tests.rs")
    }

    /// Statements of SQLite, and the engine that they run on.
    fn is_sqlite(&self) -> bool {
        self.path.starts_with("store/") || self.path.ends_with("/sqlite.rs") || self.path.contains("/sqlite/")
    }

    fn is_scylla(&self) -> bool {
        self.path.starts_with("store/") || self.path.ends_with("/scylla.rs") || self.path.contains("/scylla/")
    }

    fn line_of(&self, offset: usize) -> usize {
        self.code[..offset].matches('\n').count() + 1
    }

    fn at(&self, offset: usize) -> String {
        format!("src/{}:{}", self.path, self.line_of(offset))
    }

    /// Where this word stands, as a whole word.
    fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        self.code
            .match_indices(word)
            .map(|(at, _)| at)
            .filter(move |at| !self.code[..*at].ends_with(is_part) && !self.code[at + word.len()..].starts_with(is_part))
    }

    /// The modules of the crate's root that are named, each with its place.
    fn imports(&self) -> Vec<(usize, String)> {
        let to_root = "super::".repeat(self.depth());
        let mut found = Vec::new();
        for at in self.words("crate") {
            if let Some(rest) = self.code[at..].strip_prefix("crate::") {
                found.extend(first_names(rest).into_iter().map(|name| (at, name)));
            }
        }
        for (at, _) in self.code.match_indices(&to_root) {
            let rest = &self.code[at + to_root.len()..];
            if !self.code[..at].ends_with("::") && !rest.starts_with("super::") {
                found.extend(first_names(rest).into_iter().map(|name| (at, name)));
            }
        }
        found
    }
}

/// The names that a path goes on with: one, or those of a braced list.
fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(list) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let mut names = vec![name(list)];
    let mut depth = 0;
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(&list[at + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Blanks for comments and for what stands in quotation marks; lines stay lines.
fn without_comments_and_texts(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let blank = |part: &str| part.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect::<String>();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let hashes = rest.strip_prefix('r').map(|raw| raw.len() - raw.trim_start_matches('#').len());
        let is_raw = hashes.is_some_and(|hashes| rest[1 + hashes..].starts_with('"')) && !code.ends_with(|c: char| c.is_alphanumeric());
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if is_raw {
            let end = format!("\"{}", "#".repeat(hashes.unwrap()));
            let from = hashes.unwrap() + 2;
            rest[from..].find(&end).map_or(rest.len(), |at| from + at + end.len())
        } else if c == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            end.map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("'\"'") || rest.starts_with("'/'") {
            3
        } else if let Some(escaped) = rest.strip_prefix("'\\") {
            escaped.find('\'').map_or(rest.len(), |end| if end == 0 { 4 } else { end + 3 })
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        code.push_str(&blank(&rest[..length]));
        rest = &rest[length..];
    }
    code
}

/// Blanks for items under `#[cfg(test)]`: to their closing brace, which stands where their first line begins.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut until: Option<String> = None;
    let mut pending = false;
    for line in code.lines() {
        let indent: String = line.chars().take_while(|c| *c == ' ').collect();
        if let Some(end) = &until {
            if line == *end {
                until = None;
            }
        } else if line.trim() == "#[cfg(test)]" {
            pending = true;
        } else if pending && !line.trim_start().starts_with("#[") {
            pending = false;
            if line.trim_end().ends_with('{') {
                until = Some(format!("{indent}}}"));
            }
        } else if !pending {
            kept.push_str(line);
        }
        kept.push('\n');
    }
    kept
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    let read = |file: PathBuf| {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
        let text = std::fs::read_to_string(&file).unwrap();
        let code = without_tests(&without_comments_and_texts(&text));
        Source { path, text, code }
    };
    files.into_iter().map(read).collect()
}

/// The modules of `src/lib.rs`, in their order.
fn order() -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let name = |line: &str| line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')).map(str::to_owned);
    let order: BTreeMap<_, _> = text.lines().filter_map(name).enumerate().map(|(at, name)| (name, at)).collect();
    assert!(order.len() > 15, "src/lib.rs lists the modules with `pub mod`");
    order
}

fn judge(rule: &str, findings: &[String]) {
    let mut words = String::new();
    for finding in findings {
        let _ = write!(words, "\n  {finding}");
    }
    assert!(findings.is_empty(), "{rule}:{words}");
}

#[test]
fn imports_point_upwards_in_the_list_of_modules() {
    let order = order();
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| !source.is_tests()) {
        let Some(own) = order.get(source.module()) else { continue };
        for (at, name) in source.imports() {
            // Who calls is a question of every handler; a handler is imported by nobody but the server.
            let asks_who_calls = name == "auth" && source.path.ends_with("/api.rs");
            if !asks_who_calls && order.get(&name).is_some_and(|place| place > own) {
                findings.push(format!("{}: {} imports {name}, which stands below it in src/lib.rs", source.at(at), source.module()));
            }
        }
    }
    judge("a module imports only from modules above it", &findings);
}

#[test]
fn backends_are_named_where_they_are_made_and_chosen() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| !source.is_tests()) {
        let of_sqlite: &[&str] = if source.is_sqlite() { &[] } else { &["rusqlite", "sqlite::"] };
        let chooses = source.path.starts_with("app/") || source.path == "app.rs";
        let of_types: &[&str] = if source.is_sqlite() || chooses { &[] } else { &["Sqlite", "SqliteOptions"] };
        let of_cluster: &[&str] = if source.is_scylla() || chooses { &[] } else { &["Scylla", "ScyllaOptions"] };
        let of_bus: &[&str] = if source.path.starts_with("bus/") || chooses { &[] } else { &["bus::Local", "local::Local"] };
        for word in of_sqlite.iter().chain(of_types).chain(of_cluster).chain(of_bus) {
            let whole = word.trim_end_matches("::");
            findings.extend(
                source
                    .words(whole)
                    .filter(|at| source.code[*at..].starts_with(word))
                    .map(|at| format!("{}: names `{whole}`", source.at(at))),
            );
        }
    }
    judge("a store's statements are its sqlite.rs's and scylla.rs's own, and only app/ knows which store is behind the traits", &findings);
}

#[test]
fn http_stays_at_the_edge() {
    let at_the_edge = |path: &str| {
        ["rest/", "server/", "gateway/", "app/"].iter().any(|folder| path.starts_with(folder))
            || path.ends_with("/api.rs")
            || path == "auth/caller.rs"
    };
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| !source.is_tests() && !at_the_edge(&source.path)) {
        findings.extend(source.words("poem").map(|at| format!("{}: names poem", source.at(at))));
    }
    judge("only handlers and the server know of HTTP (poem-openapi's derives apart)", &findings);
}

#[test]
fn every_file_says_what_it_is_and_is_short_enough_to_be_read() {
    let mut findings = Vec::new();
    for Source { path, text, .. } in &sources() {
        if !text.starts_with("//! ") {
            findings.push(format!("src/{path}:1: lacks the //! that says what it is, why here and what not"));
        }
        let lines = text.lines().count();
        if lines > MAX_LINES {
            findings.push(format!("src/{path}:{lines}: more than {MAX_LINES} lines, split it by use case"));
        }
    }
    judge("a file opens with its purpose and ends before one is tired of it", &findings);
}

#[test]
fn names_say_something() {
    let mut findings = Vec::new();
    for source in &sources() {
        for word in ["struct", "enum", "trait", "type"] {
            for at in source.words(word) {
                let name = first_names(source.code[at + word.len()..].trim_start()).remove(0);
                if let Some(empty) = EMPTY_NAMES.iter().find(|empty| name.ends_with(*empty)) {
                    findings.push(format!("{}: `{name}` ends in {empty}", source.at(at)));
                }
            }
        }
    }
    judge("a name is a noun of chat", &findings);
}

#[test]
fn the_rules_are_read_from_code_alone() {
    let text = concat!(
        "use crate::a::{self, B};\n// use crate::b;\nuse crate::{c::{d, e}, f};\nlet t = \"crate::g \\\" crate::h\"; let q = '\"';\n",
        "super::super::x::Y; super::y();\n#[cfg(test)]\n#[allow(clippy::unwrap_used)]\nmod tests {\n    use crate::i;\n}\nuse crate::j;\n"
    );
    let code = without_tests(&without_comments_and_texts(text));
    assert_eq!(code.lines().count(), text.lines().count());
    let source = Source { path: "m/n.rs".into(), text: text.into(), code };
    let names: Vec<_> = source.imports().into_iter().map(|(at, name)| (source.line_of(at), name)).collect();
    let expected = [(1, "a"), (3, "c"), (3, "f"), (11, "j"), (5, "x")];
    assert_eq!(names, expected.map(|(line, name)| (line, name.to_owned())));
}
