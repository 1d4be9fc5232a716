//! The command line: `serve` (the default), `migrate`, `openapi`, `config`, `health`; nothing else happens here.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use urge::config::{self, Config, Layers, Sources};
use urge::{app, server, telemetry};

/// Many small, short-lived things on few threads, and 19 MiB a password hash: this one is quicker at the former than the
/// system's allocator, and gives the latter back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The backend of a mobile messenger.
#[derive(Parser)]
#[command(name = "urge", version)]
struct Arguments {
    /// The settings file; without it urge.toml, if there is one.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Any setting, as in urge.toml; may be given many times.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
    /// The address and port to listen on.
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// The folder of the embedded store.
    #[arg(long, global = true, value_name = "FOLDER")]
    data_dir: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the node (the default).
    Serve,
    /// Bring the store's schema up to date, and make what is missing on the bus.
    Migrate,
    /// Print the OpenAPI document.
    Openapi,
    /// Print all settings and where each came from, secrets masked.
    Config {
        /// Print a complete urge.toml instead, every setting explained.
        #[arg(long)]
        template: bool,
    },
    /// Ask a running node whether it is alive.
    Health,
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as key=value")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

fn main() -> ExitCode {
    match execute(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "urge: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(arguments: Arguments) -> Outcome {
    let mut flags = arguments.set;
    flags.extend(arguments.listen.map(|listen| ("listen".to_owned(), listen)));
    flags.extend(arguments.data_dir.map(|folder| ("data_dir".to_owned(), folder)));
    let sources = Sources::of_process(arguments.config, flags);
    match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(Config::load(&sources)?),
        Command::Migrate => migrate(&Config::load(&sources)?),
        Command::Openapi => print(&server::document::<app::Apis>()),
        Command::Config { template: true } => print(&config::setting::template()),
        Command::Config { template: false } => {
            let layers = Layers::read(&sources)?;
            print(&config::describe(&layers))?;
            Config::check(&layers)?;
            Ok(())
        }
        Command::Health => health(Config::load(&sources)?.listen),
    }
}

fn print(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

fn serve(config: Config) -> Outcome {
    telemetry::start_logging(&config);
    let ended = run(config);
    telemetry::finish_logging();
    ended
}

fn run(config: Config) -> Outcome {
    runtime()?.block_on(async {
        let listener = server::bind(config.listen).map_err(|error| format!("cannot listen on {}: {error}", config.listen))?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tracing::info!(address = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "listening");
        let shutdown = async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        Ok(app::run(config, listener, shutdown).await?)
    })
}

fn migrate(config: &Config) -> Outcome {
    let done = runtime()?.block_on(app::migrate(config))?;
    print(&(done + "\n"))
}

fn health(listen: SocketAddr) -> Outcome {
    let ip = if listen.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listen.ip() };
    let url = format!("http://{}/health", SocketAddr::new(ip, listen.port()));
    runtime()?.block_on(async {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(3)).no_proxy().build()?;
        client.get(&url).send().await?.error_for_status()?;
        print("alive\n")
    })
}
