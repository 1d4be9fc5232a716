//! The cluster's engine: ScyllaDB, or Apache Cassandra 5, through one session a node. It prepares the features' statements
//! when the node starts, bounds what is under way, retries what may be retried, and knows what became of a condition.
//! No statement of a feature stands here; `LOCAL_QUORUM` and `LOCAL_SERIAL` hold for all of them.

mod error;
mod migrate;
mod retry;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
pub use error::{corrupt, map};
use futures_util::future::try_join_all;
use scylla::client::PoolSize;
use scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileHandle};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::policies::timestamp_generator::{MonotonicTimestampGenerator, TimestampGenerator};
use scylla::response::PagingState;
use scylla::response::query_result::QueryResult;
use scylla::serialize::batch::BatchValues;
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency};
use scylla::value::{CqlValue, Row};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Probe, StoreError, StoreResult, count_unreadable};
use crate::clock::wrong_by_ms;

/// Every request ends by then: what a caller waits for at most, too.
const DEADLINE: Duration = Duration::from_secs(3);
/// What may be repeated and has not been answered by then is asked of another node as well: one that stands still refuses nothing.
const SPECULATE_AFTER: Duration = Duration::from_millis(100);
/// The same of writes, which cost each replica more.
const WRITE_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// A node that has said nothing for so long, on a connection on which it was asked whether it is there, is not asked any more.
const SILENCE: Duration = Duration::from_secs(3);
/// How often each is asked that.
const ASKED_EVERY: Duration = Duration::from_millis(1_500);
/// Statements under way at a time; what comes on top is refused with [`StoreError::Full`].
const IN_FLIGHT: usize = 4_096;
/// How long a node of the cluster may take to be connected to.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Connections to each node, or one to each of its shards, if it has more.
const CONNECTIONS: std::num::NonZeroUsize = std::num::NonZeroUsize::new(4).unwrap();
/// Writes of several partitions that go out as one: Cassandra warns of more partitions in a batch.
const APART_A_BATCH: usize = 10;
/// Rows that come in one answer.
const PAGE_ROWS: i32 = 1_000;

/// Where the cluster is.
#[derive(Clone)]
pub struct ScyllaOptions {
    /// `host:port` of some of its nodes.
    pub nodes: Vec<String>,
    /// The keyspace.
    pub keyspace: String,
    /// Name and password, where the servers ask for them.
    pub login: Option<(String, String)>,
    /// Make the keyspace, with so many replicas of everything, and apply missing migrations; else what is missing is refused.
    pub migrate: Option<u8>,
}

/// Which server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// ScyllaDB.
    Scylla,
    /// Apache Cassandra.
    Cassandra,
}

/// What a statement does, which decides how it is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads what a quorum has.
    Read,
    /// Reads after finishing what conditions have begun: what became of one.
    Serial,
    /// Writes without a condition, and may be repeated.
    Write,
    /// Writes under a condition.
    Conditional,
}

/// The statements of one feature, prepared. Made by the macro `statements!`.
#[async_trait]
pub trait Statements: Send + Sync + Sized + 'static {
    /// Prepares them all.
    async fn prepare(scylla: &Scylla) -> StoreResult<Self>;
}

