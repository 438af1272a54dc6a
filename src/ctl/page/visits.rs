//! What a browser asks for: pages, forms, and the files that they need; and metrics.

use super::act::{PageAction, question};
use super::asked::{Asked, WrongToken, is_own_form, received, value};
use super::frame::{self, PageFrame};
use super::logins::ActionSaid;
use super::metrics::AdminFigures;
use super::{LabPage, PageState, glance, machine, metrics, reply, stored};
use crate::serve::admin::{AdminLine, AdminResult};
use crate::serve::http::PAGE_PATH;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use axum::routing::{MethodRouter, get, post};
use maud::{Markup, html};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// The paths of the page.
pub(super) fn paths() -> Vec<(&'static str, MethodRouter<Arc<LabPage>>)> {
    vec![
        (PAGE_PATH, get(lab)),
        ("/machines/{name}", get(one)),
        ("/machines/{name}/arm", get(ask_arm).post(arm)),
        ("/machines/{name}/disarm", get(ask_disarm).post(disarm)),
        ("/images", get(images)),
        ("/login", get(ask_login).post(login)),
        ("/logout", post(logout)),
        ("/page.css", get(async || reply::file("text/css; charset=utf-8", frame::STYLE))),
        ("/page.js", get(async || reply::file("text/javascript; charset=utf-8", frame::SCRIPT))),
        ("/icon.svg", get(async || reply::file("image/svg+xml", frame::ICON))),
    ]
}

fn framed(page: &LabPage, asked: &Asked, title: &str, is_live: bool, content: Markup) -> Markup {
    let admin = asked.login().map(|(_, login)| (login.admin.name.as_str(), login.form_key.as_str()));
    PageFrame { title, admin, has_login: page.admins.is_some(), is_live }.around(content)
}

fn trouble(page: &LabPage, asked: &Asked, status: StatusCode, title: &str, text: &str) -> Response<Body> {
    reply::html(status, framed(page, asked, title, false, frame::message(title, text)))
}

fn failed(page: &LabPage, asked: &Asked, text: &str) -> Response<Body> {
    trouble(page, asked, StatusCode::INTERNAL_SERVER_ERROR, "Server error", text)
}

/// To where somebody logs in, and then comes back here.
fn log_in_for(path: &str) -> Response<Body> {
    reply::see_other(&format!("/login?next={path}"))
}

async fn lab(State(page): PageState, asked: Asked) -> Response<Body> {
    let lab = match page.lab().await {
        Ok(lab) => lab,
        Err(e) => return failed(&page, &asked, &page.told(&asked, &e)),
    };
    let live = glance::live(&lab, asked.by.is_some());
    if asked.query("live").is_some() {
        return reply::html(StatusCode::OK, live);
    }
    let content = html! {
        h1 { "Machines" }
        p #filter-line hidden { label for="filter" { "Show" } " " input #filter type="search" placeholder="name, address, word" autocomplete="off" spellcheck="false"; }
        p #lost .note.bad hidden role="alert" { "No answer from the server: what is shown is old." }
        div #live data-from={ (PAGE_PATH) "?live" } { (live) }
    };
    reply::html(StatusCode::OK, framed(&page, &asked, "Machines", true, content))
}

async fn one(State(page): PageState, Path(name): Path<String>, asked: Asked) -> Response<Body> {
    if asked.by.is_none() {
        let ip = name.parse::<Ipv4Addr>();
        return log_in_for(&ip.map_or_else(|_| PAGE_PATH.to_owned(), |ip| format!("{PAGE_PATH}/{ip}")));
    }
    let seen = match page.named(&name).await {
        Ok(Some(seen)) => seen,
        Ok(None) => return unknown(&page, &asked),
        Err(e) => return failed(&page, &asked, &e.to_string()),
    };
    if asked.query("live").is_some() {
        return reply::html(StatusCode::OK, machine::live(&seen));
    }
    let note = asked.login().and_then(|(cookie, _)| page.logins.take_note(cookie));
    let content = machine::page(&seen, note.as_ref(), &format!("{PAGE_PATH}/{}?live", seen.machine.news.ip));
    reply::html(StatusCode::OK, framed(&page, &asked, &seen.machine.label(), true, content))
}

