//! What stands around every page, and the small parts that several have.

use super::look::shown;
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};

/// The files of the page.
pub(super) const STYLE: &str = include_str!("page.css");
pub(super) const SCRIPT: &str = include_str!("page.js");
pub(super) const ICON: &str = include_str!("icon.svg");

/// One page, around its content.
pub(super) struct PageFrame<'a> {
    pub title: &'a str,
    /// The admin who is logged in by a browser, and the key of his forms.
    pub admin: Option<(&'a str, &'a str)>,
    /// Somebody can log in here.
    pub has_login: bool,
    /// It changes by itself.
    pub is_live: bool,
}

/// The address of a file, which changes with its content.
fn file(name: &str, content: &str) -> String {
    format!("/{name}?{:08x}", crc32c::crc32c(content.as_bytes()))
}

impl PageFrame<'_> {
    pub fn around(&self, content: Markup) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) " · testbox" }
                    link rel="icon" href=(file("icon.svg", ICON)) type="image/svg+xml";
                    link rel="stylesheet" href=(file("page.css", STYLE));
                    @if self.is_live {
                        script src=(file("page.js", SCRIPT)) defer {}
                        noscript { meta http-equiv="refresh" content="10"; }
                    }
                }
                body {
                    a.skip href="#main" { "Skip to content" }
                    header {
                        a.brand href="/machines" { "testbox" }
                        nav aria-label="Pages" {
                            a href="/machines" { "Machines" }
                            @if self.admin.is_some() { a href="/images" { "Images" } }
                        }
                        div.who { (self.who()) }
                    }
                    main #main tabindex="-1" { (content) }
                    footer {
                        "testbox " (env!("CARGO_PKG_VERSION")) " · times are UTC · "
                        a href="/openapi.json" { "API" }
                    }
                }
            }
        }
    }

    fn who(&self) -> Markup {
        html! {
            @match self.admin {
                Some((name, form_key)) => {
                    span { (shown(name, 40)) }
                    form method="post" action="/logout" {
                        input type="hidden" name="key" value=(form_key);
                        button.quiet type="submit" { "Log out" }
                    }
                }
                None if self.has_login => a href="/login" { "Log in" },
                None => {}
            }
        }
    }
}

/// A state as a coloured word.
pub(super) fn badge(state: &str) -> Markup {
    let word = if state == "-" { "idle" } else { state };
    html! { span class={ "badge " (word) } { (word) } }
}

/// A time as how long ago it was; the time itself is its title.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> Markup {
    use super::super::table::{minute, short, since};
    html! { time datetime=(at) title=(minute(at)) { (short(since(at, now))) " ago" } }
}

/// A page that says only this.
pub(super) fn message(title: &str, text: &str) -> Markup {
    html! {
        h1 { (title) }
        p.note.bad role="alert" { (shown(text, 2000)) }
        p { a href="/machines" { "All machines" } }
    }
}

/// The form that asks for a token.
pub(super) fn login(problem: Option<&str>, next: &str) -> Markup {
    html! {
        h1 { "Log in" }
        @if let Some(problem) = problem { p.note.bad role="alert" { (problem) } }
        form.card.login method="post" action="/login" {
            input type="hidden" name="next" value=(next);
            label for="token" { "Your token" }
            input #token name="token" type="password" required autocomplete="current-password" autofocus
                aria-describedby="token-help" spellcheck="false";
            p.help #token-help {
                "64 hex digits: the line with your name in the server's file of "
                code { "--admin-tokens" } ", the same as for " code { "testboxctl --via-token" } "."
            }
            button.main type="submit" { "Log in" }
        }
    }
}
