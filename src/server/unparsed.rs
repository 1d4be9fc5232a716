//! Requests that the HTTP engine cannot parse. It answers them by itself, with a status and nothing else; here is what
//! leaves instead.

use http::StatusCode;

use crate::error::{Error, ErrorCode};
use crate::rest::failure::whole_answer_as;

/// Our answer in the place of the engine's, whose head begins like this; `None`: it is none that it makes up.
pub fn answer(head: &[u8]) -> Option<Vec<u8>> {
    let status = head.strip_prefix(b"HTTP/1.0 ").or_else(|| head.strip_prefix(b"HTTP/1.1 "))?.get(..3)?;
    let status = StatusCode::from_bytes(status).ok()?;
    let error = match status {
        StatusCode::BAD_REQUEST => Error::bad_request("this is no HTTP request that can be read"),
        StatusCode::URI_TOO_LONG => Error::new(ErrorCode::TooLarge, "the path and query are too long"),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            Error::new(ErrorCode::TooLarge, "the head of the request is too large: at most 64 KiB and 100 headers")
        }
        _ => return None,
    };
    Some(whole_answer_as(status, &error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_the_engine_makes_up_gets_a_body() {
        let ours = |head: &str| answer(head.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap());
        let refused = ours("HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\r\n").unwrap();
        assert!(refused.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{refused}");
        assert!(refused.contains("\r\nconnection: close\r\n\r\n{") && refused.ends_with('}'), "{refused}");
        assert!(ours("HTTP/1.0 400 Bad Request\r\n").is_some());
        assert!(ours("HTTP/1.1 414 URI Too Long\r\n").unwrap().contains("\"code\":\"too_large\""));
        for other in ["", "HTTP/1.1", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "{\"success\": false}"] {
            assert_eq!(ours(other), None, "{other}");
        }
    }
}
