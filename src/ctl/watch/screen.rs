//! What `watch` shows, as a pure function of what is known, what was asked for by keys, and the size of the terminal.

use super::super::news::Urgency;
use super::super::table::cut;
use crate::text::wrap;
use std::net::Ipv4Addr;

/// Columns and rows of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScreenSize {
    pub columns: usize,
    pub rows: usize,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WatchRow {
    pub ip: Ipv4Addr,
    pub urgency: Urgency,
    /// Address, host, state, action, done, rate, ETA, try, age: as `status` shows them.
    pub cells: [String; 9],
    /// Why it is in trouble, or what it does.
    pub what: String,
    /// Percent of its step; for the order only.
    pub done: u64,
    /// Seconds since its last news.
    pub age: u64,
    pub details: Vec<String>,
}

/// The order of machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowOrder {
    State,
    Address,
    Age,
    Done,
}

impl RowOrder {
    fn word(self) -> &'static str {
        match self {
            RowOrder::State => "state",
            RowOrder::Address => "address",
            RowOrder::Age => "age",
            RowOrder::Done => "done",
        }
    }

    fn next(self) -> RowOrder {
        match self {
            RowOrder::State => RowOrder::Address,
            RowOrder::Address => RowOrder::Age,
            RowOrder::Age => RowOrder::Done,
            RowOrder::Done => RowOrder::State,
        }
    }
}

/// What fills the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScreenView {
    Table,
    /// The filter is being written.
    Filter,
    Details(Ipv4Addr),
    Log(Ipv4Addr),
}

/// What was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatchKey {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Enter,
    Escape,
    Backspace,
    /// Ctrl-C: ends in every view.
    Interrupt,
}

/// All that the screen depends on but its size.
#[derive(Clone, Debug)]
pub(super) struct WatchState {
    pub rows: Vec<WatchRow>,
    /// Time of the last look, or what it has failed with.
    pub looked: String,
    /// The last lines of the log of the machine whose log is shown.
    pub log: Vec<String>,
    pub view: ScreenView,
    order: RowOrder,
    filter: String,
    shows_all: bool,
    selected: Option<Ipv4Addr>,
    /// Lines of details or log that are above the screen.
    scroll: usize,
}

/// How a line stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineStyle {
    Plain,
    Head,
    Selected,
    Trouble,
    Working,
}

/// A line, no longer than the screen is wide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ScreenLine {
    pub text: String,
    pub style: LineStyle,
}

