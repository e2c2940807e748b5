//! What waits to be published, by namespace: one at a time of each, in turns. Pure.

use std::collections::{BTreeMap, VecDeque};

/// Most that waits of one namespace. It fills only after a long outage of the API server, or when a
/// namespace makes more than can be published; the rest of that namespace is then dropped.
const WAITING: usize = 1024;

/// What waits, by namespace.
#[derive(Debug)]
pub(super) struct Mail<T> {
    waiting: BTreeMap<String, VecDeque<T>>,
    /// Namespaces of which something waits and nothing is under way, the next one first.
    turns: VecDeque<String>,
}

impl<T> Default for Mail<T> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            turns: VecDeque::new(),
        }
    }
}

impl<T> Mail<T> {
    /// Adds one, after those of the same namespace. False when that has too many.
    pub(super) fn add(&mut self, namespace: &str, item: T) -> bool {
        match self.waiting.get_mut(namespace) {
            Some(waiting) if waiting.len() >= WAITING => false,
            Some(waiting) => {
                waiting.push_back(item);
                true
            }
            None => {
                self.waiting
                    .insert(namespace.to_owned(), VecDeque::from([item]));
                self.turns.push_back(namespace.to_owned());
                true
            }
        }
    }

    /// The next one, and its namespace, of which nothing else is given out until [`Mail::done`].
    pub(super) fn next(&mut self) -> Option<(String, T)> {
        let namespace = self.turns.pop_front()?;
        let item = self.waiting.get_mut(&namespace)?.pop_front()?;
        Some((namespace, item))
    }

    /// What was given out of this namespace is published.
    pub(super) fn done(&mut self, namespace: String) {
        if self.waiting.get(&namespace).is_some_and(VecDeque::is_empty) {
            self.waiting.remove(&namespace);
        } else {
            self.turns.push_back(namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_take_turns_and_each_keeps_its_order() {
        let mut mail = Mail::default();
        for item in 0..WAITING {
            assert!(mail.add("loud", item));
        }
        assert!(!mail.add("loud", 0), "only its own are dropped");
        assert!(mail.add("shop", 7));

        let first = mail.next();
        assert_eq!(first, Some(("loud".to_owned(), 0)));
        assert_eq!(mail.next(), Some(("shop".to_owned(), 7)));
        assert_eq!(mail.next(), None, "one at a time of each");
        mail.done("loud".to_owned());
        assert!(mail.add("shop", 8));
        mail.done("shop".to_owned());
        assert_eq!(mail.next(), Some(("loud".to_owned(), 1)));
        assert_eq!(mail.next(), Some(("shop".to_owned(), 8)));
        mail.done("shop".to_owned());
        assert!(mail.add("shop", 9), "it comes back");
        assert_eq!(mail.next(), Some(("shop".to_owned(), 9)));
    }
}
