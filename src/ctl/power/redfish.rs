//! The power of one system of a BMC, by Redfish (DSP0266; the schema ComputerSystem).

use super::PowerAction;
use super::setting::BmcLogin;
use crate::ctl::web::{self, WebRequest, WebTrust};
use base64ct::{Base64, Encoding};
use hyper::{Method, Uri};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Where all systems are.
const SYSTEMS: &str = "/redfish/v1/Systems";
/// How often it is looked whether it is done.
const LOOK: Duration = Duration::from_millis(500);

/// A BMC, and until when it may answer.
pub(super) struct Redfish<'a> {
    pub url: &'a Uri,
    pub system: Option<&'a str>,
    pub trust: &'a WebTrust,
    pub login: &'a BmcLogin,
    pub by: Instant,
}

impl Redfish<'_> {
    fn left(&self) -> Duration {
        self.by.saturating_duration_since(Instant::now())
    }

    fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, String> {
        // It names paths of its own only: a password goes nowhere else.
        let is_path = path.starts_with('/') && !path.starts_with("//");
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        let url: Option<Uri> = format!("https://{authority}{path}").parse().ok().filter(|_| is_path);
        let url =
            url.ok_or_else(|| format!("it names a place that is none: {}", crate::text::quoted(path)))?;
        if self.left().is_zero() {
            return Err("it takes too long".into());
        }
        let words = format!("{}:{}", self.login.user, self.login.password);
        let request = WebRequest {
            method,
            url: &url,
            trust: self.trust,
            authorization: Some(format!("Basic {}", Base64::encode_string(words.as_bytes()))),
            body: body.map(|body| body.to_string().into_bytes()).unwrap_or_default(),
        };
        let answer = web::ask(request, self.left()).map_err(|why| {
            let hint = match why.as_str() {
                why if why.contains("testbox.store-key=") => {
                    return "it has another key than the file of machines says (key = ...)".to_owned();
                }
                why if why.contains("UnknownIssuer") => {
                    " (a certificate of its own: name its key in the file of machines: key = \"SHA-256 of its public key\")"
                }
                why if why.contains("ProtocolVersion") => " (it has neither TLS 1.2 nor 1.3: use ipmi =, or a command with curl)",
                _ => "",
            };
            format!("{why}{hint}")
        })?;
        match answer.status.as_u16() {
            401 | 403 => Err("it refuses the user or the password (bmc.toml)".into()),
            status if answer.status.is_success() => {
                if answer.body.is_empty() {
                    return Ok(Value::Null);
                }
                serde_json::from_slice(&answer.body)
                    .map_err(|_| format!("it answers no JSON (status {status})"))
            }
            status => Err(format!("it answers {status}")),
        }
    }

    /// The path of the system that is meant.
    fn system(&self) -> Result<String, String> {
        if let Some(id) = self.system {
            return Ok(format!("{SYSTEMS}/{id}"));
        }
        let all = self.ask(Method::GET, SYSTEMS, None)?;
        let members = all["Members"].as_array().ok_or("it lists no systems")?;
        let ids: Vec<&str> = members.iter().filter_map(|member| member["@odata.id"].as_str()).collect();
        match ids[..] {
            [id] => Ok(id.to_owned()),
            [] => Err("it has no system".into()),
            _ => {
                let names: Vec<&str> = ids.iter().filter_map(|id| id.rsplit('/').next()).take(9).collect();
                Err(format!(
                    "it has several systems: give one as system = in the file of machines: {}",
                    names.join(", ")
                ))
            }
        }
    }

    fn is_on(system: &Value) -> Option<bool> {
        match system["PowerState"].as_str()? {
            "On" | "PoweringOff" => Some(true),
            "Off" | "PoweringOn" => Some(false),
            _ => None,
        }
    }

    /// Does it; what the power is afterwards, in a word.
    pub fn perform(&self, action: PowerAction) -> Result<String, String> {
        let path = self.system()?;
        let system = self.ask(Method::GET, &path, None)?;
        let is_on = Redfish::is_on(&system).ok_or("it does not report its power state")?;
        let word = |is_on: bool| if is_on { "on" } else { "off" }.to_owned();
        let reset = match (action, is_on) {
            (PowerAction::Status, _) | (PowerAction::On, true) | (PowerAction::Off, false) => {
                return Ok(word(is_on));
            }
            (PowerAction::On, false) | (PowerAction::Cycle, false) => "On",
            (PowerAction::Off, true) => "ForceOff",
            (PowerAction::Cycle, true) => restart(&system).ok_or("it offers no way to restart")?,
        };
        let target = system["Actions"]["#ComputerSystem.Reset"]["target"].as_str();
        let target = target.ok_or("it offers no way to switch its power")?;
        self.ask(Method::POST, target, Some(json!({ "ResetType": reset })))?;
        if action == PowerAction::Cycle && is_on {
            return Ok("cycled".into());
        }
        let wanted = action != PowerAction::Off;
        loop {
            if Redfish::is_on(&self.ask(Method::GET, &path, None)?) == Some(wanted) {
                return Ok(word(wanted));
            }
            if self.left() < LOOK {
                return Err(format!("the request was accepted, but it is not {} yet", word(wanted)));
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// The hardest restart that a system offers; one that tells nothing must know the commonest.
fn restart(system: &Value) -> Option<&'static str> {
    let Some(offered) =
        system["Actions"]["#ComputerSystem.Reset"]["ResetType@Redfish.AllowableValues"].as_array()
    else {
        return Some("ForceRestart");
    };
    ["PowerCycle", "ForceRestart"]
        .into_iter()
        .find(|kind| offered.iter().any(|one| one.as_str() == Some(*kind)))
}
