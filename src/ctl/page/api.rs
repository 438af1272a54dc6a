//! The API: the JSON of `status`, `history`, `images` and `log`, and the two actions. `openapi.json` describes it.

use super::super::output::printable;
use super::super::{history, images, status};
use super::act::PageAction;
use super::asked::{Asked, KnownBy, received};
use super::look::{ImagesSeen, LabMachine};
use super::reply::{json, refusal, text};
use super::{LabPage, PageState};
use crate::serve::admin::AdminLine;
use crate::store::log::LoggedLine;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json as value};

/// What the API is, for programs.
const DESCRIPTION: &str = include_str!("openapi.json");

pub(super) async fn description() -> Response<Body> {
    text("application/json", DESCRIPTION)
}

fn log_in() -> Response<Body> {
    refusal(StatusCode::UNAUTHORIZED, "log in: Authorization: Bearer, with a token of --admin-tokens")
}

fn of_machine(machine: &LabMachine, now: Timestamp, is_admin: bool) -> Value {
    let state = match status::state(&machine.news, now) {
        "-" => "idle",
        state => state,
    };
    let mut all =
        if is_admin { status::one_as_json(&machine.news, now) } else { value!({ "ip": machine.news.ip }) };
    all["name"] = machine.label().into();
    all["state"] = state.into();
    all
}

pub(super) async fn machines(State(page): PageState, asked: Asked) -> Response<Body> {
    match page.lab().await {
        Ok(lab) => {
            let all = lab.machines.iter().map(|machine| of_machine(machine, lab.at, asked.by.is_some()));
            json(StatusCode::OK, &Value::Array(all.collect()))
        }
        Err(e) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &page.told(&asked, &e)),
    }
}

/// What there is to know of one machine.
#[derive(Clone, Copy)]
enum AboutMachine {
    State,
    History,
    Sets,
    Log,
}

async fn about(page: &LabPage, asked: &Asked, name: &str, what: AboutMachine) -> Response<Body> {
    if asked.by.is_none() {
        return log_in();
    }
    let seen = match page.named(name).await {
        Ok(Some(seen)) => seen,
        Ok(None) => return refusal(StatusCode::NOT_FOUND, "no machine has this name or address"),
        Err(e) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
    };
    let value = match what {
        AboutMachine::State => of_machine(&seen.machine, seen.at, true),
        AboutMachine::History => Value::Array(seen.jobs.iter().map(history::to_json).collect()),
        AboutMachine::Sets => images::to_json(&seen.sets, &seen.costs, &seen.names, seen.at),
        AboutMachine::Log => Value::Array(seen.log.iter().map(|line| of_line(line)).collect()),
    };
    json(StatusCode::OK, &value)
}

fn of_line(line: &str) -> Value {
    match LoggedLine::parse(line) {
        Some(line) => value!({ "at": line.at, "ip": line.ip, "level": line.level, "text": line.text }),
        None => value!({ "at": null, "ip": null, "level": null, "text": line }),
    }
}

pub(super) async fn machine(
    State(page): PageState,
    Path(name): Path<String>,
    asked: Asked,
) -> Response<Body> {
    about(&page, &asked, &name, AboutMachine::State).await
}

pub(super) async fn jobs(State(page): PageState, Path(name): Path<String>, asked: Asked) -> Response<Body> {
    about(&page, &asked, &name, AboutMachine::History).await
}

pub(super) async fn sets(State(page): PageState, Path(name): Path<String>, asked: Asked) -> Response<Body> {
    about(&page, &asked, &name, AboutMachine::Sets).await
}

pub(super) async fn log(State(page): PageState, Path(name): Path<String>, asked: Asked) -> Response<Body> {
    about(&page, &asked, &name, AboutMachine::Log).await
}

pub(super) async fn all_images(State(page): PageState, asked: Asked) -> Response<Body> {
    if asked.by.is_none() {
        return log_in();
    }
    let seen = match page.images().await {
        Ok(seen) => seen,
        Err(e) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
    };
    // Megabytes, in one of the places that looks have.
    let _place = page.looks.acquire().await;
    match tokio::task::spawn_blocking(move || of_images(&seen)).await {
        Ok(all) => text("application/json", all),
        Err(_) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal error: the server's log has more"),
    }
}

/// Machine by machine: ten thousand sets as one value would take a hundred megabytes.
fn of_images(seen: &ImagesSeen) -> String {
    let (free, size) = seen.room.unzip();
    let mut all = format!("{{\"free_bytes\":{},\"size_bytes\":{},\"machines\":[", value!(free), value!(size));
    for (number, machine) in seen.machines.iter().enumerate() {
        if number > 0 {
            all.push(',');
        }
        all += &printable(&images::to_json(machine, &seen.costs, &seen.names, seen.at).to_string());
    }
    all + "]}\n"
}

/// What to arm a machine with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ArmOrder {
    action: String,
    #[serde(default)]
    set: Option<String>,
    #[serde(default)]
    expires: Option<String>,
    #[serde(default)]
    power: Option<String>,
}

pub(super) async fn arm(
    State(page): PageState,
    Path(name): Path<String>,
    asked: Asked,
    body: Body,
) -> Response<Body> {
    if !is_program(&asked) {
        return log_in();
    }
    let order = received(body).await.and_then(|body| serde_json::from_slice::<ArmOrder>(&body).ok());
    let Some(order) = order else {
        return refusal(
            StatusCode::BAD_REQUEST,
            "an order is {\"action\":..., \"set\":..., \"expires\":..., \"power\":\"cycle\"}; only the first must be there",
        );
    };
    let ArmOrder { action, set, expires, power } = &order;
    match PageAction::arm(action, set.as_deref(), expires.as_deref(), power.as_deref()) {
        Ok(action) => act(&page, &asked, &name, &action).await,
        Err(why) => refusal(StatusCode::BAD_REQUEST, &why),
    }
}

pub(super) async fn disarm(State(page): PageState, Path(name): Path<String>, asked: Asked) -> Response<Body> {
    act(&page, &asked, &name, &PageAction::Disarm).await
}

/// A browser's login is not enough for an order: another site could have sent it.
fn is_program(asked: &Asked) -> bool {
    matches!(asked.by, Some(KnownBy::Bearer(_)))
}

async fn act(page: &LabPage, asked: &Asked, name: &str, action: &PageAction) -> Response<Body> {
    if !is_program(asked) {
        return log_in();
    }
    let ip = match page.folders.address(name) {
        Ok(Some(ip)) => ip,
        Ok(None) => return refusal(StatusCode::NOT_FOUND, "no machine has this name or address"),
        Err(e) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
    };
    match page.perform(asked, ip, action, "API").await {
        Ok(result) => {
            let lines = |is_out: bool| {
                let texts = result.lines.iter().filter_map(move |line| match line {
                    AdminLine::Out(text) if is_out => Some(text.as_str()),
                    AdminLine::Err(text) if !is_out => Some(text.as_str()),
                    _ => None,
                });
                texts.collect::<Vec<_>>()
            };
            let status = if result.code == 0 { StatusCode::OK } else { StatusCode::CONFLICT };
            json(status, &value!({ "exit": result.code, "out": lines(true), "err": lines(false) }))
        }
        Err(refused) => {
            let status =
                StatusCode::from_u16(refused.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            refusal(status, &printable(&refused.text))
        }
    }
}
