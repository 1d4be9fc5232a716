//! What the server found out about a request before any handler saw it, for handlers that need it as an argument.

use std::net::{IpAddr, Ipv4Addr};

use poem::{FromRequest, Request, RequestBody, Result};

/// The address that the request comes from: the peer's, or the one that a trusted proxy names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl<'a> FromRequest<'a> for ClientAddress {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        Ok(request.data::<Self>().copied().unwrap_or(Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED))))
    }
}

/// The id that this request has in logs and in the `x-request-id` of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub String);
