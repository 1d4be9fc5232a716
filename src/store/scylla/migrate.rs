//! The cluster's schema: `cql/NNN_*.cql`, compiled in, applied once each in order and remembered with a checksum, by one
//! runner at a time. A keyspace that is not there, newer or altered is refused with what to do.

use std::time::Duration;

use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::statement::Consistency;
use scylla::statement::unprepared::Statement;
use tokio::time::Instant;
use uuid::Uuid;

use super::{ScyllaOptions, Server, corrupt, error, is_applied, map};
use crate::store::migrate::{Migration, checked, checksum_of, migrations};
use crate::store::{StoreError, StoreResult};

migrations! { "../../../cql/";
    1 "001_init.cql",
    2 "002_outbox.cql",
}

/// How long a runner that has died keeps the others waiting, in seconds; one that lives says so before each statement.
const LOCK_S: i32 = 120;
/// How long one waits for another.
const LOCK_PATIENCE: Duration = Duration::from_mins(3);
const LOCK_PAUSE: Duration = Duration::from_millis(200);
/// How long a server may list a keyspace or table that others are making before it works with it: Cassandra shows what is
/// made as soon as that is written down, and takes it into use a moment later.
const USABLE_WITHIN: Duration = Duration::from_secs(10);

/// Finds out which server answers: the one has system tables of its own name.
pub async fn server(session: &Session) -> StoreResult<Server> {
    let tables: Vec<(String,)> = known(session, "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'system'").await?;
    Ok(if tables.iter().any(|(name,)| name.contains("scylla")) { Server::Scylla } else { Server::Cassandra })
}

/// Takes the keyspace into use; makes it and what it lacks, if that is wanted.
pub async fn prepare(session: &Session, options: &ScyllaOptions) -> StoreResult<()> {
    let keyspace = &options.keyspace;
    let is_name = |name: &str| {
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        (1..=48).contains(&name.len()) && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(letters)
    };
    if !is_name(keyspace) {
        return Err(StoreError::Refused(format!("{keyspace:?} is no name of a keyspace: up to 48 of a-z, 0-9 and _, a letter first")));
    }
    let wanted = format!("SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = '{keyspace}'");
    let is_there = !known::<(String,)>(session, &wanted).await?.is_empty();
    match options.migrate {
        None if !is_there => {
            return Err(StoreError::Refused(format!("the keyspace {keyspace} is not there: run `urge migrate` first")));
        }
        Some(replicas) if !is_there => {
            let (servers, wanted) = (session.get_cluster_state().get_nodes_info().len(), usize::from(replicas));
            // A cluster that is starting shows its servers one by one: what is made meanwhile would die with the first of them.
            let named = wanted.min(options.nodes.len());
            if servers < named {
                let words = format!(
                    "{servers} of {named} servers that URGE_STORE names have joined the cluster, and the keyspace is made when all have"
                );
                return Err(StoreError::Unavailable(words.into()));
            }
            if servers < wanted {
                tracing::warn!(
                    servers,
                    wanted,
                    "there are fewer servers than replicas wanted: the keyspace is made with as many as can be"
                );
            }
            let replicas = servers.clamp(1, wanted);
            let replication = format!("{{'class': 'NetworkTopologyStrategy', 'replication_factor': {replicas}}}");
            execute(session, keyspace, &format!("CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {replication}")).await?;
            agree(session).await?;
        }
        _ => {}
    }
    once_usable(|| async { session.use_keyspace(keyspace.clone(), true).await.map_err(|error| StoreError::Unavailable(Box::new(error))) })
        .await?;
    if options.migrate.is_none() {
        let missing = missing(session, keyspace).await?;
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = missing.iter().map(|migration| migration.name).collect();
        return Err(StoreError::Refused(format!("the keyspace {keyspace} lacks {}: run `urge migrate` first", names.join(", "))));
    }
    if is_there && has_table(session, keyspace).await? && missing(session, keyspace).await?.is_empty() {
        return Ok(());
    }
    migrate(session, keyspace).await
}

async fn migrate(session: &Session, keyspace: &str) -> StoreResult<()> {
    let make = "CREATE TABLE IF NOT EXISTS migration_lock (id int PRIMARY KEY, owner uuid)";
    once_usable(|| execute(session, keyspace, make)).await?;
    agree(session).await?;
    let owner = Uuid::new_v4();
    lock(session, keyspace, owner).await?;
    let done = apply_missing(session, keyspace, owner).await;
    let unlock = session.query_unpaged("DELETE FROM migration_lock WHERE id = 0 IF owner = ?", (owner,)).await;
    if let Err(error) = unlock {
        tracing::warn!(%error, "the lock of the migrations could not be given back; it ends by itself in two minutes");
    }
    done
}

