//! Deliveries that are repeated until they are taken, with growing pauses.

use std::time::Duration;

use serde::Serialize;

use crate::client::{Incoming, Outgoing};
use crate::state::{Shared, Vendor};

/// When a vendor tries again.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Longest wait for an answer.
    pub answer: Duration,
    /// Pause after the first failure.
    pub pause: Duration,
    /// Failures after which the pause doubles with each further one.
    pub steady: u32,
    /// Longest pause.
    pub longest: Duration,
    /// Tries in all.
    pub tries: u32,
}

impl Patience {
    /// Meta: from some seconds on, less and less often, for up to 7 days.
    ///
    /// Source: developers.facebook.com, WhatsApp webhooks overview: "decreasing frequency until the
    /// request succeeds, for up to 7 days". The time to answer is not documented.
    pub fn meta(scale: f64) -> Self {
        Self {
            answer: Duration::from_secs(20),
            pause: scaled(Duration::from_secs(10), scale),
            steady: 0,
            longest: scaled(Duration::from_secs(6 * 3600), scale),
            tries: 40,
        }
    }

    /// Mercado Pago: 22 s to answer, then every 15 minutes, less often after the third failure.
    ///
    /// Source: mercadopago/devsite-docs, guides/additional-content/your-integrations/webhooks.en.md.
    pub fn mercado_pago(scale: f64) -> Self {
        Self {
            answer: Duration::from_secs(22),
            pause: scaled(Duration::from_secs(900), scale),
            steady: 3,
            longest: scaled(Duration::from_secs(96 * 3600), scale),
            tries: 12,
        }
    }

    /// The pause after this many failures.
    pub fn after(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(self.steady.max(1)).min(20);
        (self.pause * 2u32.pow(doublings)).min(self.longest)
    }
}

fn scaled(time: Duration, scale: f64) -> Duration {
    time.mul_f64(scale.clamp(0.0, 1.0))
}

/// One try, for whoever looks into it. No header, no body.
#[derive(Clone, Debug, Serialize)]
pub struct Try {
    /// Who sends.
    pub vendor: Vendor,
    /// The id of the message or of the notification.
    pub id: String,
    /// Number of the try, from 1 on.
    pub number: u32,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// Why there was none.
    pub error: Option<String>,
    /// Time until the answer, in milliseconds.
    pub took_ms: u64,
}

/// Sends until `taken` says that the answer counts, or the patience is over. Returns whether it was
/// taken.
pub async fn deliver(
    state: &Shared,
    (vendor, id): (Vendor, &str),
    out: &Outgoing,
    patience: Patience,
    taken: fn(&Incoming) -> bool,
) -> bool {
    for number in 1..=patience.tries {
        let started = std::time::Instant::now();
        let answer = state.client.send(out, patience.answer).await;
        let one = Try {
            vendor,
            id: id.to_owned(),
            number,
            status: answer.as_ref().ok().map(|answer| answer.status.as_u16()),
            error: answer.as_ref().err().map(ToString::to_string),
            took_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        state.note(one);
        if answer.is_ok_and(|answer| taken(&answer)) {
            return true;
        }
        tokio::select! {
            () = tokio::time::sleep(patience.after(number)) => {}
            () = state.stop.cancelled() => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_as_each_vendor_says() {
        let minutes = |patience: Patience, failures| patience.after(failures).as_secs() / 60;
        let mercado_pago = Patience::mercado_pago(1.0);
        let pauses = [1, 2, 3, 4, 5].map(|failures| minutes(mercado_pago, failures));
        assert_eq!(pauses, [15, 15, 15, 30, 60]);
        let meta = Patience::meta(1.0);
        assert_eq!(meta.after(1), Duration::from_secs(10));
        assert_eq!(meta.after(2), Duration::from_secs(20));
        assert_eq!(meta.after(39), Duration::from_secs(6 * 3600));
    }
}
