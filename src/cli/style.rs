//! Lines of text for a terminal: what is said, and how it is marked. Pure, apart from [`Paint::of_stdout`]
//! and [`Paint::of_stderr`].

use std::io::{self, IsTerminal};

/// What a piece of text is, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// Ordinary text.
    Plain,
    /// A name or a heading.
    Bold,
    /// Beside the point.
    Dim,
    /// As it should be.
    Good,
    /// In progress, or worth a look.
    Warn,
    /// It failed.
    Bad,
}

impl Tone {
    /// The parameter of the escape sequence "select graphic rendition".
    /// Source: ECMA-48, section 8.3.117.
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
        }
    }
}

/// One line, in pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line(Vec<(Tone, String)>);

impl Line {
    /// A line of ordinary text.
    pub(super) fn plain(text: impl AsRef<str>) -> Self {
        Self::default().and(Tone::Plain, text)
    }

    /// The line with another piece at its end. Control characters become spaces: texts come from
    /// objects that others may write, and must not move the cursor or colour the screen.
    pub(super) fn and(mut self, tone: Tone, text: impl AsRef<str>) -> Self {
        let clean = text.as_ref().chars();
        let clean = clean.map(|c| if c.is_control() { ' ' } else { c });
        self.0.push((tone, clean.collect()));
        self
    }

    /// Whether a piece of it has this tone.
    #[cfg(test)]
    pub(super) fn has(&self, tone: Tone) -> bool {
        self.0.iter().any(|(of, _)| *of == tone)
    }

    /// The text without colours, and without spaces at its end.
    pub(super) fn text(&self) -> String {
        let pieces: Vec<&str> = self.0.iter().map(|(_, text)| text.as_str()).collect();
        pieces.concat().trim_end().to_owned()
    }
}

/// Whether colours are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    /// Colours on a terminal, unless `NO_COLOR` is set (no-color.org: to any text that is not empty) or
    /// the terminal is a dumb one.
    pub(super) fn of_stdout() -> Self {
        Self::on(io::stdout().is_terminal())
    }

    /// The same for standard error.
    pub(super) fn of_stderr() -> Self {
        Self::on(io::stderr().is_terminal())
    }

    fn on(terminal: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        Self(terminal && set("NO_COLOR").is_none() && !dumb)
    }

    /// The lines as text; each ends with a line break.
    pub(super) fn text(self, lines: &[Line]) -> String {
        lines.iter().map(|line| self.line(line) + "\n").collect()
    }

    fn line(self, line: &Line) -> String {
        if !self.0 {
            return line.text();
        }
        let pieces = line.0.iter().map(|(tone, text)| match tone.code() {
            "" => text.clone(),
            code => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        });
        pieces.collect()
    }
}

/// A table: a heading and rows, each column as wide as its widest cell. A table without rows has no lines.
pub(super) fn table(heading: &[&str], rows: &[Vec<(Tone, String)>]) -> Vec<Line> {
    if rows.is_empty() {
        return Vec::new();
    }
    let heading = heading.iter().map(|cell| (Tone::Bold, (*cell).to_owned()));
    let heading: Vec<(Tone, String)> = heading.collect();
    let all: Vec<&Vec<(Tone, String)>> = std::iter::once(&heading).chain(rows).collect();
    let width = |column: usize| {
        let cells = all.iter().filter_map(|row| row.get(column));
        let widths = cells.map(|(_, text)| text.chars().count());
        widths.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let line = |row: &&Vec<(Tone, String)>| {
        let cells = row.iter().zip(&widths);
        cells.fold(Line::default(), |line, ((tone, text), width)| {
            let width = *width;
            line.and(*tone, format!("{text:<width$}   "))
        })
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_printed_only_when_they_are_wanted() {
        let line = Line::plain("a ").and(Tone::Bad, "b");
        assert_eq!(Paint(false).text(std::slice::from_ref(&line)), "a b\n");
        assert_eq!(Paint(true).text(&[line]), "a \u{1b}[31mb\u{1b}[0m\n");
    }

    #[test]
    fn a_text_of_an_object_cannot_send_commands_to_the_terminal() {
        let line = Line::plain("evil\u{1b}[2J\u{9b}31m\r\nX");
        assert_eq!(line.text(), "evil [2J 31m  X");
    }

    #[test]
    fn the_columns_of_a_table_are_aligned() {
        let cell = |text: &str| (Tone::Plain, text.to_owned());
        let rows = [vec![cell("lang"), cell("b")], vec![cell("ä"), cell("c")]];
        let lines: Vec<String> = table(&["A", "B"], &rows).iter().map(Line::text).collect();
        assert_eq!(lines, ["A      B", "lang   b", "ä      c"]);
        assert!(table(&["A"], &[]).is_empty());
    }
}
