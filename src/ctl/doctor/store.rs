//! The store that machines reach by HTTPS.

use super::super::web::{self, WebRequest, WebTrust};
use super::finding::AreaReport;
use super::lab::DoctorLab;
use crate::store::protocol::{VERSION, Welcome};
use crate::types::StoreUrl;
use hyper::{Method, Uri, header};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoreSeen {
    pub url: StoreUrl,
    pub has_key: bool,
    pub welcome: Result<Welcome, String>,
    /// Its clock less that of this computer, in seconds.
    pub ahead: Option<i64>,
}

/// Asks it who it is; nothing where no store is named.
pub(super) fn ask(lab: &DoctorLab) -> Option<StoreSeen> {
    let options = lab.settings.options();
    let url = options.store?;
    let uri: Uri = format!("{url}/").parse().ok()?;
    let has_key = options.store_key.is_some();
    let trust = options.store_key.map_or(WebTrust::System, WebTrust::Key);
    let request =
        WebRequest { method: Method::GET, url: &uri, trust: &trust, authorization: None, body: Vec::new() };
    let before = Timestamp::now();
    let answer = web::ask(request, lab.wait);
    let ahead = answer.as_ref().ok().and_then(|answer| {
        let date = rfc2822::parse(answer.headers.get(header::DATE)?.to_str().ok()?).ok()?;
        let date = date.timestamp();
        // It tells whole seconds, and was read later than it was written.
        Some((date.as_second()).saturating_sub(before.as_second()))
    });
    let welcome = answer.and_then(|answer| match answer.status.is_success() {
        true => serde_json::from_slice::<Welcome>(&answer.body)
            .map_err(|_| "the server that answers is not a testbox store".to_owned()),
        false => Err(format!("the server that answers is not a testbox store: {}", answer.status)),
    });
    Some(StoreSeen { url, has_key, welcome, ahead })
}

/// Clocks may differ by so many seconds.
pub(super) const CLOCK: i64 = 60;

/// Judges it.
pub(super) fn judge(seen: &StoreSeen) -> AreaReport {
    let mut report = AreaReport::new("store");
    let url = &seen.url;
    let asked = format!("{url} by HTTP{}", if url.is_tls { "S" } else { "" });
    if url.is_tls && !seen.has_key {
        report.error(
            "store-no-key",
            "which key the store has, in the settings",
            "no key is configured: machines cannot verify that they talk to this server",
            "store-key = \"...\" in /etc/testbox.toml: the line that 'testboxctl serve' prints at its start",
        );
    }
    match &seen.welcome {
        Err(why) if why.contains("testbox.store-key=") => report.error(
            "store-key",
            asked,
            "another key than the settings name: it was made anew, or it is another server",
            "store-key = \"...\" in /etc/testbox.toml: the line that 'testboxctl serve' prints at its start; then arm again. \
             Or put the old /etc/testbox/store-key.pem back",
        ),
        Err(why) => report.error(
            "store-silent",
            asked,
            why.clone(),
            format!("start it: systemctl start testbox-store, or testboxctl serve; and open TCP port {} of its firewall", url.port),
        ),
        Ok(welcome) => {
            let own = env!("CARGO_PKG_VERSION");
            if !welcome.protocols.contains(&VERSION) {
                report.error(
                    "store-protocol",
                    asked,
                    format!("it speaks version {:?} of the protocol, this release {VERSION}", welcome.protocols),
                    "install one release of testboxctl everywhere, and restart the store",
                );
            } else if welcome.version != own {
                report.warning(
                    "store-version",
                    asked,
                    format!("it is of version {}, this program of {own}", welcome.version),
                    "install one release of testboxctl everywhere, and restart the store: systemctl restart testbox-store",
                );
            } else {
                report.fine(format!("{url} is a store of {}", welcome.version));
            }
        }
    }
    if let Some(ahead) = seen.ahead.filter(|ahead| ahead.abs() > CLOCK) {
        let which = if ahead > 0 { "ahead of" } else { "behind" };
        report.warning(
            "clock-server",
            format!("the clock of {}, beside that of this computer", url.host),
            format!("it is {} s {which} this one: ages and expiry are wrong by that", ahead.abs()),
            "on the one that is wrong: timedatectl set-ntp true",
        );
    }
    report
}