fn unknown(page: &LabPage, asked: &Asked) -> Response<Body> {
    let text = "It is neither an address nor a name in machines.toml.";
    trouble(page, asked, StatusCode::NOT_FOUND, "Machine not found", text)
}

async fn images(State(page): PageState, asked: Asked) -> Response<Body> {
    if asked.by.is_none() {
        return log_in_for("/images");
    }
    match page.images().await {
        Ok(seen) => reply::html(StatusCode::OK, framed(&page, &asked, "Images", false, stored::page(&seen))),
        Err(e) => failed(&page, &asked, &e.to_string()),
    }
}

async fn ask(page: &LabPage, asked: &Asked, name: &str, action: &PageAction) -> Response<Body> {
    let Some((_, login)) = asked.login() else { return log_in_for(PAGE_PATH) };
    match page.named(name).await {
        Ok(Some(seen)) => {
            let title = action.title(&seen.machine.label());
            let content = question(&seen, action, &login.form_key);
            reply::html(StatusCode::OK, framed(page, asked, &title, false, content))
        }
        Ok(None) => unknown(page, asked),
        Err(e) => failed(page, asked, &e.to_string()),
    }
}

async fn ask_arm(State(page): PageState, Path(name): Path<String>, asked: Asked) -> Response<Body> {
    let action = asked.query("action").unwrap_or_default();
    match PageAction::arm(&action, asked.query("set").as_deref(), None, None) {
        Ok(action) => ask(&page, &asked, &name, &action).await,
        Err(why) => trouble(&page, &asked, StatusCode::BAD_REQUEST, "Invalid request", &why),
    }
}

async fn ask_disarm(State(page): PageState, Path(name): Path<String>, asked: Asked) -> Response<Body> {
    ask(&page, &asked, &name, &PageAction::Disarm).await
}

/// The form, where it is one of this login's own; else what is answered.
async fn own_form(page: &LabPage, asked: &Asked, body: Body) -> Result<Vec<u8>, Response<Body>> {
    let refused = |text: &str| trouble(page, asked, StatusCode::FORBIDDEN, "Refused", text);
    if !is_own_form(&asked.headers) {
        page.tell.warn(&format!("{}: refused a form that another site has sent", asked.peer));
        return Err(refused("Only forms of this page are taken. Nothing was done."));
    }
    let Some((_, login)) = asked.login() else { return Err(log_in_for(PAGE_PATH)) };
    let form = received(body).await.unwrap_or_default();
    // As long as it is random: how long a comparison takes tells nothing that helps.
    match value(&form, "key").as_deref() == Some(&login.form_key) {
        true => Ok(form),
        false => {
            Err(refused("This form belongs to another login. Nothing was done: open the machine again."))
        }
    }
}

async fn act(page: &LabPage, asked: &Asked, name: &str, action: &PageAction) -> Response<Body> {
    let ip = match page.folders.address(name) {
        Ok(Some(ip)) => ip,
        Ok(None) => return unknown(page, asked),
        Err(e) => return failed(page, asked, &e.to_string()),
    };
    let Some((cookie, _)) = asked.login() else { return log_in_for(PAGE_PATH) };
    let label = page.machine(ip).await.map_or_else(|_| ip.to_string(), |seen| seen.machine.label());
    let result = page
        .perform(asked, ip, action, "page")
        .await
        .unwrap_or_else(|refusal| AdminResult { code: 1, lines: vec![AdminLine::Err(refusal.text)] });
    page.logins.note(cookie, ActionSaid { what: action.title(&label), result });
    reply::see_other(&format!("{PAGE_PATH}/{ip}"))
}