/// Which cell, its title, how wide, whether at the right, and how soon it is left out on a narrow screen.
type WatchColumn = (usize, &'static str, usize, bool, u8);

const COLUMNS: [WatchColumn; 9] = [
    (0, "ADDRESS", 15, false, 0),
    (1, "HOST", 12, false, 5),
    (2, "STATE", 8, false, 0),
    (3, "ACTION", 12, false, 3),
    (4, "DONE", 4, true, 1),
    (5, "MB/s", 5, true, 6),
    (6, "ETA", 8, true, 2),
    (7, "TRY", 3, true, 7),
    (8, "AGE", 4, true, 4),
];
/// What is left beside the columns is worth a text from this width on.
const WHAT: usize = 16;

impl WatchState {
    pub fn new() -> WatchState {
        WatchState {
            rows: Vec::new(),
            looked: "looking".into(),
            log: Vec::new(),
            view: ScreenView::Table,
            order: RowOrder::State,
            filter: String::new(),
            shows_all: false,
            selected: None,
            scroll: 0,
        }
    }

    /// Takes a key; false where that ends it. `page` is how many rows the screen has for machines.
    pub fn press(&mut self, key: WatchKey, page: usize) -> bool {
        if key == WatchKey::Interrupt {
            return false;
        }
        match self.view {
            ScreenView::Filter => match key {
                WatchKey::Char(c) if self.filter.chars().count() < 40 && !c.is_control() => {
                    self.filter.push(c)
                }
                WatchKey::Backspace => drop(self.filter.pop()),
                WatchKey::Escape => {
                    self.filter.clear();
                    self.view = ScreenView::Table;
                }
                WatchKey::Enter => self.view = ScreenView::Table,
                _ => {}
            },
            ScreenView::Details(_) | ScreenView::Log(_) => match key {
                WatchKey::Char('q') | WatchKey::Escape | WatchKey::Enter => self.show(ScreenView::Table),
                WatchKey::Up | WatchKey::Char('k') => self.scroll = self.scroll.saturating_sub(1),
                WatchKey::Down | WatchKey::Char('j') => self.scroll = self.scroll.saturating_add(1),
                WatchKey::PageUp => self.scroll = self.scroll.saturating_sub(page),
                WatchKey::PageDown => self.scroll = self.scroll.saturating_add(page),
                _ => {}
            },
            ScreenView::Table => match key {
                WatchKey::Char('q') => return false,
                WatchKey::Char('s') => self.order = self.order.next(),
                WatchKey::Char('a') => self.shows_all = !self.shows_all,
                WatchKey::Char('/') => self.view = ScreenView::Filter,
                WatchKey::Escape => self.filter.clear(),
                WatchKey::Up | WatchKey::Char('k') => self.select(-1),
                WatchKey::Down | WatchKey::Char('j') => self.select(1),
                WatchKey::PageUp => self.select(-(page as isize)),
                WatchKey::PageDown => self.select(page as isize),
                WatchKey::Enter | WatchKey::Char('d') => self.open(ScreenView::Details),
                WatchKey::Char('l') => self.open(ScreenView::Log),
                _ => {}
            },
        }
        true
    }

    fn show(&mut self, view: ScreenView) {
        (self.view, self.scroll) = (view, 0);
        self.log.clear();
    }

    fn open(&mut self, view: fn(Ipv4Addr) -> ScreenView) {
        let shown = self.shown();
        let selected = shown.get(self.at(&shown)).map(|row| row.ip);
        if let Some(ip) = selected {
            self.selected = Some(ip);
            self.show(view(ip));
            // The end of a log is what one looks for.
            self.scroll = if matches!(self.view, ScreenView::Log(_)) { usize::MAX } else { 0 };
        }
    }

    fn select(&mut self, by: isize) {
        let shown = self.shown();
        let to = self.at(&shown).saturating_add_signed(by).min(shown.len().saturating_sub(1));
        self.selected = shown.get(to).map(|row| row.ip);
    }

    /// Where the selected machine stands; the first, where it is not shown.
    fn at(&self, shown: &[&WatchRow]) -> usize {
        shown.iter().position(|row| Some(row.ip) == self.selected).unwrap_or(0)
    }

    fn matches(&self, row: &WatchRow) -> bool {
        let filter = self.filter.to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&filter);
        filter.is_empty() || row.cells.iter().take(4).any(|cell| has(cell)) || has(&row.what)
    }

    /// The machines in the table, in their order.
    fn shown(&self) -> Vec<&WatchRow> {
        let is_shown = |row: &&WatchRow| {
            self.matches(row) && (self.shows_all || !self.filter.is_empty() || row.urgency != Urgency::Quiet)
        };
        let mut shown: Vec<&WatchRow> = self.rows.iter().filter(is_shown).collect();
        shown.sort_by_key(|row| {
            let key = match self.order {
                RowOrder::State => (row.urgency as u64, 0),
                RowOrder::Address => (0, 0),
                RowOrder::Age => (0, u64::MAX - row.age),
                RowOrder::Done => (0, u64::MAX - row.done),
            };
            (key, row.ip)
        });
        shown
    }

    /// What there is to say of the selected machine, where its row has no room for that.
    fn untold(&self, size: ScreenSize) -> Option<&str> {
        let shown = self.shown();
        let row = shown.get(self.at(&shown)).filter(|row| !row.what.is_empty())?;
        (size.rows > 6 && room_for_what(size.columns) < WHAT).then_some(&row.what)
    }

    /// `2 failed, 3 running, 995 done`.
    fn counts(&self) -> String {
        let mut counts: Vec<(Urgency, &str, usize)> = Vec::new();
        for row in &self.rows {
            let word = if row.cells[2] == "-" { "silent" } else { row.cells[2].as_str() };
            match counts.iter_mut().find(|(_, known, _)| *known == word) {
                Some((urgency, _, count)) => (*urgency, *count) = (row.urgency.min(*urgency), *count + 1),
                None => counts.push((row.urgency, word, 1)),
            }
        }
        counts.sort();
        let counts: Vec<String> = counts.iter().map(|(_, word, count)| format!("{count} {word}")).collect();
        counts.join(", ")
    }
}

