//! `kubectl golive watch`: an Activation, or all, as they change: redrawn on a terminal, lines otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use kube::{
    ResourceExt,
    core::DeserializeGuard,
    runtime::{WatchStreamExt, watcher},
};
use tokio::signal::unix::{SignalKind, signal};

use super::connect::{self, Connected, Connection, Selection};
use super::list;
use super::output::{Output, say, show};
use super::refused::{Doing, Refused, Role};
use super::status::{StatusReport, lines, report};
use super::style::{Line, Paint};
use crate::api::Activation;

/// How often ages are drawn anew on a terminal.
const REDRAW: Duration = Duration::from_secs(1);

/// The other screen of the terminal, without line breaks by itself; and back. Source: xterm, "Control
/// Sequences", DEC private modes 1049 and 7.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?7l";
const LEAVE: &str = "\u{1b}[?7h\u{1b}[?1049l";
/// To the top left corner, and everything below is erased.
const HOME: &str = "\u{1b}[H\u{1b}[J";

/// Arguments of `watch`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
On a terminal the screen is redrawn; otherwise each change is one line with the time. Ctrl-C ends it, and
so does the deletion of the Activation that is named.

You need the ClusterRole activation-view.

Examples:
  kubectl golive watch shop -n prod
  kubectl golive watch -A
  kubectl golive watch shop | tee go-live.log")]
pub(super) struct Args {
    /// The Activation. Default: all of the namespace, as a table.
    #[arg(conflicts_with_all = ["all_namespaces", "selector"])]
    name: Option<String>,

    /// How to print; wide: all steps, also those that are as they should be.
    #[arg(short, long, value_enum)]
    output: Option<Form>,

    /// The same as `-o wide`.
    #[arg(long)]
    wide: bool,

    #[command(flatten)]
    selection: Selection,

    #[command(flatten)]
    connection: Connection,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Everything, on a terminal.
    Wide,
}

impl Args {
    fn is_wide(&self) -> bool {
        self.wide || self.output == Some(Form::Wide)
    }
}

/// Why there is nothing to watch.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Connect(#[from] connect::Error),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("cannot wait for Ctrl-C or the end of the process")]
    Signal(#[source] io::Error),
}

/// The namespace and the name of an object.
type Key = (String, String);

/// What is known of the objects.
#[derive(Debug, Default)]
struct Known {
    items: BTreeMap<Key, Activation>,
    /// Objects that this program cannot read.
    unreadable: BTreeSet<Key>,
    /// Those of them that were warned of.
    told: BTreeSet<Key>,
}

impl Known {
    fn is_empty(&self) -> bool {
        self.items.is_empty() && self.unreadable.is_empty()
    }

    fn has(&self, key: &Key) -> bool {
        self.items.contains_key(key) || self.unreadable.contains(key)
    }

    /// Keeps what was read. Of what cannot be read there is one warning for each object: it must not hide
    /// the others.
    fn keep(&mut self, key: Key, found: DeserializeGuard<Activation>) -> Option<String> {
        match found.0 {
            Ok(one) => {
                self.unreadable.remove(&key);
                self.items.insert(key, one);
                None
            }
            Err(invalid) => {
                self.items.remove(&key);
                self.unreadable.insert(key.clone());
                let new = self.told.insert(key);
                new.then(|| connect::unreadable(&invalid))
            }
        }
    }
}

/// Watches until Ctrl-C, until the one that is named is deleted, or until nobody reads the output.
pub(super) async fn run(args: &Args) -> Result<Output, Error> {
    let connected = args.connection.open().await?;
    if let Some(name) = &args.name {
        connected.activation(name).await?;
    }
    let mut screen = Screen::new(args);
    let ended = follow(args, &connected, &mut screen).await;
    screen.leave();
    ended.map(|()| Output::default())
}

