//! What every `api.rs` shares: [`Json`] (bytes by serde, schema by poem-openapi), the one error answer
//! [`ApiError`] and the one success without data, [`Success`]. The services know nothing of it.
//! No feature is imported here: who calls is `auth::Caller`'s business.

mod client;
pub mod failure;
pub mod json;
mod param;

pub use client::{ClientAddress, RequestId};
pub use failure::{ApiError, Failure};
pub use json::{BODY_LIMIT_BYTES, Json, JsonWithNulls, read_object, snake_case};
pub use param::{Choice, Flag, Whole, page};
use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::{Deserialize, Serialize};

/// What handlers return.
pub type ApiResult<T> = Result<Json<T>, ApiError>;

/// Success without data.
#[derive(Clone, Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct Success {
    /// Always true.
    pub success: bool,
    /// A sentence for the person in front of the app.
    pub message: String,
}

impl Example for Success {
    fn example() -> Self {
        Self::new("done")
    }
}

impl Success {
    /// `{"success": true, "message": ...}`
    pub fn new(message: impl Into<String>) -> Self {
        Self { success: true, message: message.into() }
    }

    /// The same as an answer.
    pub fn answer(message: impl Into<String>) -> ApiResult<Self> {
        Ok(Json(Self::new(message)))
    }
}
