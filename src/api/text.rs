//! Bounded text: one line of at most so many bytes.

/// Longest message, in bytes of UTF-8.
pub const MAX_MESSAGE: usize = 1024;

/// One line of at most `max` bytes: control characters become blanks, and what is too long ends
/// with an ellipsis.
#[must_use]
pub fn one_line(text: &str, max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(max));
    for c in text.trim().chars() {
        let c = if breaks_a_line(c) { ' ' } else { c };
        if c == ' ' && line.ends_with(' ') {
            continue;
        }
        if line.len() + c.len_utf8() > max {
            let ellipsis = '…';
            while line.len() + ellipsis.len_utf8() > max && line.pop().is_some() {}
            if max >= ellipsis.len_utf8() {
                line.push(ellipsis);
            }
            break;
        }
        line.push(c);
    }
    line
}

/// Characters that would break a line, a terminal, or the direction of a text.
fn breaks_a_line(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
