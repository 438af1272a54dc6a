//! Answers as HTTP has them.

use crate::store::protocol::Refusal;
use axum::body::Body;
use axum::http::{Response, StatusCode, header};

/// A refusal.
pub fn refused(refusal: &Refusal) -> Response<Body> {
    let status = StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json(status, serde_json::to_vec(refusal).unwrap_or_default())
}

/// JSON, and the end of its line.
pub fn json(status: StatusCode, mut bytes: Vec<u8>) -> Response<Body> {
    bytes.push(b'\n');
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    set_header(&mut response, header::CONTENT_TYPE, "application/json");
    response
}

/// Sets a header to a value of this program's own.
pub fn set_header(response: &mut Response<Body>, name: header::HeaderName, value: &str) {
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
}
