//! Where settings come from: the table's defaults, `urge.toml`, `.env`, the environment, flags; the later wins,
//! and every value remembers who set it. Nothing is interpreted here: values stay text.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::setting::{self, REPLACED, SETTINGS, Setting};
use super::{ConfigError, Problem};

/// The file that is read when there is one and no other is named.
const DEFAULT_FILE: &str = "urge.toml";

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody: the table of settings.
    Default,
    /// A file, `urge.toml` or the one of `--config`.
    File(PathBuf),
    /// `.env`, under this name.
    DotEnv(String),
    /// The environment, under this name.
    Environment(String),
    /// A flag.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::DotEnv(name) => write!(f, ".env: {name}"),
            Self::Environment(name) => write!(f, "environment: {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// A setting's value and who set it. Not `Debug`, since it may be a secret.
#[derive(Clone)]
pub struct Resolved {
    /// Which.
    pub setting: &'static Setting,
    /// The text; empty: unset.
    pub value: String,
    /// Who said so.
    pub origin: Origin,
}

/// What there is to read settings from. Not `Debug`, since there are secrets among it.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file of `--config`; it must exist. Without it, `urge.toml` in `directory`, which need not.
    pub file: Option<PathBuf>,
    /// Where `urge.toml` and `.env` are looked for.
    pub directory: PathBuf,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// `--set key=value` and its shorthands, keys as in `urge.toml`.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// Of this process: its working folder and environment.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(String, String)>) -> Self {
        let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self { file, directory: PathBuf::from("."), environment: environment.collect(), flags }
    }
}

/// All settings, resolved, with remarks about what was found on the way.
#[derive(Clone)]
pub struct Layers {
    /// One for each setting, in the table's order.
    pub values: Vec<Resolved>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

impl Layers {
    /// Reads all sources.
    pub fn read(sources: &Sources) -> Result<Self, ConfigError> {
        let values = SETTINGS.iter().map(|setting| Resolved { setting, value: setting.default.to_owned(), origin: Origin::Default });
        let mut layers = Self { values: values.collect(), warnings: Vec::new() };
        let mut problems = Vec::new();
        layers.read_file(sources, &mut problems);
        let path = sources.directory.join(".env");
        match read_dot_env(&path) {
            Ok(variables) => layers.read_variables(&variables, Origin::DotEnv),
            Err(words) => problems.push(Problem::of_source(&path.display().to_string(), words)),
        }
        layers.read_variables(&sources.environment, Origin::Environment);
        for (key, value) in &sources.flags {
            match setting::find(key) {
                Some(_) => layers.set(key, value.clone(), Origin::Flag),
                None => problems.push(unknown(key, "--set")),
            }
        }
        if problems.is_empty() { Ok(layers) } else { Err(ConfigError { problems }) }
    }

    fn set(&mut self, key: &str, value: String, origin: Origin) {
        if let Some(resolved) = self.values.iter_mut().find(|resolved| resolved.setting.key == key) {
            (resolved.value, resolved.origin) = (value, origin);
        }
    }

    fn read_file(&mut self, sources: &Sources, problems: &mut Vec<Problem>) {
        let path = sources.file.clone().unwrap_or_else(|| sources.directory.join(DEFAULT_FILE));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && sources.file.is_none() => return,
            Err(error) => return problems.push(Problem::of_source(&path.display().to_string(), format!("cannot be read: {error}"))),
        };
        match text.parse::<toml::Table>() {
            Ok(table) => self.read_table("", &table, &path, problems),
            Err(error) => problems.push(Problem::of_source(&path.display().to_string(), format!("is not valid TOML: {}", error.message()))),
        }
    }

    fn read_table(&mut self, prefix: &str, table: &toml::Table, path: &Path, problems: &mut Vec<Problem>) {
        for (name, value) in table {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match value {
                toml::Value::Table(table) => self.read_table(&key, table, path, problems),
                value if setting::find(&key).is_some() => match plain(value) {
                    Some(text) => self.set(&key, text, Origin::File(path.to_owned())),
                    None => problems.push(Problem::of_source(
                        &key,
                        format!("in {} must be text, a number, true, false or a list of texts", path.display()),
                    )),
                },
                _ => problems.push(unknown(&key, &path.display().to_string())),
            }
        }
    }

    /// Empty variables count as unset: that is what compose files and charts pass for "none".
    fn read_variables(&mut self, variables: &BTreeMap<String, String>, origin: fn(String) -> Origin) {
        for setting in SETTINGS {
            let names = [Some(setting.env()), setting.old_name.map(str::to_owned)];
            let found = names
                .into_iter()
                .flatten()
                .find_map(|name| variables.get(&name).filter(|value| !value.is_empty()).map(|value| (name, value)));
            if let Some((name, value)) = found {
                self.set(setting.key, value.clone(), origin(name));
            }
        }
        for (name, replacement) in REPLACED {
            if variables.get(*name).is_some_and(|value| !value.is_empty()) {
                self.warnings.push(format!("{name} is not used: {replacement} replaces it"));
            }
        }
        for name in variables.keys().filter(|name| name.starts_with("URGE_") && !name.starts_with("URGE_TEST_")) {
            if !SETTINGS.iter().any(|setting| setting.env() == **name) {
                let like = setting::nearest(&name["URGE_".len()..].to_ascii_lowercase()).and_then(setting::find);
                let hint = like.map(|like| format!(", is {} meant?", like.env())).unwrap_or_default();
                self.warnings.push(format!("{name} is no setting{hint}"));
            }
        }
    }
}

fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => items.iter().map(plain).collect::<Option<Vec<_>>>().map(|items| items.join(", ")),
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

fn unknown(key: &str, place: &str) -> Problem {
    let hint = setting::nearest(key).map(|like| format!("; is {like} meant?")).unwrap_or_default();
    Problem::of_source(key, format!("in {place} is no setting{hint}"))
}

fn read_dot_env(path: &Path) -> Result<BTreeMap<String, String>, String> {
    match dotenvy::from_path_iter(path) {
        Ok(lines) => lines.collect::<Result<_, _>>().map_err(|_| "has a line that is not NAME=value".to_owned()),
        Err(error) if error.not_found() => Ok(BTreeMap::new()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}
