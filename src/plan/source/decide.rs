//! Decides which image is the target, from what is stored and what the registry has. Pure.
//!
//! Three rules protect what is live:
//! - A registry that cannot be read changes nothing.
//! - A choice never goes back by itself: that a tag was deleted is no reason to run older code on a
//!   database that newer code has migrated. The one exception is an older image that serves already,
//!   since going back to it changes nothing.
//! - A version is one image. A tag that moved is deployed only by the policy that follows it.

use super::choose::Rule;
use crate::{
    api::{Reason, source::PendingImage},
    fly,
    store::image::{Choice, short},
};

/// The question which image to run.
#[derive(Debug)]
pub struct Question<'a> {
    /// Identifies the question; see [`crate::plan::asked`].
    pub id: &'a str,
    /// The image as the spec names it.
    pub image: &'a str,
    /// The policy.
    pub rule: &'a Rule,
}

/// Why there is no new choice.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The reason for the status.
    pub reason: Reason,
    /// What was found.
    pub message: String,
    /// The next action of a person; empty: none is needed.
    pub action: String,
    /// The error of the client, when it may pass by itself.
    pub transient: Option<fly::Error>,
}

impl Failure {
    /// What was found and the next action, as one sentence.
    pub fn sentence(&self) -> String {
        match self.action.as_str() {
            "" => self.message.clone(),
            action => format!("{}: {action}", self.message),
        }
    }
}

/// An image in the registry, by its tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaggedImage {
    /// The tag.
    pub tag: String,
    /// The digest that the tag points to.
    pub digest: String,
    /// Whether Fly.io's machines can run it; `None` when the registry does not say.
    pub runs_on_fly: Option<bool>,
}

/// What an observation of the registry found.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// The image that the policy chooses.
    Image(TaggedImage),
    /// The registry has only tags that are older than the held one; this is the newest of them.
    Older(TaggedImage),
    /// Nothing that could be chosen.
    Nothing(Failure),
}

/// The result: the image to run, and what the status says about the source.
#[derive(Clone, Debug, PartialEq)]
pub struct Followed {
    /// The image to run; `None` when none was ever chosen for this question.
    pub choice: Option<Choice>,
    /// The reason for the status.
    pub reason: Reason,
    /// What was found, and what a person must do if anything.
    pub message: String,
    /// An image that the registry has and that is not deployed.
    pub pending: Option<PendingImage>,
    /// Why there is no new choice.
    pub failure: Option<Failure>,
}

/// The stored choice that answers this question: one that was made for it, or, for a pinned tag, one
/// that was made for the same tag when the rest of the spec was different.
pub fn answer<'c>(question: &Question<'_>, stored: Option<&'c Choice>) -> Option<&'c Choice> {
    stored.filter(|choice| {
        let same_tag = || {
            matches!(question.rule, Rule::Pinned(tag) if *tag == choice.tag)
                && choice.image == question.image
        };
        choice.asked == question.id || same_tag()
    })
}

/// Decides. `serving` is the digest of the image that serves, when it is known.
pub fn decide(
    question: &Question<'_>,
    stored: Option<&Choice>,
    serving: Option<&str>,
    found: Found,
) -> Followed {
    let (image, older) = match found {
        Found::Image(image) => (image, false),
        Found::Older(image) => (image, true),
        Found::Nothing(failure) => return unread(question, stored, failure),
    };
    let held = stored.filter(|choice| choice.asked == question.id);
    if let Some(held) = held {
        let goes_back = older && serving != Some(image.digest.as_str());
        if let Some(followed) = unchanged(question, held, &image, goes_back) {
            return followed;
        }
    }
    let choice = Choice {
        asked: question.id.to_owned(),
        image: question.image.to_owned(),
        why: why(question, stored, &image),
        tag: image.tag,
        digest: image.digest,
        runs_on_fly: image.runs_on_fly,
    };
    Followed {
        reason: Reason::SourceFollowed,
        message: followed(question.rule, &choice),
        pending: None,
        failure: None,
        choice: Some(choice),
    }
}

