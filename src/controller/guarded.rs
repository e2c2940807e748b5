//! The deadline and the panic guard of one pass.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;

use crate::{causes, error::Error, redact};

/// Runs a pass within its deadline, and turns a panic into an error of this object.
pub(super) async fn run<T>(
    deadline: Duration,
    pass: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let pass = AssertUnwindSafe(tokio::time::timeout(deadline, pass));
    match pass.catch_unwind().await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Error::Deadline(deadline)),
        Err(panic) => {
            let text = causes::panic(panic.as_ref());
            Err(Error::Panicked(redact::redact(&text).into_owned()))
        }
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_pass_is_an_error_of_its_object_and_says_what_it_was() {
        let ended = run(Duration::from_secs(60), async {
            tokio::task::yield_now().await;
            if std::hint::black_box(true) {
                panic!("index {} is out of bounds", 7);
            }
            Ok(Duration::ZERO)
        })
        .await;
        let Err(error @ Error::Panicked(_)) = ended else {
            unreachable!("{ended:?}")
        };
        assert!(error.to_string().contains("index 7 is out of bounds"));
    }

    #[tokio::test]
    async fn a_panic_that_quotes_a_value_shows_none_though_the_value_is_gone_with_the_pass() {
        let pass = run(Duration::from_secs(60), async {
            let value = redact::guard("canary-of-a-panic-4f1c".into());
            if std::hint::black_box(true) {
                panic!("no column {}", value.expose_secret());
            }
            Ok(Duration::ZERO)
        });
        let ended = redact::scope(redact::Redactor::default(), pass).await;
        let Err(error) = ended else {
            unreachable!("{ended:?}")
        };
        assert_eq!(
            error.to_string(),
            "the reconcile panicked: no column [redacted]"
        );
        let later = redact::redact("canary-of-a-panic-4f1c");
        assert_eq!(later, "canary-of-a-panic-4f1c", "another object's text");
    }

    #[tokio::test]
    async fn a_pass_that_never_ends_is_ended_at_its_deadline() {
        let deadline = Duration::from_millis(20);
        let ended = run(deadline, std::future::pending::<Result<(), Error>>()).await;
        assert!(matches!(ended, Err(Error::Deadline(after)) if after == deadline));
    }
}
