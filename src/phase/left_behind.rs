//! What is left behind: something that Golive has made, that the spec no longer asks for, and that
//! costs money or holds data. It is never deleted by itself, and it stays in the status with the way
//! to delete it.

use std::time::Duration;

use crate::{
    api::{Reason, status::ExternalObject},
    pipeline::{Cx, Note, Verdict, Why},
};

/// What a step has found left behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeftBehind {
    objects: Vec<ExternalObject>,
    /// Pause until the next look: somebody may delete it.
    again: Duration,
}

impl LeftBehind {
    /// These objects, each with `retained`.
    pub fn new(cx: &Cx, objects: Vec<ExternalObject>) -> Self {
        Self {
            objects,
            again: cx.installation.timing.recheck,
        }
    }

    /// The same verdict; a step that has nothing else to do looks again for what is left behind.
    pub fn hold<C>(&self, verdict: Verdict<C>) -> Verdict<C> {
        match verdict {
            Verdict::Done | Verdict::Skipped(_) if !self.objects.is_empty() => {
                Verdict::Holds(self.again)
            }
            verdict => verdict,
        }
    }

    /// The notes for the status.
    pub fn notes(&self) -> Vec<Note> {
        let objects = self.objects.iter().cloned().map(Note::External);
        objects.chain(remark(&self.objects)).collect()
    }
}

/// What a person is told of these objects; `None` when there are none.
pub fn remark(objects: &[ExternalObject]) -> Option<Note> {
    let text = |object: &ExternalObject| {
        format!(
            "{} {} is left behind: {}",
            object.kind,
            object.name,
            object.retained.as_deref().unwrap_or_default()
        )
    };
    let texts: Vec<String> = objects.iter().map(text).collect();
    (!texts.is_empty()).then(|| Note::Remark(Why::new(Reason::LeftBehind, texts.join("; "))))
}

/// Why an object is listed although nothing uses it; `delete` is the command that deletes it.
pub fn why(instead: Option<&str>, delete: &str) -> String {
    let why = instead.unwrap_or("the spec no longer asks for it");
    format!("{why}, and it costs money; `{delete}` deletes it with its data")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_is_done_looks_again_for_what_is_left_behind() {
        let none = LeftBehind::default();
        assert_eq!(none.hold::<()>(Verdict::Done), Verdict::Done);
        assert!(none.notes().is_empty());
        let left = LeftBehind {
            objects: vec![ExternalObject {
                kind: "ManagedPostgres".to_owned(),
                id: "c1".to_owned(),
                name: "shop-db".to_owned(),
                retained: Some(why(None, "fly mpg destroy c1")),
                ..ExternalObject::default()
            }],
            again: Duration::from_secs(30),
        };
        let skipped = || Verdict::Skipped(Why::new(Reason::NotRequested, "no `postgres`"));
        assert_eq!(left.hold::<()>(skipped()), Verdict::Holds(left.again));
        assert_eq!(left.hold(Verdict::Change(1)), Verdict::Change(1));
        let notes = left.notes();
        assert_eq!(notes.len(), 2);
        assert_eq!(
            notes[1].remark().map(|why| why.message.as_str()),
            Some(
                "ManagedPostgres shop-db is left behind: the spec no longer asks for it, and it costs money; `fly mpg destroy c1` deletes it with its data"
            )
        );
    }
}
