//! What is on a terminal, as a picture whose text stays text. Pure.

use std::fmt::Write as _;

use vt100::{Cell, Color};

/// Rows and columns of the terminal.
pub const SIZE: (u16, u16) = (48, 118);

/// Pixels of a cell.
const CELL: (f32, f32) = (7.8, 17.0);
const MARGIN: f32 = 14.0;

/// The first 16 colours, on a dark ground.
const COLORS: [&str; 16] = [
    "#484f58", "#ff7b72", "#3fb950", "#d29922", "#58a6ff", "#bc8cff", "#39c5cf", "#b1bac4",
    "#6e7681", "#ffa198", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#ffffff",
];
const PLAIN: &str = "#c9d1d9";
const GROUND: &str = "#0d1117";

fn color(cell: &Cell) -> String {
    match cell.fgcolor() {
        Color::Idx(index) => COLORS.get(usize::from(index)).unwrap_or(&PLAIN).to_string(),
        Color::Rgb(r, g, b) => format!("#{r:02x}{g:02x}{b:02x}"),
        Color::Default => PLAIN.to_owned(),
    }
}

fn style(cell: &Cell) -> String {
    let mut style = format!("fill=\"{}\"", color(cell));
    if cell.bold() {
        style.push_str(" font-weight=\"bold\"");
    }
    if cell.dim() {
        style.push_str(" opacity=\"0.65\"");
    }
    style
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The screen after these bytes.
pub fn draw(bytes: &[u8], command: &str) -> String {
    // What ends it after a while is not part of what a person types.
    let command = command
        .find("kubectl ")
        .map_or(command, |at| &command[at..]);
    let (rows, columns) = SIZE;
    let mut terminal = vt100::Parser::new(rows, columns, 0);
    terminal.process(bytes);
    let screen = terminal.screen();
    let used = |row: &u16| {
        !screen
            .contents_between(*row, 0, *row, columns)
            .trim()
            .is_empty()
    };
    let last = (0..rows).rev().find(used).unwrap_or_default();
    let (width, height) = (
        f32::from(columns) * CELL.0 + 2.0 * MARGIN,
        (f32::from(last) + 2.4) * CELL.1 + 2.0 * MARGIN,
    );
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" role=\"img\" aria-label=\"{0}\">\n<title>{0}</title>\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{GROUND}\"/>\n<g font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"13\" xml:space=\"preserve\">\n",
        escaped(command)
    );
    let mut line = |row: f32, spans: &str| {
        let y = MARGIN + (row + 0.8) * CELL.1;
        // Writing to a text does not fail.
        let _ = writeln!(svg, "<text x=\"{MARGIN}\" y=\"{y:.1}\">{spans}</text>");
    };
    line(
        0.0,
        &format!(
            "<tspan fill=\"{}\">$ {}</tspan>",
            COLORS[8],
            escaped(command)
        ),
    );
    for row in 0..=last {
        let mut spans = String::new();
        let mut now: Option<(String, String, u16)> = None;
        let mut close = |part: Option<(String, String, u16)>| {
            if let Some((style, text, column)) = part
                && !text.trim().is_empty()
            {
                // Blanks at the begin are a place: not every viewer keeps them.
                let blanks = text.len() - text.trim_start().len();
                let x = MARGIN + (f32::from(column) + blanks as f32) * CELL.0;
                // A font of another width must not move the columns.
                let _ = write!(
                    spans,
                    "<tspan x=\"{x:.1}\" {style}>{}</tspan>",
                    escaped(text.trim())
                );
            }
        };
        for column in 0..columns {
            let Some(cell) = screen
                .cell(row, column)
                .filter(|cell| !cell.is_wide_continuation())
            else {
                continue;
            };
            let text = match cell.contents() {
                "" => " ",
                text => text,
            };
            let own = style(cell);
            match &mut now {
                Some((style, so_far, _)) if *style == own => so_far.push_str(text),
                _ => close(now.replace((own, text.to_owned(), column))),
            }
        }
        close(now);
        line(f32::from(row) + 1.4, &spans);
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_text_in_its_colours_and_nothing_of_it_is_markup() {
        let svg = draw(
            b"\x1b[31mFailed\x1b[0m <b> & \x1b[1mlive\x1b[0m\r\nover\r\x1b[Kdone",
            "golive status \"a\"",
        );
        for part in [
            "fill=\"#ff7b72\">Failed<",
            "&lt;b&gt; &amp;",
            "font-weight=\"bold\">live<",
            ">done<",
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(!svg.contains("over") && !svg.contains('\u{1b}'), "{svg}");
    }
}
