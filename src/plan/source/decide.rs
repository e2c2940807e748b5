//! What comes of a look at the registry: the image that is the target now, and what the status
//! tells. Pure.
//!
//! Three rules, each for the sake of what is live:
//! - What cannot be read changes nothing.
//! - A choice goes on and never back by itself: a tag that was deleted is no reason to run older code
//!   on a database that newer code has migrated. The one exception is an older image that serves
//!   already, since going back to it changes nothing.
//! - A version stands for one image. A tag that is moved is deployed only if it is to be followed.

use super::choose::Rule;
use crate::store::image::{Choice, short};
use crate::{
    api::{Reason, source::PendingImage},
    fly,
};

/// What is asked for.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Tells one question from another; see [`crate::plan::asked`].
    pub mark: &'a str,
    /// The image as the spec names it.
    pub image: &'a str,
    /// The policy.
    pub rule: &'a Rule,
}

/// Why there is no new choice.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// One word.
    pub reason: Reason,
    /// What was found, a colon, and the next action.
    pub message: String,
    /// What the client says, when it may pass by itself.
    pub passing: Option<fly::Error>,
}

/// What the registry said.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// The tag that the policy chooses, and what it stands for.
    Image {
        /// The tag.
        tag: String,
        /// Its digest.
        digest: String,
        /// Whether Fly.io's machines can run it.
        runs_on_fly: Option<bool>,
    },
    /// Only tags before the one that is held are there.
    Older {
        /// The last of them.
        tag: String,
        /// Its digest.
        digest: String,
        /// Whether Fly.io's machines can run it.
        runs_on_fly: Option<bool>,
    },
    /// Nothing that could be chosen.
    Failed(Failure),
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Followed {
    /// What should run; `None` when nothing was ever chosen for this question.
    pub choice: Option<Choice>,
    /// How the look ended, in one word.
    pub reason: Reason,
    /// What was found, and what a person must do if anything.
    pub message: String,
    /// What the registry has and is not deployed.
    pub pending: Option<PendingImage>,
    /// Why there is no new choice.
    pub failure: Option<Failure>,
}

/// The choice that stands for this question: the one that was made for it, or, of one tag, the one
/// that was made for the same tag when the spec asked for something else beside it.
pub fn stands<'c>(asked: &Asked<'_>, stored: Option<&'c Choice>) -> Option<&'c Choice> {
    stored.filter(|choice| {
        let same_tag = || {
            matches!(asked.rule, Rule::Pinned(tag) if *tag == choice.tag)
                && choice.image == asked.image
        };
        choice.asked == asked.mark || same_tag()
    })
}

/// Decides. `serving` is the digest of the release that serves, when it is known.
pub fn decide(
    asked: &Asked<'_>,
    stored: Option<&Choice>,
    serving: Option<&str>,
    seen: Seen,
) -> Followed {
    let held = stored.filter(|choice| choice.asked == asked.mark);
    let keep = |reason, message: String, pending| Followed {
        choice: stands(asked, stored).cloned(),
        reason,
        message,
        pending,
        failure: None,
    };
    let (tag, digest, runs_on_fly, older) = match seen {
        Seen::Failed(failure) => {
            let mut decision = keep(failure.reason, failure.message.clone(), None);
            if let Some(choice) = &decision.choice {
                decision.message = format!("{}; {} stays", failure.message, choice.name());
            }
            decision.failure = Some(failure);
            return decision;
        }
        Seen::Image {
            tag,
            digest,
            runs_on_fly,
        } => (tag, digest, runs_on_fly, false),
        Seen::Older {
            tag,
            digest,
            runs_on_fly,
        } => (tag, digest, runs_on_fly, true),
    };
    let pending = || {
        Some(PendingImage {
            tag: tag.clone(),
            digest: digest.clone(),
        })
    };
    if let Some(held) = held {
        if older && serving != Some(digest.as_str()) {
            let message = format!(
                "{} is gone from the registry, and {tag} is the last one left; nothing goes back by itself: change the policy to deploy {tag}",
                held.name()
            );
            return keep(Reason::TagGone, message, pending());
        }
        if held.tag == tag && held.digest == digest {
            return keep(Reason::SourceFollowed, followed(asked.rule, held), None);
        }
        if held.tag == tag && !matches!(asked.rule, Rule::Tag(_)) {
            let next = match asked.rule {
                Rule::Pinned(_) => {
                    "change the spec to deploy it, or follow the tag with the policy `tag`"
                }
                _ => "push it under a tag of its own to deploy it",
            };
            let message = format!(
                "the tag {tag} stands for {} by now, which is not deployed; {} stays: {next}",
                short(&digest),
                held.name()
            );
            return keep(Reason::TagMoved, message, pending());
        }
    }
    let choice = Choice {
        asked: asked.mark.to_owned(),
        image: asked.image.to_owned(),
        why: why(asked, stored, &tag, &digest),
        tag,
        digest,
        runs_on_fly,
    };
    Followed {
        reason: Reason::SourceFollowed,
        message: followed(asked.rule, &choice),
        pending: None,
        failure: None,
        choice: Some(choice),
    }
}

