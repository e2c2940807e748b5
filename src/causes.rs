//! Formats errors with their causes, and panics, for logs, conditions and the terminal. Uses nothing of the
//! crate.

use std::error::Error;

/// An error and its causes in one line. A cause whose text its parent already contains is left out,
/// because some errors (kube's) print their cause themselves.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// What a panic says.
pub fn panic(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn causes_are_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read the app")]
        struct Outer(#[source] Middle);
        #[derive(Debug, thiserror::Error)]
        #[error("request failed: {0}")]
        struct Middle(#[source] io::Error);
        let error = Outer(Middle(io::Error::other("connection reset")));
        assert_eq!(
            chain(&error),
            "cannot read the app: request failed: connection reset"
        );
    }
}