/// Nothing could be chosen: the stored choice stays.
fn unread(question: &Question<'_>, stored: Option<&Choice>, failure: Failure) -> Followed {
    let choice = answer(question, stored).cloned();
    let message = match &choice {
        Some(choice) => format!("{}; {} stays", failure.sentence(), choice.name()),
        None => failure.sentence(),
    };
    Followed {
        choice,
        reason: failure.reason,
        message,
        pending: None,
        failure: Some(failure),
    }
}

/// The result when the held image stays; `None` when the found one replaces it.
fn unchanged(
    question: &Question<'_>,
    held: &Choice,
    image: &TaggedImage,
    goes_back: bool,
) -> Option<Followed> {
    let keep = |reason, message, pending| {
        Some(Followed {
            choice: Some(held.clone()),
            reason,
            message,
            pending,
            failure: None,
        })
    };
    let tag = &image.tag;
    let pending = || {
        Some(PendingImage {
            tag: tag.clone(),
            digest: image.digest.clone(),
        })
    };
    if goes_back {
        let message = format!(
            "{} is gone from the registry, and {tag} is the newest tag that is left; Golive never goes back to an older image by itself: change the policy to deploy {tag}",
            held.name()
        );
        return keep(Reason::TagGone, message, pending());
    }
    if held.tag != *tag {
        return None;
    }
    if held.digest == image.digest {
        let message = followed(question.rule, held);
        return keep(Reason::SourceFollowed, message, None);
    }
    let next = match question.rule {
        Rule::Tag(_) => return None,
        Rule::Pinned(_) => "change the spec to deploy it, or follow the tag with the policy `tag`",
        Rule::Semver(_) | Rule::Newest(_) => "push it under a tag of its own to deploy it",
    };
    let message = format!(
        "the tag {tag} now points to {}, which is not deployed; {} stays: {next}",
        short(&image.digest),
        held.name()
    );
    keep(Reason::TagMoved, message, pending())
}

fn followed(rule: &Rule, choice: &Choice) -> String {
    let how = match rule {
        Rule::Pinned(_) => "is pinned",
        Rule::Tag(_) => "is the image that the tag points to",
        Rule::Semver(_) | Rule::Newest(_) => "is the choice of the policy",
    };
    format!("{} {how}", choice.name())
}