/// A struct of prepared statements: `statements! { struct LogStatements { row: Read "SELECT …"; } }`.
macro_rules! statements {
    ($(#[$doc:meta])* $visibility:vis struct $name:ident { $($field:ident: $kind:ident $cql:expr;)+ }) => {
        $(#[$doc])*
        $visibility struct $name {
            $(pub(crate) $field: ::scylla::statement::prepared::PreparedStatement,)+
        }

        #[::async_trait::async_trait]
        impl $crate::store::Statements for $name {
            async fn prepare(scylla: &$crate::store::Scylla) -> $crate::store::StoreResult<Self> {
                Ok(Self { $($field: scylla.prepare($crate::store::Kind::$kind, $cql).await?,)+ })
            }
        }
    };
}
pub(crate) use statements;

/// The session of this node; clones share it.
#[derive(Clone)]
pub struct Scylla {
    shared: Arc<Shared>,
}

struct Shared {
    session: Session,
    server: Server,
    places: Semaphore,
    profiles: Profiles,
    probe: ProbeStatements,
}

/// How each kind of statement is executed.
struct Profiles {
    read: ExecutionProfileHandle,
    serial: ExecutionProfileHandle,
    write: ExecutionProfileHandle,
}

impl Profiles {
    fn new() -> Self {
        let base = ExecutionProfile::builder()
            .request_timeout(Some(DEADLINE))
            .serial_consistency(Some(SerialConsistency::LocalSerial))
            .consistency(Consistency::LocalQuorum)
            .retry_policy(Arc::new(retry::Retries));
        // Of statements that may be repeated alone: not of those with a condition.
        let after = |retry_interval| Some(Arc::new(SimpleSpeculativeExecutionPolicy { max_retry_count: 1, retry_interval }) as Arc<_>);
        let read = base.clone().speculative_execution_policy(after(SPECULATE_AFTER));
        Self {
            read: read.clone().build().into_handle(),
            serial: read.consistency(Consistency::LocalSerial).build().into_handle(),
            write: base.speculative_execution_policy(after(WRITE_AGAIN_AFTER)).build().into_handle(),
        }
    }
}

struct ProbeStatements {
    write: PreparedStatement,
    read: PreparedStatement,
}

/// A store of one feature: the session and the feature's statements.
pub struct Prepared<S> {
    scylla: Scylla,
    /// The statements.
    pub statements: S,
}

/// Writes that go out together, whatever statement each of them is.
#[derive(Default)]
pub struct Writes<'a> {
    /// The statements.
    pub statements: Vec<&'a PreparedStatement>,
    /// The values of each.
    pub values: Vec<Box<dyn SerializeRow + Send + Sync + 'a>>,
}

impl<'a> Writes<'a> {
    /// One more.
    pub fn add(&mut self, statement: &'a PreparedStatement, values: impl SerializeRow + Send + Sync + 'a) {
        self.statements.push(statement);
        self.values.push(Box::new(values));
    }
}

impl<S> Deref for Prepared<S> {
    type Target = Scylla;

    fn deref(&self) -> &Scylla {
        &self.scylla
    }
}

/// What plain writes are stamped with: this machine's clock, also where a test sets it wrong.
struct Stamps(MonotonicTimestampGenerator);

impl TimestampGenerator for Stamps {
    fn next_timestamp(&self) -> i64 {
        self.0.next_timestamp() + wrong_by_ms() * 1_000
    }
}

impl Scylla {
    /// Connects, looks at the keyspace and its schema, and applies what is missing if that is wanted.
    ///
    /// # Errors
    /// `Unavailable`: no node answers. `Refused` says in words what is wrong with the login, the keyspace or its schema, and what to do.
    pub async fn connect(options: &ScyllaOptions) -> StoreResult<Self> {
        let profiles = Profiles::new();
        let mut builder = SessionBuilder::new();
        if let Some((user, password)) = &options.login {
            builder = builder.user(user, password);
        }
        let builder = builder
            .known_nodes(&options.nodes)
            .connection_timeout(CONNECT_LIMIT)
            .pool_size(PoolSize::PerHost(CONNECTIONS))
            .timestamp_generator(Arc::new(Stamps(MonotonicTimestampGenerator::new())))
            // Where keys are is known from the keyspaces; of the tables nothing more is needed.
            .fetch_full_schema_metadata(false)
            .auto_await_schema_agreement(false)
            .default_execution_profile_handle(profiles.write.clone());
        if options.migrate.is_some() {
            // With more patience: a server that changes its schema may say nothing for longer.
            let session = builder.clone().build().await.map_err(error::of_connecting)?;
            migrate::prepare(&session, options).await?;
        }
        let builder = builder.keepalive_interval(ASKED_EVERY).keepalive_timeout(SILENCE);
        let session = builder.build().await.map_err(error::of_connecting)?;
        let server = migrate::server(&session).await?;
        migrate::prepare(&session, options).await?;
        let probe = ProbeStatements {
            write: prepare(&session, &profiles, Kind::Write, "UPDATE probe SET n = ? WHERE id = 0").await?,
            read: prepare(&session, &profiles, Kind::Read, "SELECT n FROM probe WHERE id = 0").await?,
        };
        // Whether rows can be written is not known before one is.
        session.execute_unpaged(&probe.write, (0_i64,)).await.map_err(|error| error::of_rights(&options.keyspace, error))?;
        tracing::info!(?server, keyspace = options.keyspace, "connected to the store");
        Ok(Self { shared: Arc::new(Shared { session, server, places: Semaphore::new(IN_FLIGHT), profiles, probe }) })
    }

    /// Which server it is.
    pub fn server(&self) -> Server {
        self.shared.server
    }

    /// The store of a feature: prepares its statements.
    pub async fn prepared<S: Statements>(&self) -> StoreResult<Prepared<S>> {
        Ok(Prepared { scylla: self.clone(), statements: S::prepare(self).await? })
    }

    /// Prepares one statement.
    pub async fn prepare(&self, kind: Kind, cql: &str) -> StoreResult<PreparedStatement> {
        prepare(&self.shared.session, &self.shared.profiles, kind, cql).await
    }

    /// A place for one statement, a batch being one: what is under way is bounded, and what is begun is counted.
    fn enter(&self, kind: &'static str) -> StoreResult<SemaphorePermit<'_>> {
        self.enter_many(kind, 1)
    }

    fn enter_many(&self, kind: &'static str, count: usize) -> StoreResult<SemaphorePermit<'_>> {
        let places = self.shared.places.try_acquire_many(count as u32).map_err(|_| StoreError::Full)?;
        metrics::counter!("urge_store_statements_total", "kind" => kind).increment(count as u64);
        Ok(places)
    }

    /// All rows of a [`Kind::Read`] or [`Kind::Serial`] statement, page after page; an empty page is not the end. A row that cannot
    /// be read, for a cell of it is empty, is reported and passed over: it must not take along those beside it.
    pub async fn rows<R>(&self, statement: &PreparedStatement, values: impl SerializeRow) -> StoreResult<Vec<R>>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let pass_over = |error| {
            count_unreadable();
            let statement = statement.get_statement();
            tracing::error!(%error, statement, "a stored row cannot be read, and is passed over");
            Ok(())
        };
        self.read(statement, values, pass_over).await
    }

    async fn read<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
        unreadable: impl Fn(StoreError) -> StoreResult<()>,
    ) -> StoreResult<Vec<R>>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let _place = self.enter("read")?;
        let (mut rows, mut page) = (Vec::new(), PagingState::start());
        loop {
            let (result, next) = self.shared.session.execute_single_page(statement, &values, page).await.map_err(map)?;
            let result = result.into_rows_result().map_err(corrupt)?;
            for row in result.rows::<R>().map_err(corrupt)? {
                match row {
                    Ok(row) => rows.push(row),
                    Err(error) => unreadable(corrupt(error))?,
                }
            }
            match next.into_paging_control_flow() {
                std::ops::ControlFlow::Break(()) => return Ok(rows),
                std::ops::ControlFlow::Continue(state) => page = state,
            }
        }
    }

    /// The first row, if there is one; if it cannot be read, that is an error.
    pub async fn row<R>(&self, statement: &PreparedStatement, values: impl SerializeRow) -> StoreResult<Option<R>>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        Ok(self.read(statement, values, Err).await?.into_iter().next())
    }

    /// Executes a [`Kind::Write`] statement.
    pub async fn write(&self, statement: &PreparedStatement, values: impl SerializeRow) -> StoreResult<()> {
        let _place = self.enter("write")?;
        self.shared.session.execute_unpaged(statement, values).await.map_err(map)?;
        Ok(())
    }

    /// Executes a [`Kind::Write`] statement with each of these values, side by side; `Full`: none of them was begun.
    pub async fn write_all<V: SerializeRow>(&self, statement: &PreparedStatement, values: &[V]) -> StoreResult<()> {
        let _places = self.enter_many("write", values.len())?;
        try_join_all(values.iter().map(|values| self.shared.session.execute_unpaged(statement, values))).await.map_err(map)?;
        Ok(())
    }

    /// Executes writes of one partition as one, none of them with a condition.
    pub async fn write_batch(&self, statements: &[&PreparedStatement], values: impl BatchValues) -> StoreResult<()> {
        let _place = self.enter("write")?;
        self.shared.session.batch(&writes_of(statements), values).await.map_err(map)?;
        Ok(())
    }

    /// Executes writes of several partitions, some of them as one each time: a request costs a server as much as the small write in
    /// it. In no order, and after an error some may be done; `Full`: none of them was begun.
    pub async fn write_apart<V: SerializeRow>(&self, statements: &[&PreparedStatement], values: &[V]) -> StoreResult<()> {
        let batches: Vec<_> = statements.chunks(APART_A_BATCH).zip(values.chunks(APART_A_BATCH)).collect();
        let _places = self.enter_many("write", batches.len())?;
        let written = batches.into_iter().map(async |(statements, values)| {
            if let ([statement], [values]) = (statements, values) {
                return self.shared.session.execute_unpaged(statement, values).await;
            }
            self.shared.session.batch(&writes_of(statements), values).await
        });
        try_join_all(written).await.map_err(map)?;
        Ok(())
    }

    /// Executes a [`Kind::Conditional`] statement; whether its condition held, and it was done.
    pub async fn apply(&self, statement: &PreparedStatement, values: impl SerializeRow) -> StoreResult<bool> {
        let _place = self.enter("conditional")?;
        is_applied(self.shared.session.execute_unpaged(statement, values).await.map_err(map)?)
    }

    /// Executes statements of one partition, one of them at least with a condition: all or none. Whether all.
    pub async fn apply_batch(&self, statements: &[&PreparedStatement], values: impl BatchValues) -> StoreResult<bool> {
        let _place = self.enter("conditional")?;
        is_applied(self.shared.session.batch(&batch_of(statements), values).await.map_err(map)?)
    }
}

