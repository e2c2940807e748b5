//! The report as one page of HTML that loads nothing and runs nothing. Pure. Texts come from objects that
//! others may write: none can become markup, and the page's own policy forbids scripts and requests.
//!
//! Source: WHATWG, "HTML", 13.1.2; W3C, "Content Security Policy Level 3".

use super::checklist::{ChecklistBox, Mark};
use super::collect::Report;
use super::page::{Block, Piece, blocks};
use super::svg;
use super::text::html as escape;
use crate::cli::style::Tone;

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let title = escape(&format!("{}/{}", report.namespace, report.name));
    let body: String = blocks(report).iter().map(render).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Activation {title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>Activation {title}</h1>\n{body}</main>\n</body>\n</html>\n"
    )
}

fn render(block: &Block) -> String {
    match block {
        Block::Heading(heading) => format!("<h2>{heading}</h2>\n"),
        Block::Text(pieces) => {
            let text: String = pieces.iter().map(piece).collect();
            format!("<p>{text}</p>\n")
        }
        Block::Link(what, url) => format!("<p>{what}: {}</p>\n", link(url)),
        Block::Boxes(boxes) => {
            let boxes: String = boxes.iter().map(check).collect();
            format!("<ul class=\"boxes\">\n{boxes}</ul>\n")
        }
        Block::Table(columns, rows) => table(columns, rows),
        Block::Bars(bars) => format!("<figure>{}</figure>\n", svg::bars(bars)),
        Block::Plot(name, curve) => format!(
            "<figure><figcaption><b>{}</b>: {}</figcaption>{}</figure>\n",
            escape(name),
            escape(&curve.what),
            svg::plot(name, curve)
        ),
    }
}

/// An address, which leads somewhere only if it is one of the web.
fn link(url: &str) -> String {
    let text = escape(url);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#@%&=+,;".contains(c);
    match url.starts_with("https://") && url.chars().all(is_plain) {
        true => format!("<a href=\"{text}\" rel=\"noopener noreferrer\">{text}</a>"),
        false => text,
    }
}

fn class(tone: Tone) -> Option<&'static str> {
    match tone {
        Tone::Plain => None,
        Tone::Bold => Some("bold"),
        Tone::Dim => Some("dim"),
        Tone::Good => Some("good"),
        Tone::Warn => Some("warn"),
        Tone::Bad => Some("bad"),
    }
}

fn piece((tone, text): &Piece) -> String {
    match class(*tone) {
        None => escape(text),
        Some(class) => format!("<span class=\"{class}\">{}</span>", escape(text)),
    }
}

fn check(one: &ChecklistBox) -> String {
    let (class, sign) = match one.mark {
        Mark::Done => ("good", "&#9745;"),
        Mark::Failed => ("bad", "&#9746;"),
        Mark::Open => ("warn", "&#9744;"),
        Mark::Unknown => ("dim", "?"),
        Mark::NotAsked => ("dim", "&#8211;"),
    };
    let owner = one
        .owner
        .as_deref()
        .map(|owner| format!(" &middot; {}", escape(owner)));
    let time = one.time.map(|time| format!(" &middot; {time}"));
    format!(
        "<li><span class=\"sign {class}\">{sign}</span><div><b>{}</b> {}<br>\
         <span class=\"dim\">{}{}{}</span><br>{}</div></li>\n",
        one.letter,
        escape(&one.what),
        one.mark.words(),
        owner.unwrap_or_default(),
        time.unwrap_or_default(),
        escape(&one.proof)
    )
}

fn table(columns: &[&str], rows: &[Vec<Piece>]) -> String {
    let head: String = columns
        .iter()
        .map(|name| format!("<th>{name}</th>"))
        .collect();
    let body = rows.iter().map(|row| {
        let cells: String = row
            .iter()
            .map(|cell| format!("<td>{}</td>", piece(cell)))
            .collect();
        format!("<tr>{cells}</tr>\n")
    });
    let body: String = body.collect();
    format!(
        "<div class=\"wide\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n"
    )
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::collect::tests::with;
    use super::*;

    const TAGS: &[&str] = &[
        "!DOCTYPE",
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "h1",
        "h2",
        "p",
        "a",
        "b",
        "br",
        "ul",
        "li",
        "div",
        "span",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "figure",
        "figcaption",
        "svg",
        "path",
        "rect",
        "text",
    ];

    const ATTRIBUTES: &[&str] = &[
        "html",
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "class",
        "href",
        "rel",
        "viewBox",
        "role",
        "aria-label",
        "d",
        "x",
        "y",
        "width",
        "height",
    ];

    /// The names of all tags and of their attributes.
    fn markup(page: &str) -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut tags, mut attributes) = (BTreeSet::new(), BTreeSet::new());
        let mut rest = page;
        while let Some(at) = rest.find('<') {
            rest = &rest[at + 1..];
            let Some(end) = rest.find('>') else {
                panic!("a tag without an end: {rest}");
            };
            let mut inside = rest[..end].trim_matches('/');
            rest = &rest[end + 1..];
            let name = inside.find(char::is_whitespace).unwrap_or(inside.len());
            tags.insert(inside[..name].to_owned());
            inside = &inside[name..];
            while let Some((before, after)) = inside.split_once("=\"") {
                attributes.insert(before.trim().to_owned());
                let Some((_, next)) = after.split_once('"') else {
                    panic!("an attribute without an end: {after}");
                };
                inside = next;
            }
            attributes.extend(inside.split_whitespace().map(str::to_owned));
        }
        (tags, attributes)
    }

    #[test]
    fn no_text_of_the_cluster_becomes_markup() {
        let (tags, attributes) = markup(&page(&with("x")));
        assert!(
            tags.iter().all(|tag| TAGS.contains(&tag.as_str())),
            "{tags:?}"
        );
        assert!(
            attributes
                .iter()
                .all(|one| ATTRIBUTES.contains(&one.as_str())),
            "{attributes:?}"
        );
        for hostile in [
            "<script>alert(1)</script>",
            "\"><img src=x onerror=alert(1)>",
            "' onmouseover='alert(1)",
            "</style></title><svg/onload=alert(1)>",
            "javascript:alert(1)",
            "https://x.example/\" onclick=\"alert(1)",
            "<!-- <?x --> ]]> &lt;script&gt; {{7*7}} \u{202e}\0",
        ] {
            let page = page(&with(hostile));
            let (theirs, more) = markup(&page);
            assert!(theirs.is_subset(&tags), "{hostile}: {theirs:?}");
            assert!(more.is_subset(&attributes), "{hostile}: {more:?}");
            assert!(
                !page.contains(hostile) || hostile == "javascript:alert(1)",
                "{hostile}"
            );
            assert!(!page.contains("href=\"javascript"), "{hostile}");
            assert!(!page.contains(['\u{202e}', '\0']), "{hostile}");
        }
    }

    #[test]
    fn the_page_loads_nothing_and_its_address_is_a_link() {
        let page = page(&with("https://shop.fly.dev"));
        assert!(page.contains("<a href=\"https://shop.fly.dev\""), "{page}");
        assert!(page.contains("default-src 'none'"));
        for loads in ["src=", "url(", "@import", "<link", "<script", "xlink:"] {
            assert!(!page.contains(loads), "{loads}");
        }
        assert!(page.matches("<svg").count() >= 2, "bars and a curve");
    }
}
