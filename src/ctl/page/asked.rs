//! Who asks, and whether it was one of this page's own forms that has sent what is asked.

use super::LabPage;
use super::logins::{COOKIE, PageLogin};
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Longest form or order in bytes, and how long it may take to arrive.
const BODY_LIMIT: usize = 8 << 10;
const BODY_TIME: Duration = Duration::from_secs(10);

/// How somebody is known.
pub(super) enum KnownBy {
    /// By the cookie of a login, with this text.
    Cookie(String, PageLogin),
    /// By a token in the request: a program.
    Bearer(String),
}

/// A request, and who asks.
pub(super) struct Asked {
    pub peer: IpAddr,
    /// The admin, where one is known.
    pub by: Option<KnownBy>,
    pub headers: HeaderMap,
    query: String,
}

/// Why somebody who has given a token is refused.
pub(super) struct WrongToken(pub StatusCode, pub String);

impl Asked {
    /// The admin's name.
    pub fn name(&self) -> Option<&str> {
        Some(match self.by.as_ref()? {
            KnownBy::Cookie(_, login) => &login.admin.name,
            KnownBy::Bearer(name) => name,
        })
    }

    /// The login, where one asks by a browser.
    pub fn login(&self) -> Option<(&str, &PageLogin)> {
        match self.by.as_ref()? {
            KnownBy::Cookie(cookie, login) => Some((cookie, login)),
            KnownBy::Bearer(_) => None,
        }
    }

    /// One value of the address behind `?`.
    pub fn query(&self, key: &str) -> Option<String> {
        value(self.query.as_bytes(), key)
    }
}

/// One value of a form.
pub(super) fn value(form: &[u8], key: &str) -> Option<String> {
    form_urlencoded::parse(form).find(|(name, _)| name == key).map(|(_, value)| value.into_owned())
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value.to_owned())
}

impl FromRequestParts<Arc<LabPage>> for Asked {
    type Rejection = axum::response::Response;

    async fn from_request_parts(parts: &mut Parts, page: &Arc<LabPage>) -> Result<Asked, Self::Rejection> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_canonical());
        let peer = peer.unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let by = known_by(page, peer, &parts.headers)
            .map_err(|WrongToken(status, text)| super::reply::refusal(status, &text))?;
        let query = parts.uri.query().unwrap_or_default().to_owned();
        Ok(Asked { peer, by, headers: parts.headers.clone(), query })
    }
}

/// Who asks: nobody who is known, or a wrong token.
fn known_by(page: &LabPage, peer: IpAddr, headers: &HeaderMap) -> Result<Option<KnownBy>, WrongToken> {
    let bearer = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    if let Some(bearer) = bearer {
        let token = bearer.strip_prefix("Bearer ").unwrap_or_default();
        return page.of_token(peer, token).map(|admin| Some(KnownBy::Bearer(admin.name)));
    }
    let found = cookie(headers).and_then(|cookie| page.logins.find(&cookie).map(|login| (cookie, login)));
    let Some((cookie, login)) = found else { return Ok(None) };
    if page.admins.as_ref().is_some_and(|admins| admins.still_counts(&login.admin)) {
        return Ok(Some(KnownBy::Cookie(cookie, login)));
    }
    page.logins.close(&cookie);
    Ok(None)
}

/// Whether a page of this server has sent this, as the browser says, which no page can forge (Fetch Metadata, RFC 6454). Who says
/// nothing of it is no browser, and has no forms.
pub(super) fn is_own_form(headers: &HeaderMap) -> bool {
    let one = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let site = one("sec-fetch-site");
    let host = one("host").unwrap_or_default();
    let origin = one("origin").map(|origin| origin.strip_prefix("https://") == Some(host));
    match (site, origin) {
        (None, None) | (_, Some(false)) => false,
        (site, _) => site.is_none_or(|site| site == "same-origin"),
    }
}

/// A form or an order, whole.
pub(super) async fn received(body: Body) -> Option<Vec<u8>> {
    let bytes = tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, BODY_LIMIT)).await;
    bytes.ok()?.ok().map(|bytes| bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_forms_of_this_server_are_its_own() {
        let of = |site: Option<&str>, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert("host", "10.0.0.1:7443".parse().unwrap());
            site.map(|site| headers.insert("sec-fetch-site", site.parse().unwrap()));
            origin.map(|origin| headers.insert("origin", origin.parse().unwrap()));
            is_own_form(&headers)
        };
        let own = Some("https://10.0.0.1:7443");
        assert!(of(Some("same-origin"), own) && of(Some("same-origin"), None) && of(None, own));
        for (site, origin) in [
            (None, None),
            (Some("cross-site"), own),
            (Some("same-site"), own),
            (Some("none"), None),
            (Some("same-origin"), Some("https://evil.example")),
            (None, Some("null")),
            (None, Some("http://10.0.0.1:7443")),
            (None, Some("https://10.0.0.1:7443.evil.example")),
        ] {
            assert!(!of(site, origin), "{site:?} {origin:?}");
        }
    }
}
