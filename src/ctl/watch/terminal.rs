//! A terminal: raw, on a screen of its own, and as it was when this is dropped.

use super::screen::{LineStyle, ScreenLine, ScreenSize, WatchKey};
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, queue};
use std::io::{self, Write};
use std::time::Duration;

/// What is taken for the size of a terminal that does not tell.
const USUAL: (u16, u16) = (80, 24);

/// The terminal of standard output.
pub(super) struct WatchTerminal {
    has_color: bool,
    shown: Vec<ScreenLine>,
}

impl WatchTerminal {
    pub fn open() -> io::Result<WatchTerminal> {
        enable_raw_mode()?;
        // From here on dropping it restores all.
        let terminal = WatchTerminal { has_color: has_color(), shown: Vec::new() };
        let mut out = io::stdout();
        queue!(out, EnterAlternateScreen, cursor::Hide, Clear(ClearType::All))?;
        out.flush()?;
        Ok(terminal)
    }

    pub fn size(&self) -> ScreenSize {
        let (columns, rows) = terminal::size().ok().filter(|(c, r)| *c > 0 && *r > 0).unwrap_or(USUAL);
        ScreenSize { columns: columns.into(), rows: rows.into() }
    }

    /// Writes the lines that have changed.
    pub fn show(&mut self, lines: &[ScreenLine]) -> io::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        let is_other_size = self.shown.len() != lines.len();
        for (number, line) in lines.iter().enumerate() {
            if !is_other_size && self.shown.get(number) == Some(line) {
                continue;
            }
            let row = u16::try_from(number).unwrap_or(u16::MAX);
            queue!(out, cursor::MoveTo(0, row))?;
            match line.style {
                LineStyle::Plain => {}
                LineStyle::Head | LineStyle::Selected => queue!(out, SetAttribute(Attribute::Bold))?,
                LineStyle::Trouble if self.has_color => queue!(out, SetForegroundColor(Color::Red))?,
                LineStyle::Working if self.has_color => queue!(out, SetForegroundColor(Color::Green))?,
                LineStyle::Trouble | LineStyle::Working => {}
            }
            queue!(out, Print(&line.text))?;
            if self.has_color {
                queue!(out, ResetColor)?;
            }
            queue!(out, SetAttribute(Attribute::Reset), Clear(ClearType::UntilNewLine))?;
        }
        self.shown = lines.to_vec();
        out.flush()
    }

    /// The key that is pressed within a time.
    pub fn key(&mut self, within: Duration) -> io::Result<Option<WatchKey>> {
        match event::poll(within) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            // By a signal.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(None),
            Err(e) => return Err(e),
        }
        let key = match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => key,
            Event::Resize(..) => {
                self.shown.clear();
                return Ok(None);
            }
            _ => return Ok(None),
        };
        Ok(match key.code {
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                Some(WatchKey::Interrupt)
            }
            KeyCode::Char(c) if !key.modifiers.contains(KeyModifiers::CONTROL) => Some(WatchKey::Char(c)),
            KeyCode::Up => Some(WatchKey::Up),
            KeyCode::Down => Some(WatchKey::Down),
            KeyCode::PageUp => Some(WatchKey::PageUp),
            KeyCode::PageDown => Some(WatchKey::PageDown),
            KeyCode::Enter => Some(WatchKey::Enter),
            KeyCode::Esc => Some(WatchKey::Escape),
            KeyCode::Backspace => Some(WatchKey::Backspace),
            _ => None,
        })
    }
}

impl Drop for WatchTerminal {
    fn drop(&mut self) {
        // What fails of it no other step can mend.
        let mut out = io::stdout();
        let _ = queue!(out, SetAttribute(Attribute::Reset), cursor::Show, LeaveAlternateScreen);
        let _ = out.flush();
        let _ = disable_raw_mode();
    }
}

/// Nobody has asked for a screen without colours: https://no-color.org.
fn has_color() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
