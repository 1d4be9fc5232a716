//! Where everything is kept, and as whom: `store` names the place, `store_scylla.user` and its password the login.

use super::{Reader, StoreSettings, value};

/// The store that the settings name; what is wrong with them is noted in `read`.
pub(super) fn store(read: &Reader<'_>) -> StoreSettings {
    let mut store = read.need("store", value::store, StoreSettings::Sqlite);
    let (user, password) = (read.text("store_scylla.user"), read.hidden("store_scylla.password"));
    for (key, lacks) in [("store_scylla.user", user.is_none()), ("store_scylla.password", password.is_none())] {
        if lacks && (user.is_some() || password.is_some()) {
            read.refuse(key, "the other half of the login is set");
        }
    }
    if let StoreSettings::Scylla { login, .. } = &mut store {
        *login = user.zip(password);
    }
    store
}