/// Why the image was chosen, for the record of the release.
fn why(question: &Question<'_>, before: Option<&Choice>, image: &TaggedImage) -> String {
    let policy = question.rule.name();
    let (tag, digest) = (&image.tag, &image.digest);
    let before = before.filter(|before| before.image == question.image && !before.tag.is_empty());
    match before {
        None => format!("source: {policy} {tag}"),
        Some(before) if before.tag == *tag && before.digest == *digest => {
            format!("source: {policy} {tag}")
        }
        Some(before) if before.tag == *tag => format!(
            "source: {policy} {tag} {} → {}",
            short(&before.digest),
            short(digest)
        ),
        Some(before) => {
            let older = question.rule.is_older(tag, &before.tag);
            let note = if older { " (older)" } else { "" };
            format!("source: {policy} {} → {tag}{note}", before.tag)
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

    fn tagged(tag: &str, digest: &str) -> TaggedImage {
        TaggedImage {
            tag: tag.to_owned(),
            digest: digest.to_owned(),
            runs_on_fly: Some(true),
        }
    }

    fn image(tag: &str, digest: &str) -> Found {
        Found::Image(tagged(tag, digest))
    }

    fn decided(policy: &str, stored: Option<&Choice>, found: Found) -> Followed {
        let rule = rule(policy);
        let question = Question {
            id: "now",
            image: IMAGE,
            rule: &rule,
        };
        decide(&question, stored, None, found)
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
        let older = || Found::Older(tagged("1.4.1", "sha256:a"));
        let decision = decided(SEMVER, Some(&held), older());
        assert_eq!(decision.reason, Reason::TagGone);
        assert_eq!(digest(&decision), "sha256:b");
        assert_eq!(decision.pending.unwrap().tag, "1.4.1");
        assert!(decision.message.contains("change the policy"));

        let rule = rule(SEMVER);
        let question = Question {
            id: "now",
            image: IMAGE,
            rule: &rule,
        };
        let back = decide(&question, Some(&held), Some("sha256:a"), older());
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
            message: "the registry does not answer".to_owned(),
            action: String::new(),
            transient: None,
        };
        let held = choice("1.5.0", "sha256:b");
        let decision = decided(SEMVER, Some(&held), Found::Nothing(failure.clone()));
        assert_eq!(digest(&decision), "sha256:b");
        assert_eq!(decision.reason, Reason::SourceUnreadable);
        assert!(
            decision.message.contains("1.5.0 (b) stays"),
            "{}",
            decision.message
        );
        let none = decided(SEMVER, None, Found::Nothing(failure.clone()));
        assert_eq!(none.choice, None);
        assert!(none.failure.is_some());

        // What was chosen for another policy is no answer to this one.
        let mut other = held.clone();
        other.asked = "before".to_owned();
        let decision = decided(SEMVER, Some(&other), Found::Nothing(failure.clone()));
        assert_eq!(decision.choice, None);
        // But a pinned tag is the same tag whatever else the spec says.
        let decision = decided(
            "pinned: {tag: 1.5.0}",
            Some(&other),
            Found::Nothing(failure),
        );
        assert_eq!(digest(&decision), "sha256:b");
    }

    #[test]
    fn an_unchanged_choice_says_how_it_was_found() {
        for (policy, tag, how) in [
            ("pinned: {tag: '1'}", "1", "is pinned"),
            (
                "tag: {name: stable}",
                "stable",
                "is the image that the tag points to",
            ),
            (SEMVER, "1.5.0", "is the choice of the policy"),
            (
                "newest: {pattern: '^b'}",
                "b1",
                "is the choice of the policy",
            ),
        ] {
            let held = choice(tag, "sha256:a");
            for stored in [None, Some(&held)] {
                let decision = decided(policy, stored, image(tag, "sha256:a"));
                assert_eq!(
                    decision.message,
                    format!("{} {how}", held.name()),
                    "{policy}"
                );
                assert_eq!(decision.reason, Reason::SourceFollowed);
                assert_eq!(decision.pending, None);
            }
        }
    }

    #[test]
    fn a_choice_is_compared_with_the_tag_that_was_chosen_of_the_same_image() {
        let why = |before: &Choice, tag: &str, digest: &str| {
            let decision = decided(SEMVER, Some(before), image(tag, digest));
            decision.choice.unwrap().why
        };
        let before = |asked: &str, of: &str, tag: &str| Choice {
            asked: asked.to_owned(),
            image: of.to_owned(),
            ..choice(tag, "sha256:a")
        };
        let asked_before = |tag: &str| before("before", IMAGE, tag);
        let first = "source: semver 1.5.0";
        assert_eq!(why(&asked_before("1.5.0"), "1.5.0", "sha256:a"), first);
        assert_eq!(
            why(&asked_before("1.5.0"), "1.5.0", "sha256:b"),
            "source: semver 1.5.0 a → b"
        );
        // Two tags of one image are still two.
        assert_eq!(
            why(&asked_before("1.4.1"), "1.5.0", "sha256:a"),
            "source: semver 1.4.1 → 1.5.0"
        );
        let elsewhere = before("before", "registry.fly.io/other", "1.4.1");
        assert_eq!(why(&elsewhere, "1.5.0", "sha256:a"), first);
        // An image that was named by its digest had no tag.
        assert_eq!(why(&asked_before(""), "1.5.0", "sha256:a"), first);
    }
}