/// Takes the lock: also the trial of whether this keyspace takes conditions at all.
async fn lock(session: &Session, keyspace: &str, owner: Uuid) -> StoreResult<()> {
    let take = format!("INSERT INTO migration_lock (id, owner) VALUES (0, ?) IF NOT EXISTS USING TTL {LOCK_S}");
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        let answer = once_usable(|| async { session.query_unpaged(take.as_str(), (owner,)).await.map_err(map) }).await;
        let answer = answer.map_err(|error| match error {
            StoreError::Statement(cause) => StoreError::Refused(format!(
                "the keyspace {keyspace} takes no conditional writes ({cause}): on older versions of ScyllaDB make it with tablets = {{'enabled': false}}"
            )),
            other => other,
        })?;
        if is_applied(answer)? {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(StoreError::Refused(format!("somebody else has been migrating the keyspace {keyspace} for minutes: try again")));
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

/// Holds the lock for as long again.
async fn keep(session: &Session, keyspace: &str, owner: Uuid) -> StoreResult<()> {
    let keep = format!("UPDATE migration_lock USING TTL {LOCK_S} SET owner = ? WHERE id = 0 IF owner = ?");
    if is_applied(session.query_unpaged(keep, (owner, owner)).await.map_err(map)?)? {
        return Ok(());
    }
    Err(StoreError::Refused(format!("somebody else has begun to migrate the keyspace {keyspace}, for this took too long: try again")))
}

async fn apply_missing(session: &Session, keyspace: &str, owner: Uuid) -> StoreResult<()> {
    execute(session, keyspace, "CREATE TABLE IF NOT EXISTS migrations (number bigint PRIMARY KEY, name text, checksum text)").await?;
    agree(session).await?;
    for migration in missing(session, keyspace).await? {
        for statement in statements_of(migration.sql) {
            keep(session, keyspace, owner).await?;
            execute(session, keyspace, &statement).await?;
        }
        agree(session).await?;
        let values = (migration.number, migration.name, checksum_of(migration.sql));
        let remember = "INSERT INTO migrations (number, name, checksum) VALUES (?, ?, ?)";
        session.query_unpaged(remember, values).await.map_err(map)?;
        tracing::info!(migration = migration.name, "schema migrated");
    }
    Ok(())
}

async fn missing(session: &Session, keyspace: &str) -> StoreResult<Vec<&'static Migration>> {
    if !has_table(session, keyspace).await? {
        return Ok(MIGRATIONS.iter().collect());
    }
    let mut applied: Vec<(i64, String, String)> = once_usable(|| rows(session, "SELECT number, name, checksum FROM migrations")).await?;
    applied.sort_unstable();
    checked(MIGRATIONS, &applied, &format!("the keyspace {keyspace}"), "URGE_STORE")
}

async fn has_table(session: &Session, keyspace: &str) -> StoreResult<bool> {
    let wanted = format!("SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{keyspace}' AND table_name = 'migrations'");
    Ok(!known::<(String,)>(session, &wanted).await?.is_empty())
}

/// Tries something with a keyspace or a table that others may just be making.
async fn once_usable<T, F: Future<Output = StoreResult<T>>>(attempt: impl Fn() -> F) -> StoreResult<T> {
    let until = Instant::now() + USABLE_WITHIN;
    loop {
        match attempt().await {
            Err(StoreError::Statement(_) | StoreError::Unavailable(_)) if Instant::now() < until => tokio::time::sleep(LOCK_PAUSE).await,
            done => return done,
        }
    }
}

/// What a quorum has.
async fn rows<R>(session: &Session, cql: &str) -> StoreResult<Vec<R>>
where
    R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
{
    read(session, cql, Consistency::LocalQuorum).await
}

/// What the node that is asked knows of the schema: each has its own copy.
async fn known<R>(session: &Session, cql: &str) -> StoreResult<Vec<R>>
where
    R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
{
    read(session, cql, Consistency::One).await
}

async fn read<R>(session: &Session, cql: &str, consistency: Consistency) -> StoreResult<Vec<R>>
where
    R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
{
    let mut statement = Statement::new(cql);
    statement.set_consistency(consistency);
    let result = session.query_unpaged(statement, ()).await.map_err(map)?.into_rows_result().map_err(corrupt)?;
    result.rows::<R>().map_err(corrupt)?.collect::<Result<_, _>>().map_err(corrupt)
}

async fn execute(session: &Session, keyspace: &str, cql: &str) -> StoreResult<()> {
    let mut statement = Statement::new(cql);
    // A change of the schema takes longer than a request may.
    statement.set_request_timeout(Some(Duration::from_secs(30)));
    session.query_unpaged(statement, ()).await.map_err(|error| error::of_rights(keyspace, error))?;
    Ok(())
}

/// Waits until all nodes have the same schema.
async fn agree(session: &Session) -> StoreResult<()> {
    session.await_schema_agreement().await.map_err(|error| StoreError::Unavailable(Box::new(error)))?;
    Ok(())
}

/// The statements of a file: without comments, cut at semicolons, which stand nowhere else.
fn statements_of(cql: &str) -> Vec<String> {
    let lines = cql.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n");
    lines.split(';').map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}
