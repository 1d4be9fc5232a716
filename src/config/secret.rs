//! The secret that signs tokens. Production is given one; in development a missing one is made once and kept
//! in the data folder, readable by its owner alone, so that logins survive a restart.

use std::io::Write;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rand::Rng;

use super::Config;
use super::secrecy::Hidden;

/// Its name in the data folder.
const FILE: &str = "secret";

/// The configured secret, or the one of the data folder, made now if there is none.
pub fn load(config: &Config) -> std::io::Result<Hidden> {
    match &config.secret_key {
        Some(secret) => Ok(secret.clone()),
        None => keep(&config.data_dir.join(FILE)),
    }
}

fn keep(path: &Path) -> std::io::Result<Hidden> {
    match read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        other => return other,
    }
    let mut bytes = [0_u8; 48];
    rand::rng().fill_bytes(&mut bytes);
    let text = STANDARD_NO_PAD.encode(bytes);
    // Written aside and linked into place: a crash leaves no half secret, and of two nodes one wins.
    let aside = path.with_extension(format!("{}.new", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&aside, path);
    std::fs::remove_file(&aside)?;
    match linked {
        Ok(()) => Ok(Hidden::new(text)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => read(path),
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> std::io::Result<Hidden> {
    let text = std::fs::read_to_string(path)?;
    if text.trim().len() < super::SECRET_LENGTH {
        let words = format!("{} holds no secret: remove it, and a new one is made (all logins end)", path.display());
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, words));
    }
    Ok(Hidden::new(text.trim().to_owned()))
}
