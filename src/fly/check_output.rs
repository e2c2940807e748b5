//! What the output of a machine's check says. Foreign text, read here and nowhere else: from here on
//! a cause is an enum.
//!
//! Sources: fly.io/docs/reference/health-checks, community.fly.io/t/healthcheck-based-routing/12997
//! (`connect: connection refused`). A failed HTTP check begins with its status line, and a check that
//! has not run says so. Other spellings of the same causes are read too, because Fly.io documents none.

/// What a check's output says about its last run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckOutput {
    /// It has not run yet.
    NotRun,
    /// The connection was refused: nothing listens at the machine's address and the check's port.
    Refused,
    /// There was no answer within the check's `timeout`.
    TimedOut,
    /// The connection was closed, or what came over it is no HTTP.
    Broken,
    /// The program answered with this HTTP status.
    Status(u16),
    /// Something else.
    Other,
}

impl CheckOutput {
    /// Reads the output of a check that does not pass.
    pub fn read(output: &str) -> Self {
        let output = output.trim();
        if output.is_empty() {
            return Self::NotRun;
        }
        // First, because the body that follows may quote any error.
        if let Some(status) = status(output) {
            return Self::Status(status);
        }
        let output = output.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| output.contains(word));
        if says(&["waiting for status update", "has not completed"]) {
            Self::NotRun
        } else if says(&["connection refused", "connectionrefused"]) {
            Self::Refused
        } else if says(&["deadline exceeded", "timeout", "timed out"]) {
            Self::TimedOut
        } else if says(&["eof", "connection reset", "malformed http", "broken pipe"]) {
            Self::Broken
        } else {
            Self::Other
        }
    }
}

/// The HTTP status of an output: `301 Moved Permanently`, alone or after `HTTP GET http://…: `.
fn status(output: &str) -> Option<u16> {
    let first = output.lines().next().unwrap_or_default();
    let answer = match first.strip_prefix("HTTP ") {
        // A URL contains `:`, and never a colon with a blank.
        Some(request) => request.split_once(": ")?.1,
        None => first,
    };
    let (code, phrase) = answer.split_once(' ').unwrap_or((answer, ""));
    let is_phrase = phrase.is_empty() || phrase.starts_with(|c: char| c.is_ascii_alphabetic());
    let code: u16 = (code.len() == 3 && is_phrase)
        .then(|| code.parse().ok())
        .flatten()?;
    // A check with a 2xx passes.
    (300..600).contains(&code).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::{CheckOutput::*, *};

    #[test]
    fn the_causes_are_read_from_the_spellings_of_fly_io_and_of_go() {
        for (output, is) in [
            ("", NotRun),
            ("waiting for status update", NotRun),
            ("connect: connection refused", Refused),
            (
                "dial tcp 172.19.2.10:8080: connect: connection refused",
                Refused,
            ),
            ("connect: Connection refused (os error 111)", Refused),
            ("301 Moved Permanently", Status(301)),
            ("400 Bad Request\n<h1>Bad Request (400)</h1>", Status(400)),
            (
                "HTTP GET http://172.19.2.10:8080/up: 301 Moved Permanently Output: ",
                Status(301),
            ),
            (
                "HTTP GET http://[fdaa::1]:8080/: 404 Not Found Output: no",
                Status(404),
            ),
            ("503", Status(503)),
            // What the program says about its own dependencies is not about the program.
            (
                "500 Internal Server Error\nredis: connection refused, timeout",
                Status(500),
            ),
            (
                "Get \"http://172.19.2.10:8080/\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                TimedOut,
            ),
            ("dial tcp 172.19.2.10:8080: i/o timeout", TimedOut),
            ("Get \"http://172.19.2.10:8080/\": EOF", Broken),
            (
                "net/http: HTTP/1.x transport connection broken: malformed HTTP response",
                Broken,
            ),
            ("200 rows are missing in 3 tables", Other),
            ("3000 rows are missing", Other),
            ("999 bottles", Other),
            ("no leader", Other),
        ] {
            assert_eq!(CheckOutput::read(output), is, "{output}");
        }
    }
}