async fn follow(args: &Args, connected: &Connected, screen: &mut Screen<'_>) -> Result<(), Error> {
    let mut config = watcher::Config::default();
    if let Some(name) = &args.name {
        config = config.fields(&format!("metadata.name={name}"));
    }
    if let Some(labels) = args.selection.labels() {
        config = config.labels(labels);
    }
    let api = connected.selected(&args.selection);
    let mut events = watcher(api, config).default_backoff().boxed();
    let mut known = Known::default();
    let mut listed = false;
    let mut redraw = tokio::time::interval(REDRAW);
    let mut stop = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    loop {
        tokio::select! {
            _ = stop.recv() => return Ok(()),
            // The terminal is given back as well.
            _ = terminate.recv() => return Ok(()),
            _ = redraw.tick(), if screen.terminal => {}
            event = events.try_next() => match event {
                Ok(Some(event)) => {
                    let (complete, warning) = note(&mut known, event);
                    listed = complete;
                    if let Some(warning) = warning {
                        let line = Line::plain(format!("warning: {warning}"));
                        show(&format!("{}\n", line.text()));
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => refused(args, connected, error).await?,
            },
        }
        if listed && !screen.show(&known, connected.now()) {
            return Ok(());
        }
        if listed && args.name.is_some() && known.is_empty() {
            return Ok(());
        }
    }
}

/// Notes what a watch says: false while a list is being read, after which everything is known; and a
/// warning about an object that cannot be read.
fn note(
    known: &mut Known,
    event: watcher::Event<DeserializeGuard<Activation>>,
) -> (bool, Option<String>) {
    let key = |one: &DeserializeGuard<Activation>| -> Key {
        (one.namespace().unwrap_or_default(), one.name_any())
    };
    match event {
        watcher::Event::Init => {
            known.items.clear();
            known.unreadable.clear();
            (false, None)
        }
        watcher::Event::InitApply(one) => (false, known.keep(key(&one), one)),
        watcher::Event::InitDone => (true, None),
        watcher::Event::Apply(one) => (true, known.keep(key(&one), one)),
        watcher::Event::Delete(one) => {
            let key = key(&one);
            known.items.remove(&key);
            known.unreadable.remove(&key);
            known.told.remove(&key);
            (true, None)
        }
    }
}

/// What stays wrong ends the watch; everything else is tried again.
async fn refused(args: &Args, connected: &Connected, error: watcher::Error) -> Result<(), Error> {
    let (watcher::Error::InitialListFailed(error)
    | watcher::Error::WatchStartFailed(error)
    | watcher::Error::WatchFailed(error)) = error
    else {
        return Ok(());
    };
    if !stays(&error) {
        return Ok(());
    }
    let doing = Doing {
        what: "watch Activations".to_owned(),
        role: Role::View,
        namespace: (!args.selection.everywhere()).then(|| connected.namespace.clone()),
    };
    Err(connected.refused(doing, error).await.into())
}

/// Whether the same request fails again: the API server refuses it, or its answer cannot be read. A watch
/// that is too old (410) begins anew, and of 408 and 429 the API server says that it may be tried again.
fn stays(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => {
            (400..500).contains(&status.code) && ![408, 410, 429].contains(&status.code)
        }
        // An answer that was cut off is another matter.
        kube::Error::SerdeError(error) => !error.is_eof(),
        _ => false,
    }
}

/// Where it is shown.
struct Screen<'a> {
    args: &'a Args,
    terminal: bool,
    paint: Paint,
    entered: bool,
    /// The last frame, which stays on the terminal at the end.
    frame: String,
    /// The last line of each object.
    said: BTreeMap<Key, String>,
}

impl<'a> Screen<'a> {
    fn new(args: &'a Args) -> Self {
        Self {
            args,
            terminal: io::stdout().is_terminal(),
            paint: Paint::of_stdout(),
            entered: false,
            frame: String::new(),
            said: BTreeMap::new(),
        }
    }

    /// Shows the state; false when nobody reads it any more.
    fn show(&mut self, known: &Known, now: Timestamp) -> bool {
        if !self.terminal {
            let text = changes(&mut self.said, known, now);
            return say(&text);
        }
        let reports: Vec<StatusReport> = known.items.values().map(report).collect();
        // Of the one that is named there is nothing to show, and it is not deleted.
        let unreadable = self.args.name.is_some() && !known.unreadable.is_empty();
        if !unreadable {
            self.frame = self.paint.text(&frame(self.args, &reports, now));
        }
        let enter = if self.entered { "" } else { ENTER };
        self.entered = true;
        say(&format!("{enter}{HOME}{}", self.frame))
    }

    /// Gives the terminal back, with the last frame on it.
    fn leave(&mut self) {
        if self.entered {
            say(&format!("{LEAVE}{}", self.frame));
        }
    }
}

/// What a terminal shows. Pure.
fn frame(args: &Args, reports: &[StatusReport], now: Timestamp) -> Vec<Line> {
    match (&args.name, reports) {
        (Some(_), [one]) => lines(one, now, args.is_wide()),
        (Some(name), _) => vec![Line::plain(format!("{name} is deleted"))],
        (None, []) => vec![Line::plain("nothing found")],
        (None, all) => list::rows(all, now, args.selection.everywhere(), args.is_wide()),
    }
}

/// A line for each object that says something else than before. Pure.
fn changes(said: &mut BTreeMap<Key, String>, known: &Known, now: Timestamp) -> String {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mut text = String::new();
    let gone = said.keys().filter(|key| !known.has(key));
    let gone: Vec<Key> = gone.cloned().collect();
    for key in gone {
        said.remove(&key);
        text.push_str(&format!("{now} {}/{} deleted\n", key.0, key.1));
    }
    for (key, one) in &known.items {
        let current = summary(&report(one));
        if said.get(key) != Some(&current) {
            text.push_str(&format!("{now} {current}\n"));
            said.insert(key.clone(), current);
        }
    }
    text
}

