//! The report in Markdown. Pure. Texts come from objects that others may write: none can become markup.
//!
//! Source: CommonMark 0.31, "Backslash escapes"; GitHub Flavored Markdown, "Tables" and "Task list items".

use super::checklist::{ChecklistBox, Mark};
use super::collect::Report;
use super::curves::{Curve, Point};
use super::page::{Block, Piece, blocks};
use super::text::{short, visible};
use crate::cli::style::Tone;

/// The levels of a curve in characters.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// About how many characters a curve has.
const WIDTH: usize = 72;

/// The whole report.
pub(super) fn page(report: &Report) -> String {
    let title = format!("{}/{}", report.namespace, report.name);
    let mut out = format!("# Activation {}\n", escape(&title));
    let rendered = blocks(report).iter().map(render).collect::<Vec<_>>();
    for block in rendered.iter().filter(|block| !block.is_empty()) {
        out.push('\n');
        out.push_str(block);
    }
    out
}

fn render(block: &Block) -> String {
    match block {
        Block::Heading(heading) => format!("## {heading}\n"),
        Block::Text(pieces) => {
            let text: String = pieces.iter().map(piece).collect();
            text + "\n"
        }
        Block::Link(what, url) => format!("{what}: {}\n", escape(url)),
        Block::Boxes(boxes) => boxes.iter().map(check).collect(),
        Block::Table(columns, rows) => table(columns, rows),
        Block::Bars(_) => String::new(),
        Block::Plot(name, curve) => plot(name, curve),
    }
}

fn piece((tone, text): &Piece) -> String {
    let text = escape(text);
    match tone {
        Tone::Plain | Tone::Dim => text,
        _ if text.trim().is_empty() => text,
        _ => {
            let core = text.trim();
            text.replacen(core, &format!("**{core}**"), 1)
        }
    }
}

fn check(one: &ChecklistBox) -> String {
    let tick = if one.mark == Mark::Done { 'x' } else { ' ' };
    let owner = one
        .owner
        .as_deref()
        .map(|owner| format!("; owner: {}", escape(owner)));
    let time = one.time.map(|time| format!("; {time}"));
    format!(
        "- [{tick}] **{}** {} ({}{}{})\n  {}\n",
        one.letter,
        escape(&one.what),
        one.mark.words(),
        owner.unwrap_or_default(),
        time.unwrap_or_default(),
        escape(&one.proof)
    )
}

fn table(columns: &[&str], rows: &[Vec<Piece>]) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut out = line(columns.iter().map(|column| (*column).to_owned()).collect());
    out.push_str(&line(columns.iter().map(|_| "---".to_owned()).collect()));
    for row in rows {
        out.push_str(&line(row.iter().map(piece).collect()));
    }
    out
}

/// A curve in characters: a blank is time that nobody observed.
fn plot(name: &str, curve: &Curve) -> String {
    let highest = curve.points.iter().filter_map(|point| point.high);
    let top = highest
        .fold(curve.bound.abs(), f64::max)
        .max(f64::MIN_POSITIVE);
    let points: Vec<&Point> = curve.points.iter().collect();
    let per = points.len().div_ceil(WIDTH).max(1);
    let line = points.chunks(per).map(|chunk| {
        let highest = chunk.iter().filter_map(|point| point.high);
        match highest.fold(None, |most: Option<f64>, high| {
            Some(most.map_or(high, |most| most.max(high)))
        }) {
            None => ' ',
            Some(high) => {
                let level = (high.max(0.0) / top * 7.0).round() as usize;
                LEVELS[level.min(LEVELS.len() - 1)]
            }
        }
    });
    let side = if curve.below { "below" } else { "above" };
    format!(
        "{}: {}, must be {side} {} {}; from {} to {}; the highest line is {} {}\n\n    {}\n",
        escape(name),
        escape(&curve.what),
        curve.bound,
        curve.unit,
        curve.begin,
        curve.end,
        short(top),
        curve.unit,
        line.collect::<String>()
    )
}

/// A text that is only a text.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::collect::tests::with;
    use super::*;

    #[test]
    fn a_box_has_its_proof_and_a_table_its_rows() {
        let text = page(&with("text"));
        assert!(text.starts_with("# Activation prod/shop\n"), "{text}");
        assert!(
            text.contains("- [x] **Go-Live** A, B and C are done"),
            "{text}"
        );
        assert!(text.contains("- [ ] **E** Watched for 72h"), "{text}");
        assert!(text.contains("| Release | Outcome |"), "{text}");
        assert!(text.contains("| 3 (serves) | **Succeeded** |"), "{text}");
        assert!(text.contains('█') && text.contains('▁'), "{text}");
    }

    #[test]
    fn no_text_becomes_markup_or_another_line_or_column() {
        let hostile = "a|b\n\n# c <script>x</script> ![i](javascript:x) `d` **e** \u{202e}f\u{7}";
        let text = page(&with(hostile));
        let harmless = page(&with("x"));
        assert_eq!(text.lines().count(), harmless.lines().count());
        let mut bare = text.clone();
        for escaped in ["\\!", "\\[", "\\]", "\\`", "\\*"] {
            bare = bare.replace(escaped, "");
        }
        for raw in ["<script", "![", "](", "`d", "**e", "\u{202e}", "\u{7}"] {
            assert!(!bare.contains(raw), "{raw}");
        }
        let columns = |text: &str| {
            let rows = text.lines().filter(|line| line.starts_with('|'));
            rows.map(|row| row.replace("\\|", "").matches('|').count())
                .collect::<Vec<_>>()
        };
        assert_eq!(columns(&text), columns(&harmless));
    }
}