/// Rows of the screen that are left for machines or lines.
pub(super) fn page(size: ScreenSize) -> usize {
    size.rows.saturating_sub(5).max(1)
}

/// The whole screen: as many lines as it has rows, none longer than it is wide.
pub(super) fn render(state: &WatchState, size: ScreenSize) -> Vec<ScreenLine> {
    let line = |text: &str, style| ScreenLine { text: cut(text, size.columns), style };
    let mut lines = vec![line(&head(state, size.columns), LineStyle::Head)];
    let foot = match state.view {
        ScreenView::Table => {
            let rest =
                format!("q quit  d details  l log  / filter  a all  s sort:{}  j/k move", state.order.word());
            line(&rest, LineStyle::Head)
        }
        ScreenView::Filter => line("Enter: keep the filter  Esc: no filter", LineStyle::Head),
        ScreenView::Details(_) | ScreenView::Log(_) => line("q back  j/k scroll", LineStyle::Head),
    };
    match state.view {
        ScreenView::Table | ScreenView::Filter => lines.extend(table(state, size)),
        ScreenView::Details(ip) => {
            let row = state.rows.iter().find(|row| row.ip == ip);
            let details = row.map_or(&[][..], |row| &row.details[..]);
            lines.extend(text(&format!("{ip}: what is known of it"), details, state.scroll, size));
        }
        ScreenView::Log(ip) => {
            lines.extend(text(&format!("{ip}: its log"), &state.log, state.scroll, size));
        }
    }
    lines.truncate(size.rows.saturating_sub(1));
    lines.resize(size.rows.saturating_sub(1), line("", LineStyle::Plain));
    // What has no column stands below.
    if let (ScreenView::Table, Some(last)) = (state.view, lines.last_mut())
        && let Some(what) = state.untold(size)
    {
        *last = line(what, LineStyle::Plain);
    }
    lines.push(foot);
    lines.truncate(size.rows);
    lines
}

/// The counts, and, where there is room, of how many machines, and at the right when it was looked.
fn head(state: &WatchState, columns: usize) -> String {
    let machines = if state.rows.len() == 1 { "machine" } else { "machines" };
    let counts = format!("{} {machines}: {}", state.rows.len(), state.counts());
    if counts.chars().count() > columns {
        return state.counts();
    }
    let used = counts.chars().count() + state.looked.chars().count() + 2;
    match columns.checked_sub(used) {
        Some(room) => format!("{counts}  {:room$}{}", "", state.looked),
        None => counts,
    }
}

/// The columns that such a screen has room for.
fn columns_of(columns: usize) -> Vec<WatchColumn> {
    let mut all = COLUMNS.to_vec();
    while width(&all) > columns && all.len() > 2 {
        let last = all.iter().map(|column| column.4).max();
        all.retain(|column| Some(column.4) != last);
    }
    all
}

/// With two columns for the mark of the selected one.
fn width(columns: &[WatchColumn]) -> usize {
    2 + columns.iter().map(|(_, _, width, ..)| width + 1).sum::<usize>().saturating_sub(1)
}

fn room_for_what(columns: usize) -> usize {
    columns.saturating_sub(width(&columns_of(columns)) + 1)
}