async fn arm(State(page): PageState, Path(name): Path<String>, asked: Asked, body: Body) -> Response<Body> {
    let form = match own_form(&page, &asked, body).await {
        Ok(form) => form,
        Err(reply) => return reply,
    };
    let one = |key| value(&form, key);
    let action = one("action").unwrap_or_default();
    match PageAction::arm(&action, one("set").as_deref(), None, one("power").as_deref()) {
        Ok(action) => act(&page, &asked, &name, &action).await,
        Err(why) => trouble(&page, &asked, StatusCode::BAD_REQUEST, "Invalid request", &why),
    }
}

async fn disarm(
    State(page): PageState,
    Path(name): Path<String>,
    asked: Asked,
    body: Body,
) -> Response<Body> {
    match own_form(&page, &asked, body).await {
        Ok(_) => act(&page, &asked, &name, &PageAction::Disarm).await,
        Err(reply) => reply,
    }
}

fn login_page(
    page: &LabPage,
    asked: &Asked,
    status: StatusCode,
    problem: Option<&str>,
    next: &str,
) -> Response<Body> {
    if page.admins.is_none() {
        let text = "Nobody can log in here: the server was started without --admin-tokens.";
        return trouble(page, asked, StatusCode::FORBIDDEN, "No login", text);
    }
    reply::html(status, framed(page, asked, "Log in", false, frame::login(problem, next)))
}

/// A path of this page, and nothing else.
fn own_path(next: Option<String>) -> String {
    let is_plain = |path: &String| path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/.-_".contains(&b));
    let is_own = |path: &String| path.starts_with(PAGE_PATH) || path == "/images";
    next.filter(is_plain).filter(is_own).unwrap_or_else(|| PAGE_PATH.to_owned())
}

async fn ask_login(State(page): PageState, asked: Asked) -> Response<Body> {
    let next = own_path(asked.query("next"));
    match asked.login() {
        Some(_) => reply::see_other(&next),
        None => login_page(&page, &asked, StatusCode::OK, None, &next),
    }
}

async fn login(State(page): PageState, asked: Asked, body: Body) -> Response<Body> {
    if !is_own_form(&asked.headers) {
        let text = "Only forms of this page are taken.";
        return trouble(&page, &asked, StatusCode::FORBIDDEN, "Refused", text);
    }
    let form = received(body).await.unwrap_or_default();
    let next = own_path(value(&form, "next"));
    let token = value(&form, "token").unwrap_or_default();
    match page.of_token(asked.peer, token.trim()) {
        Ok(admin) => {
            page.tell.info(&format!("admin {} (page, from {}): logged in", admin.name, asked.peer));
            match page.logins.open(admin) {
                Ok(cookie) => reply::with_cookie(reply::see_other(&next), &cookie),
                Err(e) => failed(&page, &asked, &format!("cannot make a login: {e}")),
            }
        }
        Err(WrongToken(status, text)) => login_page(&page, &asked, status, Some(&text), &next),
    }
}

async fn logout(State(page): PageState, asked: Asked, body: Body) -> Response<Body> {
    match own_form(&page, &asked, body).await {
        Ok(_) => {
            asked.login().iter().for_each(|(cookie, _)| page.logins.close(cookie));
            reply::with_cookie(reply::see_other(PAGE_PATH), "")
        }
        Err(reply) => reply,
    }
}

pub(super) async fn metrics(State(page): PageState, asked: Asked) -> Response<Body> {
    let lab = match page.lab().await {
        Ok(lab) => lab,
        Err(e) => return reply::refusal(StatusCode::INTERNAL_SERVER_ERROR, &page.told(&asked, &e)),
    };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    if asked.by.is_none() {
        return reply::text(kind, metrics::text(&lab, None));
    }
    match page.images().await {
        Ok(images) => {
            let figures = AdminFigures { images: &images, line: page.store.line_counts() };
            reply::text(kind, metrics::text(&lab, Some(figures)))
        }
        Err(e) => reply::refusal(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
    }
}
