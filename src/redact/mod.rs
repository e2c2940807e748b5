//! Keeps secret values out of everything that is written about an object: log lines, events, status.
//!
//! Types protect secrets in our own code (`SecretString` has no `Display`, and a `Debug` without
//! the value). This is the second line of defence: text from elsewhere, such as the last output of
//! a machine or the message of an error, may quote a value in any encoding. A [`Redactor`] knows the
//! values of one object and replaces each of them, in every encoding of `forms.rs`, also when only
//! its beginning occurs. Uses nothing of the crate. Start reading at [`Redactor::redact`].
//!
//! - **Whose value it is.** Each object has a redactor of its own. [`scope`] makes it the one of a
//!   task; [`guard`] adds to it, and [`redact`] and the log use it. So no value of one tenant
//!   changes a text about another. What has no owner goes to the redactor of the process.
//! - **No value is kept.** A redactor holds keyed hashes of the beginnings and of the whole of each
//!   encoding. It may outlive the pass that read the values.
//! - **Linear time.** The hash of any part of a text follows from two of its prefix hashes, so that
//!   a comparison costs the same whatever the length of the value.
//! - **Common values stay.** `production` in a Secret is no secret ([`hideable`]).

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use self::forms::{lines, password_in_url};
use self::known::Known;
pub use self::strength::{SHORTEST, Shown, hideable};

mod forms;
mod hash;
mod known;
mod strength;

/// The replacement for a secret.
pub const REDACTED: &str = "[redacted]";

/// What is known of the secret values of one object. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub struct Redactor {
    known: Arc<RwLock<Known>>,
}

/// A secret value that is redacted from the texts of its object.
#[derive(Clone)]
pub struct Guarded(SecretString);

impl Guarded {
    /// The value. Do not log it, and do not put it into an error.
    pub fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }

    /// The value, to pass on.
    pub fn secret(&self) -> &SecretString {
        &self.0
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

tokio::task_local! {
    static SCOPE: Redactor;
}

/// The redactor of this process, for what has no owner.
pub fn global() -> &'static Redactor {
    static GLOBAL: LazyLock<Redactor> = LazyLock::new(Redactor::default);
    &GLOBAL
}

/// Runs `work` about the object whose redactor this is.
pub async fn scope<W: Future>(redactor: Redactor, work: W) -> W::Output {
    SCOPE.scope(redactor, work).await
}

/// As [`scope`], for what does not wait.
pub fn in_scope<T>(redactor: Redactor, work: impl FnOnce() -> T) -> T {
    SCOPE.sync_scope(redactor, work)
}

/// The redactor of the object that this task works for; that of the process outside of [`scope`].
pub fn current() -> Redactor {
    SCOPE
        .try_with(Clone::clone)
        .unwrap_or_else(|_| global().clone())
}

/// `work` for a task of its own, about the same object as this task.
pub fn carry<W: Future>(work: W) -> impl Future<Output = W::Output> {
    scope(current(), work)
}

/// Has the value redacted from the texts of this task's object from now on.
pub fn guard(value: SecretString) -> Guarded {
    current().guard(value)
}

/// The text without the values of this task's object.
pub fn redact(text: &str) -> Cow<'_, str> {
    let own = SCOPE.try_with(|redactor| redactor.find(text));
    match own {
        Ok(found) if !found.is_empty() => {
            let text = replaced(text, found);
            let rest = global().find(&text);
            Cow::Owned(replaced(&text, rest))
        }
        _ => global().redact(text),
    }
}

/// As [`redact`], in place.
pub fn in_place(text: &mut String) {
    let redacted = match redact(text) {
        Cow::Borrowed(_) => return,
        Cow::Owned(redacted) => redacted,
    };
    *text = redacted;
}

impl Redactor {
    /// Has a value redacted. One that is not [`hideable`] is left alone. The password in a URL such
    /// as `postgres://user:password@host` is redacted as well, and so is each line of a multi-line
    /// value such as a private key.
    pub fn guard(&self, value: SecretString) -> Guarded {
        self.learn(value.expose_secret().as_bytes());
        Guarded(value)
    }

    /// As [`Redactor::guard`], for a value that may not be text. Takes time in proportion to the
    /// value: a large one should be learned where it holds up nothing.
    pub fn learn(&self, value: &[u8]) {
        // Secrets made with `echo` end with a newline that is not part of the value.
        let trimmed = value.trim_ascii();
        if trimmed.len() < SHORTEST || self.read().knows(trimmed) {
            return;
        }
        let parts = lines(trimmed)
            .into_iter()
            .chain(password_in_url(trimmed))
            .map(Zeroizing::new);
        let parts: Vec<Zeroizing<Vec<u8>>> = parts.collect();
        let key = self.read().key();
        let learned: Vec<_> = std::iter::once(trimmed)
            .chain(parts.iter().map(|part| part.as_slice()))
            .filter_map(|part| known::Learned::of(part, key))
            .collect();
        let mut known = self.write();
        for learned in learned {
            known.add(learned);
        }
        known.note(trimmed);
    }

    /// The text with every known value replaced by [`REDACTED`].
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let found = self.find(text);
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        Cow::Owned(replaced(text, found))
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    fn find(&self, text: &str) -> Vec<(usize, usize)> {
        self.read().find(text.as_bytes())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

/// The text with these ranges replaced, which are in order and do not overlap.
fn replaced(text: &str, found: Vec<(usize, usize)>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (start, end) in found {
        // A truncated value may end within a character, which is then removed whole.
        let start = (0..=start).rev().find(|i| text.is_char_boundary(*i));
        let start = start.unwrap_or(0).max(done);
        let end = (end..=text.len()).find(|i| text.is_char_boundary(*i));
        out.push_str(&text[done..start]);
        out.push_str(REDACTED);
        done = end.unwrap_or(text.len());
    }
    out.push_str(&text[done..]);
    out
}

#[cfg(test)]
mod tests;
