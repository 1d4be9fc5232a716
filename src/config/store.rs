//! Where everything is kept, and as whom: `store` names the place, `store_scylla.user` and its password the login.

use super::{Reader, StoreSettings, value};

/// The store that the settings name; what is wrong with them is noted in `read`.
pub(super) fn store(read: &Reader<'_>) -> StoreSettings {
    let mut store = read.need("store", value::store, StoreSettings::Embedded);
    let found = read.login("store_scylla.user", "store_scylla.password");
    if let StoreSettings::Scylla { login, .. } = &mut store {
        *login = found;
    }
    store
}