fn followed(rule: &Rule, choice: &Choice) -> String {
    let how = match rule {
        Rule::Pinned(_) => "is pinned",
        Rule::Tag(_) => "is what the tag stands for",
        Rule::Semver(_) | Rule::Newest(_) => "is what the policy chooses",
    };
    format!("{} {how}", choice.name())
}

/// Why the image is another one, for the record of the release.
fn why(asked: &Asked<'_>, before: Option<&Choice>, tag: &str, digest: &str) -> String {
    let word = asked.rule.word();
    let before = before.filter(|before| before.image == asked.image && !before.tag.is_empty());
    match before {
        None => format!("source: {word} {tag}"),
        Some(before) if before.tag == tag && before.digest == digest => {
            format!("source: {word} {tag}")
        }
        Some(before) if before.tag == tag => format!(
            "source: {word} {tag} {} → {}",
            short(&before.digest),
            short(digest)
        ),
        Some(before) => {
            let older = asked.rule.is_older(tag, &before.tag);
            let note = if older { " (older)" } else { "" };
            format!("source: {word} {} → {tag}{note}", before.tag)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const IMAGE: &str = "registry.fly.io/shop";

    fn rule(policy: &str) -> Rule {
        Rule::parse(&serde_saphyr::from_str(policy).unwrap()).unwrap()
    }

    fn choice(tag: &str, digest: &str) -> Choice {
        Choice {
            asked: "now".to_owned(),
            image: IMAGE.to_owned(),
            tag: tag.to_owned(),
            digest: digest.to_owned(),
            runs_on_fly: Some(true),
            why: String::new(),
        }
    }

    fn image(tag: &str, digest: &str) -> Seen {
        Seen::Image {
            tag: tag.to_owned(),
            digest: digest.to_owned(),
            runs_on_fly: Some(true),
        }
    }

    fn decided(policy: &str, stored: Option<&Choice>, seen: Seen) -> Followed {
        let rule = rule(policy);
        let asked = Asked {
            mark: "now",
            image: IMAGE,
            rule: &rule,
        };
        decide(&asked, stored, None, seen)
    }

    fn digest(decision: &Followed) -> &str {
        decision.choice.as_ref().map_or("", |choice| &choice.digest)
    }

    const SEMVER: &str = "semver: {range: 1.x}";

    #[test]
    fn a_new_choice_says_what_it_replaces() {
        let first = decided(SEMVER, None, image("1.4.1", "sha256:a"));
        assert_eq!(first.choice.as_ref().unwrap().why, "source: semver 1.4.1");
        let second = decided(SEMVER, first.choice.as_ref(), image("1.5.0", "sha256:b"));
        assert_eq!(
            second.choice.as_ref().unwrap().why,
            "source: semver 1.4.1 → 1.5.0"
        );
        assert_eq!(second.reason, Reason::SourceFollowed);
        let again = decided(SEMVER, second.choice.as_ref(), image("1.5.0", "sha256:b"));
        assert_eq!(
            again.choice, second.choice,
            "the same again is no new choice"
        );
    }

    #[test]
    fn another_policy_may_go_back_and_says_so() {
        let mut before = choice("1.5.0", "sha256:b");
        before.asked = "before".to_owned();
        let decision = decided(SEMVER, Some(&before), image("1.4.1", "sha256:a"));
        assert_eq!(
            decision.choice.unwrap().why,
            "source: semver 1.5.0 → 1.4.1 (older)"
        );
    }

    #[test]
    fn a_tag_that_is_gone_is_told_and_nothing_goes_back_but_to_what_serves() {
        let held = choice("1.5.0", "sha256:b");
        let older = || Seen::Older {
            tag: "1.4.1".to_owned(),
            digest: "sha256:a".to_owned(),
            runs_on_fly: Some(true),
        };
        let decision = decided(SEMVER, Some(&held), older());
        assert_eq!(decision.reason, Reason::TagGone);
        assert_eq!(digest(&decision), "sha256:b");
        assert_eq!(decision.pending.unwrap().tag, "1.4.1");
        assert!(decision.message.contains("change the policy"));

        let rule = rule(SEMVER);
        let asked = Asked {
            mark: "now",
            image: IMAGE,
            rule: &rule,
        };
        let back = decide(&asked, Some(&held), Some("sha256:a"), older());
        assert_eq!(digest(&back), "sha256:a");
        assert_eq!(
            back.choice.unwrap().why,
            "source: semver 1.5.0 → 1.4.1 (older)"
        );
    }

    #[test]
    fn a_tag_that_moves_is_deployed_only_if_it_is_followed() {
        for (policy, tag, deployed) in [
            ("pinned: {tag: '1'}", "1", false),
            ("tag: {name: stable}", "stable", true),
            (SEMVER, "1.5.0", false),
            ("newest: {pattern: '^b'}", "b1", false),
        ] {
            let held = choice(tag, "sha256:a");
            let decision = decided(policy, Some(&held), image(tag, "sha256:b"));
            if deployed {
                assert_eq!(digest(&decision), "sha256:b", "{policy}");
                let why = decision.choice.unwrap().why;
                assert_eq!(why, "source: tag stable a → b");
            } else {
                assert_eq!(digest(&decision), "sha256:a", "{policy}");
                assert_eq!(decision.reason, Reason::TagMoved);
                assert_eq!(decision.pending.unwrap().digest, "sha256:b");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let failure = Failure {
            reason: Reason::SourceUnreadable,
            message: "the registry does not answer: nothing, it is tried again".to_owned(),
            passing: None,
        };
        let held = choice("1.5.0", "sha256:b");
        let decision = decided(SEMVER, Some(&held), Seen::Failed(failure.clone()));
        assert_eq!(digest(&decision), "sha256:b");
        assert_eq!(decision.reason, Reason::SourceUnreadable);
        assert!(
            decision.message.contains("1.5.0 (b) stays"),
            "{}",
            decision.message
        );
        let none = decided(SEMVER, None, Seen::Failed(failure.clone()));
        assert_eq!(none.choice, None);
        assert!(none.failure.is_some());

        // What was chosen for another policy is no answer to this one.
        let mut other = held.clone();
        other.asked = "before".to_owned();
        let decision = decided(SEMVER, Some(&other), Seen::Failed(failure.clone()));
        assert_eq!(decision.choice, None);
        // But a pinned tag is the same tag whatever else the spec says.
        let decision = decided("pinned: {tag: 1.5.0}", Some(&other), Seen::Failed(failure));
        assert_eq!(digest(&decision), "sha256:b");
    }
}
