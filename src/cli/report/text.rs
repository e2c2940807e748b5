//! Texts and numbers of a report. Pure.

/// A text without what nobody sees: control characters, and those that turn the direction of writing
/// (Unicode, UAX #9, "Explicit Directional Formatting Characters").
pub(super) fn visible(text: &str) -> String {
    let is_hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars()
        .map(|c| if is_hidden(c) { ' ' } else { c })
        .collect()
}

/// A text that is only a text, also between quotes of an attribute.
pub(super) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A number with few digits.
pub(super) fn short(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 1.0,
        v if v >= 1.0 => 100.0,
        _ => 10_000.0,
    };
    ((value * digits).round() / digits).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_becomes_a_blank_and_the_rest_stays() {
        assert_eq!(visible("a\u{202e}b\nc\u{200b}d\0"), "a b c d ");
        assert_eq!(visible("cabañas – 3 €"), "cabañas – 3 €");
    }

    #[test]
    fn numbers_have_few_digits() {
        let shown = [0.05, 12.345, 1234.56].map(short);
        assert_eq!(shown, ["0.05", "12.35", "1235"]);
    }
}
