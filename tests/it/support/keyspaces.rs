//! The keyspaces of the nodes that tests start, if `URGE_TEST_STORE=cluster` says that they keep everything on the cluster. A data
//! folder has one as long as it is there, so that a node that starts again in it finds what was; then it is emptied for another.
//! So there are never more than folders at a time, and no test needs to know.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use tokio::sync::OnceCell;
use urge::app::Stores;
use urge::store::{Scylla, ScyllaOptions};

use super::cluster::{block_on, new_keyspace, servers, within};

/// A keyspace and the stores in it.
struct Keyspace {
    name: String,
    stores: Stores,
}

/// Who has which.
static TAKEN: LazyLock<Mutex<HashMap<PathBuf, Arc<Keyspace>>>> = LazyLock::new(Mutex::default);

/// Whether nodes keep everything on the cluster.
pub fn are_wanted() -> bool {
    match std::env::var("URGE_TEST_STORE").as_deref() {
        Ok("cluster") => true,
        Ok(other) => panic!("URGE_TEST_STORE={other} is none: leave it out, or say cluster"),
        Err(_) => false,
    }
}

/// The stores of a node in this folder, or below it.
pub async fn stores(folder: &Path) -> Option<Stores> {
    are_wanted().then(servers)??;
    Some(within(take(folder.to_owned())).await.stores.clone())
}

/// The same as a setting.
pub fn setting(folder: &Path) -> Option<String> {
    let nodes = are_wanted().then(servers)??.scylla.join(",");
    let keyspace = block_on(take(folder.to_owned()));
    Some(format!("scylla://{nodes}/{}", keyspace.name))
}

async fn take(folder: PathBuf) -> Arc<Keyspace> {
    let free = {
        let mut taken = TAKEN.lock();
        if let Some((_, keyspace)) = taken.iter().find(|(other, _)| folder.starts_with(other)) {
            return Arc::clone(keyspace);
        }
        let gone = taken.keys().find(|folder| !folder.exists()).cloned();
        gone.and_then(|folder| taken.remove(&folder))
    };
    let keyspace = match free {
        Some(keyspace) => {
            empty(&keyspace.name).await;
            keyspace
        }
        None => Arc::new(make().await),
    };
    TAKEN.lock().insert(folder, Arc::clone(&keyspace));
    keyspace
}

async fn make() -> Keyspace {
    // One at a time: servers of which several are asked to change their schema at once come to disagree about it.
    static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let (nodes, name) = (servers().unwrap().scylla.clone(), new_keyspace());
    let _making = MAKING.lock().await;
    let scylla = Scylla::connect(&ScyllaOptions { nodes, keyspace: name.clone(), login: None, migrate: Some(1) }).await.unwrap();
    Keyspace { name, stores: Stores::scylla(&scylla).await.unwrap() }
}

/// How long the emptying of a table may take.
const EMPTYING: Duration = Duration::from_secs(30);

/// Forgets all rows of a keyspace. What is empty already is left alone, for emptying costs a flush.
async fn empty(keyspace: &str) {
    static SESSION: OnceCell<Session> = OnceCell::const_new();
    let session = SESSION.get_or_init(|| async {
        let profile = ExecutionProfile::builder().request_timeout(Some(EMPTYING)).build().into_handle();
        let builder = SessionBuilder::new().known_nodes(&servers().unwrap().scylla).default_execution_profile_handle(profile);
        builder.build().await.unwrap()
    });
    let session = session.await;
    let tables = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
    let tables = session.query_unpaged(tables, (keyspace,)).await.unwrap().into_rows_result().unwrap();
    let tables = tables.rows::<(String,)>().unwrap().map(|row| row.unwrap().0).filter(|name| !name.starts_with("migration"));
    join_all(tables.map(|table| async move {
        let first = session.query_unpaged(format!("SELECT * FROM {keyspace}.{table} LIMIT 1"), ()).await.unwrap();
        if first.into_rows_result().unwrap().rows_num() > 0 {
            session.query_unpaged(format!("TRUNCATE {keyspace}.{table}"), ()).await.unwrap();
        }
    }))
    .await;
}
