//! What follows from a breach: nothing, a rollback, or the words for what a rollback would have done. Pure.

use crate::{
    api::{observe::OnBreach, status::WatchDecision},
    slo::{Judgement, Severity, Standing},
};

/// An objective, as far as it decides about a rollback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect<'a> {
    /// Its name.
    pub name: &'a str,
    /// How urgent a breach is.
    pub severity: Severity,
    /// Whether its budget burns so fast that somebody is paged, or it is breached beyond doubt.
    pub is_certain: bool,
    /// Whether the release that serves, by its own figures alone, is in breach.
    pub is_of_release: bool,
}

impl<'a> Suspect<'a> {
    /// An objective by its figures over the watch, and by those of the release that serves.
    pub fn of(
        name: &'a str,
        severity: Severity,
        judgement: &Judgement,
        of_release: Standing,
    ) -> Self {
        Self {
            name,
            severity,
            is_certain: judgement.may_roll_back(),
            is_of_release: of_release == Standing::Breached,
        }
    }

    /// Whether a rollback may follow from it.
    fn convicts(&self) -> bool {
        self.severity == Severity::Page && self.is_certain && self.is_of_release
    }
}

/// The release that serves, and what could be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Releases {
    /// The release that serves.
    pub serving: u64,
    /// Whether it was deployed while the watch ran.
    pub is_of_watch: bool,
    /// The newest release before it that was good.
    pub before: Option<u64>,
    /// A rollback of it was requested already, by this watch.
    pub was_asked: bool,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follows {
    /// Nothing is in breach.
    Nothing,
    /// The release that serves is rolled back.
    RollBack {
        /// The release to restore.
        to: u64,
        /// The objective.
        objective: String,
    },
    /// It would be rolled back if `onBreach` were RollBack.
    WouldRollBack {
        /// The release that would be restored.
        to: u64,
        /// The objective.
        objective: String,
    },
    /// There is nothing to roll back to.
    NothingToRestore {
        /// The objective.
        objective: String,
        /// Why.
        why: Why,
    },
}

/// Why there is nothing to roll back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The release that serves was deployed before the watch began.
    OlderThanWatch,
    /// No release before it was good.
    NoGoodRelease,
}

/// What follows from these objectives. A rollback is asked for once: what became of the request, Deploy says.
pub fn follows(suspects: &[Suspect<'_>], on_breach: OnBreach, releases: Releases) -> Follows {
    let Some(objective) = suspects.iter().find(|suspect| suspect.convicts()) else {
        return Follows::Nothing;
    };
    let objective = objective.name.to_owned();
    let nothing = |objective, why| Follows::NothingToRestore { objective, why };
    match (releases.before, on_breach) {
        _ if !releases.is_of_watch => nothing(objective, Why::OlderThanWatch),
        (None, _) => nothing(objective, Why::NoGoodRelease),
        (Some(_), OnBreach::RollBack) if releases.was_asked => Follows::Nothing,
        (Some(to), OnBreach::RollBack) => Follows::RollBack { to, objective },
        (Some(to), OnBreach::Notify) => Follows::WouldRollBack { to, objective },
    }
}

impl Follows {
    /// What it is for programs; none if nothing follows.
    pub fn decision(&self) -> Option<WatchDecision> {
        match self {
            Self::Nothing => None,
            Self::RollBack { .. } => Some(WatchDecision::RollBack),
            Self::WouldRollBack { .. } => Some(WatchDecision::WouldRollBack),
            Self::NothingToRestore { .. } => Some(WatchDecision::NothingToRestore),
        }
    }

    /// In words, with the command of the runbook. Empty if nothing follows.
    pub fn words(&self, serving: u64, (namespace, name): (&str, &str)) -> String {
        let command =
            |to: u64| format!("`kubectl golive rollback {name} -n {namespace} --to {to}`");
        match self {
            Self::Nothing => String::new(),
            Self::RollBack { to, objective } => format!(
                "release {serving} breaches the objective {objective}, so Golive rolls it back to release {to}; the same by hand: {}",
                command(*to)
            ),
            Self::WouldRollBack { to, objective } => format!(
                "release {serving} breaches the objective {objective}; `onBreach` is Notify, otherwise Golive would restore release {to}; to do it: {}",
                command(*to)
            ),
            Self::NothingToRestore {
                objective,
                why: Why::OlderThanWatch,
            } => format!(
                "the objective {objective} is in breach, and nothing is rolled back: release {serving} was deployed before the watch began"
            ),
            Self::NothingToRestore {
                objective,
                why: Why::NoGoodRelease,
            } => format!(
                "the objective {objective} is in breach, and nothing is rolled back: no release before {serving} was good"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: Suspect<'static> = Suspect {
        name: "errors",
        severity: Severity::Page,
        is_certain: true,
        is_of_release: true,
    };

    const NEW: Releases = Releases {
        serving: 2,
        is_of_watch: true,
        before: Some(1),
        was_asked: false,
    };

    fn after(suspect: Suspect<'_>, releases: Releases) -> Follows {
        follows(&[suspect], OnBreach::RollBack, releases)
    }

    #[test]
    fn a_page_or_an_exact_breach_of_a_release_of_the_watch_is_rolled_back_once() {
        let objective = "errors".to_owned();
        assert_eq!(after(BAD, NEW), Follows::RollBack { to: 1, objective });
        let asked = Releases {
            was_asked: true,
            ..NEW
        };
        assert_eq!(after(BAD, asked), Follows::Nothing);
    }

    #[test]
    fn nothing_uncertain_no_ticket_and_no_fault_of_an_earlier_release_is_rolled_back() {
        for suspect in [
            Suspect {
                is_certain: false,
                ..BAD
            },
            Suspect {
                severity: Severity::Ticket,
                ..BAD
            },
            Suspect {
                is_of_release: false,
                ..BAD
            },
        ] {
            assert_eq!(after(suspect, NEW), Follows::Nothing, "{suspect:?}");
        }
    }

    #[test]
    fn without_a_release_of_the_watch_and_a_good_one_before_it_nothing_is_restored() {
        let old = Releases {
            is_of_watch: false,
            ..NEW
        };
        let first = Releases {
            before: None,
            ..NEW
        };
        for (releases, expected) in [(old, Why::OlderThanWatch), (first, Why::NoGoodRelease)] {
            let Follows::NothingToRestore { why, .. } = after(BAD, releases) else {
                unreachable!("{releases:?}")
            };
            assert_eq!(why, expected);
        }
    }

    #[test]
    fn notify_says_what_would_have_been_done_with_the_command() {
        let told = follows(&[BAD], OnBreach::Notify, NEW);
        assert!(matches!(told, Follows::WouldRollBack { to: 1, .. }));
        let words = told.words(2, ("cabanas", "mvp"));
        assert!(
            words.contains("kubectl golive rollback mvp -n cabanas --to 1"),
            "{words}"
        );
    }
}
