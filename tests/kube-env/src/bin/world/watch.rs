//! The watch in the demo: guests come, its hours pass as fast as the world's time runs, and its verdict is
//! told.

use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::api::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};
use kube_env::process::{Process, Spec};
use serde_json::Value;

use crate::fault::Fault;
use crate::parts::{self, TIME_SCALE};
use crate::place::Place;
use crate::progress::{Progress, list, text};
use crate::state::State;

/// The watch of the example, in seconds.
const WINDOW: u64 = 72 * 3600;

/// Nobody looks at a demonstration for longer: a watch that takes more goes on without us.
const LONGEST: u64 = 5 * 60;

/// After the time of the watch its verdict comes with the next pass.
const LATE: Duration = Duration::from_secs(120);

/// How many times faster the time of a watch runs in this world.
fn scale(state: &State) -> u64 {
    let scale = state.env.get(TIME_SCALE);
    let scale = scale.and_then(|scale| scale.parse().ok());
    scale.unwrap_or(1).max(1)
}

/// Whether its end can be waited for.
pub fn is_short(state: &State) -> bool {
    WINDOW / scale(state) <= LONGEST
}

/// Guests who write and talk to the application, in bursts and with pauses, until dropped: `cabanas traffic`.
pub fn guests(place: &Place, url: &str, state: &State) -> Result<Process, Fault> {
    let of = |name: &str| state.env.get(name).cloned().unwrap_or_default();
    Ok(Spec::new(
        "guests",
        parts::beside("cabanas")?,
        place.dir().join("guests.log"),
    )
    .arg("traffic")
    .arg(url)
    .arg(format!("--connect={}", of("FLY_SIM_EDGE")))
    .arg("--per-second=12")
    // Some errors are normal: 0.3 %.
    .arg("--errors-per-10-000=30")
    .arg("--burst=20,3,4")
    .arg("--silence=30,5")
    .env("SSL_CERT_FILE", of("SSL_CERT_FILE"))
    .spawn()?)
}

/// Shows the objectives as their standing changes. True once the application is stable.
pub async fn follow(
    activations: Api<DynamicObject>,
    name: &str,
    state: &State,
    guests: &mut Process,
    progress: &mut Progress,
) -> Result<bool, Fault> {
    let scale = scale(state);
    progress.heading(&format!(
        "72 hours of watching, {scale} times as fast: {} s",
        WINDOW / scale
    ));
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut changes = watcher::watcher(activations, config)
        .default_backoff()
        .applied_objects()
        .boxed();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let limit = tokio::time::sleep(Duration::from_secs(WINDOW / scale) + LATE);
    tokio::pin!(limit);
    loop {
        let object = tokio::select! {
            change = changes.next() => match change {
                Some(Ok(object)) => object,
                // The backoff tries again.
                Some(Err(_)) => continue,
                None => return Err(Fault::new("the watch of the activation has ended")),
            },
            _ = tick.tick() => {
                if guests.exited().is_some() {
                    return Err(Fault::new(format!(
                        "the guests have gone:\n{}",
                        kube_env::process::tail(guests.log())
                    )));
                }
                progress.tick();
                continue;
            }
            () = &mut limit => {
                progress.say("the watch has not ended in time");
                return Ok(false);
            }
        };
        let status = &object.data["status"];
        progress.show_watch(status);
        let watch = &status["watch"];
        match text(&watch["state"]) {
            "Running" | "" => {}
            "Stabilized" => {
                progress.say(&format!("STABLE: {}", text(&watch["verdict"])));
                return Ok(true);
            }
            other => {
                progress.say(&format!("{other}: {}", text(&watch["verdict"])));
                for incident in list(&status["incidents"]) {
                    progress.say(&format!("  {}", text(&incident["message"])));
                }
                return Ok(false);
            }
        }
    }
}

/// The hours from the begin of the watch to its last figures, by its own clock.
pub fn hours(status: &Value) -> Option<f64> {
    let time = |value: &Value| -> Option<k8s_openapi::jiff::Timestamp> { text(value).parse().ok() };
    let since = time(&status["watch"]["since"])?;
    let at = time(&list(&status["objectives"]).next()?["observedAt"])?;
    Some(at.duration_since(since).as_secs_f64() / 3600.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hours_are_those_of_the_watch() {
        let status = json!({
            "watch": {"since": "2026-11-24T12:00:00Z"},
            "objectives": [{"observedAt": "2026-11-25T18:00:00Z"}],
        });
        assert!((hours(&status).unwrap() - 30.0).abs() < 1e-9);
        assert!(hours(&json!({"watch": status["watch"]})).is_none());
    }
}