#[async_trait]
impl Probe for Scylla {
    async fn probe(&self) -> StoreResult<()> {
        let ProbeStatements { write, read } = &self.shared.probe;
        self.write(write, (rand::random::<i64>(),)).await?;
        self.row::<(Option<i64>,)>(read, ()).await?;
        Ok(())
    }
}

/// So many rows at most, as `LIMIT` takes it.
pub fn limit(rows: usize) -> i32 {
    i32::try_from(rows).unwrap_or(i32::MAX)
}

async fn prepare(session: &Session, profiles: &Profiles, kind: Kind, cql: &str) -> StoreResult<PreparedStatement> {
    let mut statement = session.prepare(cql).await.map_err(error::of_preparing)?;
    let profile = match kind {
        Kind::Read => &profiles.read,
        Kind::Serial => &profiles.serial,
        Kind::Write | Kind::Conditional => &profiles.write,
    };
    statement.set_execution_profile_handle(Some(profile.clone()));
    statement.set_is_idempotent(kind != Kind::Conditional);
    statement.set_page_size(PAGE_ROWS);
    Ok(statement)
}

fn batch_of(statements: &[&PreparedStatement]) -> Batch {
    let mut batch = Batch::new(BatchType::Unlogged);
    for statement in statements {
        batch.append_statement((*statement).clone());
    }
    batch
}

/// The same of writes without a condition.
fn writes_of(statements: &[&PreparedStatement]) -> Batch {
    let mut batch = batch_of(statements);
    batch.set_is_idempotent(true);
    batch
}

/// The one column that both servers answer, whatever else they do.
fn is_applied(result: QueryResult) -> StoreResult<bool> {
    let rows = result.into_rows_result().map_err(corrupt)?;
    let at = rows.column_specs().get_by_name("[applied]").map(|(at, _)| at);
    let at = at.ok_or_else(|| StoreError::Corrupt("the answer to a condition does not say whether it held".into()))?;
    let row: Row = rows.first_row().map_err(corrupt)?;
    Ok(matches!(row.columns.get(at), Some(Some(CqlValue::Boolean(true)))))
}
