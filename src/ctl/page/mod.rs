//! The page of `serve`: the lab at a glance, its machines and images, and what can be done with them, in any browser; the API
//! with the same answers; and metrics. It shows what `status`, `history`, `images` and `log` show, and does its actions as
//! `--via` does them: by a process of this program, written down with who wanted it.
//!
//! Without a login there are names and states only. No path of it is one of the store's, and no request waits for another's
//! look at the disk: see [`kept`].

mod act;
mod api;
mod asked;
mod frame;
mod glance;
mod kept;
mod logins;
mod look;
mod machine;
mod metrics;
mod reply;
mod stored;
mod visits;

use super::Error;
use crate::serve::Store;
use crate::serve::admin::{AdminResult, Admins, KnownAdmin};
use crate::store::lease::Tell;
use crate::store::protocol::{Code, Refusal};
use act::PageAction;
use asked::{Asked, WrongToken};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, get, post};
use kept::KeptLook;
use logins::Logins;
pub(super) use look::LabFolders;
use look::{ImagesSeen, LabSeen, MachineSeen};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long a look at the lab, and at one machine, is good for.
const LOOK: Duration = Duration::from_secs(2);
/// The same of all images.
const IMAGES: Duration = Duration::from_secs(10);
/// Looks at once; the others wait.
const LOOKS: usize = 4;
/// Machines whose looks are kept.
const MACHINES: usize = 64;

/// What a path gets.
type PageState = State<Arc<LabPage>>;

/// What the page works on.
pub(super) struct LabPage {
    folders: LabFolders,
    store: Arc<Store>,
    admins: Option<Arc<Admins>>,
    tell: Arc<dyn Tell>,
    logins: Logins,
    looks: Arc<Semaphore>,
    lab: KeptLook<LabSeen>,
    images: KeptLook<ImagesSeen>,
    machines: Mutex<HashMap<Ipv4Addr, Arc<KeptLook<MachineSeen>>>>,
}

impl LabPage {
    /// The page of a server with these folders, and the admins who may log in.
    pub fn new(
        folders: LabFolders,
        store: Arc<Store>,
        admins: Option<Arc<Admins>>,
        tell: Arc<dyn Tell>,
    ) -> LabPage {
        LabPage {
            folders,
            store,
            admins: admins.filter(|admins| admins.has_tokens()),
            tell,
            logins: Logins::default(),
            looks: Arc::new(Semaphore::new(LOOKS)),
            lab: KeptLook::new(LOOK),
            images: KeptLook::new(IMAGES),
            machines: Mutex::default(),
        }
    }

    /// All its paths.
    pub fn router(self) -> Router {
        let mut router = Router::new();
        for (path, methods) in api_paths() {
            router = router.route(path, methods);
        }
        for (path, methods) in visits::paths() {
            router = router.route(path, methods);
        }
        router.layer(axum::middleware::map_response(reply::guarded)).with_state(Arc::new(self))
    }

    async fn lab(&self) -> Result<Arc<LabSeen>, Error> {
        let (folders, tell) = (self.folders.clone(), self.tell.clone());
        // Visitors are not told why, but the log is.
        let look = move || folders.lab().inspect_err(|e| tell.warn(&format!("page: {e}")));
        self.lab.get(&self.looks, look).await
    }

    async fn images(&self) -> Result<Arc<ImagesSeen>, Error> {
        let folders = self.folders.clone();
        self.images.get(&self.looks, move || folders.images()).await
    }

    async fn machine(&self, ip: Ipv4Addr) -> Result<Arc<MachineSeen>, Error> {
        let kept = {
            let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
            if machines.len() >= MACHINES {
                machines.retain(|_, kept| !kept.is_over());
            }
            machines.entry(ip).or_insert_with(|| Arc::new(KeptLook::new(LOOK))).clone()
        };
        let folders = self.folders.clone();
        kept.get(&self.looks, move || folders.machine(ip)).await
    }

    /// The machine that somebody names, where there can be one.
    async fn named(&self, name: &str) -> Result<Option<Arc<MachineSeen>>, Error> {
        match self.folders.address(name)? {
            Some(ip) => self.machine(ip).await.map(Some),
            None => Ok(None),
        }
    }

    /// What whoever asks is told of an error: paths are for admins.
    fn told(&self, asked: &Asked, error: &Error) -> String {
        match asked.by {
            Some(_) => error.to_string(),
            None => "the server cannot read its folders; its log says why".into(),
        }
    }

    /// Who has this token.
    fn of_token(&self, peer: IpAddr, token: &str) -> Result<KnownAdmin, WrongToken> {
        let Some(admins) = &self.admins else {
            let text = "nobody can log in here: serve --admin-tokens FILE, by HTTPS";
            return Err(WrongToken(StatusCode::FORBIDDEN, text.into()));
        };
        if !self.logins.may_try(peer) {
            let text = "too many failed logins from this address: wait a minute";
            return Err(WrongToken(StatusCode::TOO_MANY_REQUESTS, text.into()));
        }
        admins.of_token(&peer.to_string(), token).map_err(|refusal| {
            if refusal.code == Code::UnknownToken {
                self.logins.has_failed(peer);
            }
            let status = StatusCode::from_u16(refusal.code.status());
            WrongToken(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), refusal.text)
        })
    }

    /// Does an action for whoever asks; `how` he does.
    async fn perform(
        &self,
        asked: &Asked,
        ip: Ipv4Addr,
        action: &PageAction,
        how: &str,
    ) -> Result<AdminResult, Refusal> {
        let (Some(admins), Some(name)) = (&self.admins, asked.name()) else {
            return Err(Refusal::new(Code::Forbidden, "nobody is logged in"));
        };
        let who = format!("{name} ({how}, from {})", asked.peer);
        let result = admins.perform(&who, action.words(ip)).await;
        // What is shown next is what is there now.
        self.machines.lock().unwrap_or_else(PoisonError::into_inner).remove(&ip);
        self.lab.forget().await;
        result
    }
}

/// The paths of the API, as `openapi.json` has them.
fn api_paths() -> Vec<(&'static str, MethodRouter<Arc<LabPage>>)> {
    vec![
        ("/api/v1/machines", get(api::machines)),
        ("/api/v1/machines/{name}", get(api::machine)),
        ("/api/v1/machines/{name}/history", get(api::jobs)),
        ("/api/v1/machines/{name}/sets", get(api::sets)),
        ("/api/v1/machines/{name}/log", get(api::log)),
        ("/api/v1/machines/{name}/arm", post(api::arm)),
        ("/api/v1/machines/{name}/disarm", post(api::disarm)),
        ("/api/v1/images", get(api::all_images)),
        ("/metrics", get(visits::metrics)),
        ("/openapi.json", get(api::description)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::http::PAGE_PATH;

    /// The description names every path of the API, and no other.
    #[test]
    fn openapi_has_each_path() {
        let text: serde_json::Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
        let described: Vec<&String> = text["paths"].as_object().unwrap().keys().collect();
        let mut paths: Vec<&str> = api_paths().into_iter().map(|(path, _)| path).collect();
        paths.sort_unstable();
        assert_eq!(described, paths);
        assert!(visits::paths().iter().any(|(path, _)| *path == PAGE_PATH));
    }

    /// All that a browser loads beside the page itself.
    #[test]
    fn its_files_are_small() {
        let bytes = frame::STYLE.len() + frame::SCRIPT.len() + frame::ICON.len();
        assert!(bytes < 20_000, "{bytes}");
    }
}
