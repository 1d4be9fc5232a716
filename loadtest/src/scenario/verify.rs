//! Whether a cluster keeps its promise while it is used: people write through all nodes and doors, and what was acknowledged is
//! compared with what is stored and with what everybody was told. It harms nothing; do that meanwhile, if it is to show something.

use std::{
    fs,
    io::{Write, stderr, stdout},
    time::Duration,
};

use loadtest::{
    Account, Door, Rest,
    verify::{Options, Verify},
};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::{
    cli::{Settings, VerifyFigures},
    failure::{Failure, Result, Trying},
};

/// How often it says how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Runs it; fails when the promise was not kept.
pub async fn run(settings: &Settings, figures: &VerifyFigures) -> Result<()> {
    let options = Options {
        nodes: figures.nodes.clone(),
        senders: figures.senders as usize,
        rate: figures.rate,
        doors: Door::ALL.to_vec(),
        blink: figures.blink,
        as_app: false,
        seed: settings.seed,
    };
    let verify = match &figures.tokens {
        None => Verify::start(&options).await,
        Some(path) => Verify::start_as(&options, people(&options, &fs::read_to_string(path).trying(path.display())?).await?).await,
    };
    let verify = verify.trying("beginning")?;
    let mut ticks = interval(TOLD_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let telling = async {
        let mut before = 0;
        loop {
            ticks.tick().await;
            let now = verify.acknowledged();
            let _ = write!(stderr(), "\r{now} acknowledged, {}/s, {} connections   ", now - before, verify.connections());
            before = now;
        }
    };
    tokio::select! {
        () = sleep(figures.length) => {}
        () = telling => {}
    }
    let verdict = verify.judge(Duration::from_secs_f64(settings.drain)).await.trying("judging")?;
    let _ = writeln!(stderr());
    writeln!(stdout(), "verify: {verdict}").trying("printing the result")?;
    if let Some(path) = &settings.json {
        let text = serde_json::to_string_pretty(&json!({"scenario": "verify", "figures": figures, "result": verdict}));
        fs::write(path, text.trying("writing the report")? + "\n").trying(format!("writing {}", path.display()))?;
    }
    if verdict.holds() { Ok(()) } else { Err(Failure::new("the promise was not kept")) }
}

/// The people of these access tokens, one a line.
async fn people(options: &Options, tokens: &str) -> Result<Vec<Account>> {
    let mut accounts = Vec::new();
    for token in tokens.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let me = Rest::new(&options.nodes[0]).with_token(token).me().await.trying("asking whose a token is")?;
        let user_id = me["id"].as_str().unwrap_or_default().to_owned();
        accounts.push(Account { user_id, access_token: token.to_owned(), refresh_token: String::new(), answer: me });
    }
    let wanted = options.senders + 1;
    if accounts.len() == wanted {
        Ok(accounts)
    } else {
        Err(Failure::new(format!("{wanted} tokens are needed, and there are {}", accounts.len())))
    }
}