/// One line about an object, without ages: it changes when the object does. Pure.
fn summary(report: &StatusReport) -> String {
    let line = format!(
        "{}/{} {} spec={} site={}  {}",
        report.namespace,
        report.name,
        report.phase,
        report.spec.state.word().1,
        report.site.state.word().1,
        report.spec.message
    );
    Line::plain(line).text()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(phase: &str) -> Activation {
        serde_json::from_value(json!({
            "metadata": {"name": "shop", "namespace": "prod", "generation": 1},
            "spec": {"organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:1"}},
            "status": {"observedGeneration": 1, "phase": phase},
        }))
        .unwrap()
    }

    fn guarded(phase: &str) -> DeserializeGuard<Activation> {
        DeserializeGuard(Ok(object(phase)))
    }

    /// One of a later version of the operator.
    fn later() -> DeserializeGuard<Activation> {
        serde_json::from_value(json!({
            "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
            "metadata": {"name": "later", "namespace": "prod"},
            "spec": {"organization": "o", "app": "later", "region": "eze", "mode": "Dream",
                "deploy": {"image": "x:1"}},
        }))
        .unwrap()
    }

    #[test]
    fn an_object_that_cannot_be_read_hides_no_other_and_is_warned_of_once() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut known = Known::default();
        let (_, warning) = note(&mut known, watcher::Event::InitApply(later()));
        let warning = warning.unwrap();
        assert!(
            warning.starts_with("this program cannot read Activation prod/later: "),
            "{warning}"
        );
        note(&mut known, watcher::Event::InitApply(guarded("Deploy")));
        note(&mut known, watcher::Event::InitDone);
        let mut said = BTreeMap::new();
        let text = changes(&mut said, &known, now);
        assert!(text.contains("prod/shop Deploy"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!known.is_empty());
        // Neither a change of it nor a list that is read again says it another time.
        for event in [
            watcher::Event::Apply(later()),
            watcher::Event::Init,
            watcher::Event::InitApply(later()),
        ] {
            assert_eq!(note(&mut known, event).1, None);
        }
        // What cannot be read any more is not said to be deleted.
        let mut was = BTreeMap::from([(("prod".to_owned(), "later".to_owned()), String::new())]);
        assert_eq!(changes(&mut was, &known, now), "");
    }

    #[test]
    fn without_a_terminal_each_change_is_one_line_and_no_change_is_none() {
        let now: Timestamp = "2026-01-01T00:00:00.7Z".parse().unwrap();
        let mut known = Known::default();
        let mut said = BTreeMap::new();
        note(&mut known, watcher::Event::Apply(guarded("Deploy")));
        let first = changes(&mut said, &known, now);
        assert!(
            first
                .starts_with("2026-01-01T00:00:00Z prod/shop Deploy spec=Progressing site=Unknown"),
            "{first}"
        );
        assert_eq!(changes(&mut said, &known, now), "");
        note(&mut known, watcher::Event::Apply(guarded("Live")));
        assert_eq!(changes(&mut said, &known, now).lines().count(), 1);
        note(&mut known, watcher::Event::Delete(guarded("Live")));
        assert!(known.is_empty(), "the watch of one that is named ends");
        assert_eq!(
            changes(&mut said, &known, now),
            "2026-01-01T00:00:00Z prod/shop deleted\n"
        );
    }

    #[test]
    fn what_stays_wrong_ends_a_watch_and_what_passes_does_not() {
        let api = |code: u16| {
            let status: kube::core::Status = serde_json::from_value(json!({"code": code})).unwrap();
            kube::Error::Api(Box::new(status))
        };
        for code in [400, 401, 403, 404, 422] {
            assert!(stays(&api(code)), "{code}");
        }
        for code in [408, 410, 429, 500, 503] {
            assert!(!stays(&api(code)), "{code}");
        }
        let unreadable = serde_json::from_str::<Activation>("{}").unwrap_err();
        assert!(stays(&kube::Error::SerdeError(unreadable)));
        assert!(!stays(&kube::Error::Service(Box::new(io::Error::other(
            "no"
        )))));
    }

    #[test]
    fn nothing_is_shown_before_everything_is_known() {
        let mut known = Known::default();
        assert!(!note(&mut known, watcher::Event::Init).0);
        assert!(!note(&mut known, watcher::Event::InitApply(guarded("Live"))).0);
        assert!(note(&mut known, watcher::Event::InitDone).0);
    }
}