fn table(state: &WatchState, size: ScreenSize) -> Vec<ScreenLine> {
    let line = |text: &str, style| ScreenLine { text: cut(text, size.columns), style };
    let (columns, room) = (columns_of(size.columns), room_for_what(size.columns));
    let what = |text: &str| if room >= WHAT { format!(" {}", cut(text, room)) } else { String::new() };
    let cells = |text: &dyn Fn(usize, &str) -> String| {
        let cells = columns.iter().map(|(number, title, width, is_right, _)| {
            let cell = cut(&text(*number, title), *width);
            if *is_right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        cells.collect::<Vec<_>>().join(" ")
    };
    let title = format!("  {}{}", cells(&|_, title| title.to_owned()), what("WHAT"));
    let shown = state.shown();
    let (at, page) = (state.at(&shown), page(size));
    let first = at.saturating_sub(page.saturating_sub(1));
    let mut lines = vec![line(title.trim_end(), LineStyle::Head)];
    for (number, row) in shown.iter().enumerate().skip(first).take(page) {
        let is_selected = number == at;
        let mark = if is_selected { "> " } else { "  " };
        let text = format!("{mark}{}{}", cells(&|number, _| row.cells[number].clone()), what(&row.what));
        let style = match row.urgency {
            Urgency::Trouble => LineStyle::Trouble,
            Urgency::Working => LineStyle::Working,
            _ if is_selected => LineStyle::Selected,
            _ => LineStyle::Plain,
        };
        lines.push(line(text.trim_end(), style));
    }
    let under = shown.len().saturating_sub(first + page);
    let quiet = state.rows.len().saturating_sub(shown.len());
    let rest = match (&state.filter, state.view) {
        (filter, ScreenView::Filter) => format!("filter: {filter}_"),
        (filter, _) if !filter.is_empty() => {
            format!("filter '{filter}': {} of {} machines (Esc: all)", shown.len(), state.rows.len())
        }
        _ if under > 0 => format!("{under} more below"),
        _ if shown.is_empty() && !state.rows.is_empty() => {
            format!("all {quiet} machines are quiet (a: show them)")
        }
        _ if quiet > 0 => format!("{quiet} others are quiet (a: show them)"),
        _ => String::new(),
    };
    lines.push(line(&rest, LineStyle::Plain));
    lines
}

/// Lines that are wrapped and scrolled.
fn text(title: &str, all: &[String], scroll: usize, size: ScreenSize) -> Vec<ScreenLine> {
    let line = |text: &str, style| ScreenLine { text: cut(text, size.columns), style };
    let wrapped: Vec<String> = all.iter().flat_map(|line| wrap(line, size.columns.max(1))).collect();
    let page = page(size);
    let first = scroll.min(wrapped.len().saturating_sub(page));
    let mut lines = vec![line(title, LineStyle::Head)];
    lines.extend(wrapped.iter().skip(first).take(page).map(|text| line(text, LineStyle::Plain)));
    if wrapped.is_empty() {
        lines.push(line("nothing yet", LineStyle::Plain));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(n: u8, urgency: Urgency, state: &str) -> WatchRow {
        let ip = Ipv4Addr::new(10, 42, 1, n);
        let address = ip.to_string();
        let cells = [address.as_str(), "tb", state, "backup-again", "42%", "512", "1:30", "1", "3s"];
        WatchRow {
            ip,
            urgency,
            cells: cells.map(str::to_owned),
            what: format!(
                "what {n} does, in as many words as it takes to fill a line of any screen that there may be"
            ),
            done: u64::from(n),
            age: 1000 - u64::from(n),
            details: vec![format!("detail of {n}")],
        }
    }

    fn state() -> WatchState {
        let mut state = WatchState::new();
        state.rows = (1..=200).map(|n| row(n, Urgency::Quiet, "done")).collect();
        state.rows[49] = row(50, Urgency::Trouble, "failed");
        state.rows[9] = row(10, Urgency::Working, "running");
        state.rows[19] = row(20, Urgency::Armed, "armed");
        state.looked = "12:00:01".into();
        state
    }

    fn texts(state: &WatchState, columns: usize, rows: usize) -> Vec<String> {
        render(state, ScreenSize { columns, rows }).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn troubled_and_working_machines_come_first_the_rest_is_a_count() {
        let lines = texts(&state(), 80, 24);
        assert_eq!(lines.len(), 24);
        assert!(lines[0].starts_with("200 machines: 1 failed, 1 running, 1 armed, 197 done"), "{lines:#?}");
        assert!(lines[0].ends_with("12:00:01") && lines[0].len() == 80);
        let of: Vec<&str> = lines[2..5].iter().map(|line| line[2..].split(' ').next().unwrap()).collect();
        assert_eq!(of, ["10.42.1.50", "10.42.1.10", "10.42.1.20"]);
        assert_eq!(lines[5], "197 others are quiet (a: show them)");
        assert!(lines[23].starts_with("q quit"));
        let styles: Vec<LineStyle> = render(&state(), ScreenSize { columns: 80, rows: 24 })[2..5]
            .iter()
            .map(|line| line.style)
            .collect();
        assert_eq!(styles, [LineStyle::Trouble, LineStyle::Working, LineStyle::Plain]);
    }

    #[test]
    fn a_text_without_a_column_stands_below() {
        let lines = texts(&state(), 80, 10);
        assert!(lines[8].starts_with("what 50 does"), "{lines:#?}");
        assert!(!texts(&state(), 200, 10)[8].contains("what 50 does"));
        assert!(texts(&state(), 30, 10)[0].starts_with("1 failed, 1 running, 1 armed"), "{lines:#?}");
    }

    /// On 40 columns it is still told which machine, how it is, and how far.
    #[test]
    fn a_narrow_screen_keeps_what_matters() {
        let lines = texts(&state(), 40, 10);
        assert_eq!(lines[1], "  ADDRESS         STATE    DONE      ETA");
        assert_eq!(lines[2], "> 10.42.1.50      failed    42%     1:30");
        let wide = texts(&state(), 200, 10);
        assert!(wide[1].contains("MB/s") && wide[2].contains("what 50 does"), "{wide:#?}");
    }

    #[test]
    fn keys_sort_filter_and_open_a_machine() {
        let mut state = state();
        let first = |state: &WatchState| state.shown().first().map(|row| row.ip.octets()[3]);
        let press = |state: &mut WatchState, keys: &str| {
            keys.chars().for_each(|key| {
                let key = match key {
                    '\n' => WatchKey::Enter,
                    '\x1b' => WatchKey::Escape,
                    c => WatchKey::Char(c),
                };
                assert!(state.press(key, 5));
            })
        };
        press(&mut state, "a");
        assert_eq!((first(&state), state.shown().len()), (Some(50), 200));
        press(&mut state, "s");
        assert_eq!(first(&state), Some(1));
        press(&mut state, "sss");
        press(&mut state, "a/1.19\n");
        assert_eq!(state.shown().len(), 11, "19, and 190 to 199");
        assert!(
            texts(&state, 80, 24).iter().any(|line| line == "filter '1.19': 11 of 200 machines (Esc: all)")
        );
        press(&mut state, "jd");
        assert_eq!(state.view, ScreenView::Details(Ipv4Addr::new(10, 42, 1, 190)));
        assert!(texts(&state, 80, 24).iter().any(|line| line == "detail of 190"));
        press(&mut state, "q\x1bl");
        assert!(matches!(state.view, ScreenView::Log(_)));
        state.log = (0..100).map(|n| format!("line {n}")).collect();
        assert!(texts(&state, 80, 24).contains(&"line 99".to_owned()));
        press(&mut state, "q");
        assert!(!state.press(WatchKey::Char('q'), 5));
        state.view = ScreenView::Filter;
        assert!(!state.press(WatchKey::Interrupt, 5), "Ctrl-C ends it wherever it is");
    }

    /// A machine that is selected stays so when others come before it, and is always on the screen.
    #[test]
    fn the_selected_machine_stays_on_the_screen() {
        let mut state = state();
        state.press(WatchKey::Char('a'), 5);
        for _ in 0..150 {
            state.press(WatchKey::Down, 5);
        }
        let selected =
            |state: &WatchState| texts(state, 80, 10).iter().find(|line| line.starts_with("> ")).cloned();
        let before = selected(&state).unwrap();
        state.rows[150].urgency = Urgency::Trouble;
        state.rows[151].urgency = Urgency::Trouble;
        assert_eq!(selected(&state).unwrap(), before);
        state.rows.clear();
        assert_eq!(selected(&state), None);
    }

    fn key() -> impl Strategy<Value = WatchKey> {
        use WatchKey as K;
        prop_oneof![
            any::<char>().prop_map(K::Char),
            proptest::sample::select(vec!['s', 'a', '/', 'd', 'l', 'j', 'k']).prop_map(K::Char),
            proptest::sample::select(vec![
                K::Up,
                K::Down,
                K::PageUp,
                K::PageDown,
                K::Enter,
                K::Escape,
                K::Backspace
            ]),
        ]
    }

    proptest! {
        /// Whatever is pressed, on a screen of any size: as many lines as rows, and none too long.
        #[test]
        fn the_screen_is_never_left(keys in proptest::collection::vec(key(), 0..30), columns in 0..220usize, rows in 0..60usize) {
            let mut state = state();
            let size = ScreenSize { columns, rows };
            state.log = vec!["a long line of the log ".repeat(20)];
            for key in keys {
                state.press(key, page(size));
                let lines = render(&state, size);
                prop_assert_eq!(lines.len(), rows);
                prop_assert!(lines.iter().all(|line| line.text.chars().count() <= columns));
            }
        }
    }
}
