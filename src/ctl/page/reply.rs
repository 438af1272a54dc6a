//! Answers of the page and its API, and what every one of them tells browsers.

use super::super::output::printable;
use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use maud::Markup;
use serde_json::{Value, json};

/// Nothing but this server's own two files, no frames, no forms that lead elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

fn answer(status: StatusCode, kind: &str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, kind);
    response
}

fn set(response: &mut Response<Body>, name: header::HeaderName, value: &str) {
    crate::serve::answers::set_header(response, name, value);
}

/// A page.
pub(super) fn html(status: StatusCode, markup: Markup) -> Response<Body> {
    answer(status, "text/html; charset=utf-8", markup.into_string())
}

/// JSON, and nothing in it that a terminal acts on.
pub(super) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    answer(status, "application/json", printable(&format!("{value}\n")))
}

/// A text of another kind.
pub(super) fn text(kind: &str, text: impl Into<Body>) -> Response<Body> {
    answer(StatusCode::OK, kind, text)
}

/// A file of the program itself: its address changes with its content.
pub(super) fn file(kind: &str, content: &'static str) -> Response<Body> {
    let mut response = text(kind, content);
    set(&mut response, header::CACHE_CONTROL, "public, max-age=31536000, immutable");
    response
}

/// Why the API refuses.
pub(super) fn refusal(status: StatusCode, text: &str) -> Response<Body> {
    json(status, &json!({ "error": text }))
}

/// To another page.
pub(super) fn see_other(path: &str) -> Response<Body> {
    let mut response = answer(StatusCode::SEE_OTHER, "text/plain", "");
    set(&mut response, header::LOCATION, path);
    response
}

/// The same, and sets the login's cookie; an empty one takes it away.
pub(super) fn with_cookie(mut response: Response<Body>, cookie: &str) -> Response<Body> {
    let age = if cookie.is_empty() { 0 } else { super::logins::LOGIN_TIME.as_secs() };
    let name = super::logins::COOKIE;
    let value = format!("{name}={cookie}; Path=/; Max-Age={age}; Secure; HttpOnly; SameSite=Strict");
    set(&mut response, header::SET_COOKIE, &value);
    response
}

/// What every answer says. Connections are closed: an open page holds none of those that machines need.
pub(super) async fn guarded(mut response: Response<Body>) -> Response<Body> {
    if !response.headers().contains_key(header::CACHE_CONTROL) {
        set(&mut response, header::CACHE_CONTROL, "no-store");
    }
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Not less: a form says by it where it comes from.
        (header::REFERRER_POLICY, "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::CONNECTION, "close"),
    ] {
        set(&mut response, name, value);
    }
    response
}
