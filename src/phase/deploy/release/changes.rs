//! The difference between two releases: the image, the keys of the fly.toml, the secrets. It consists
//! of names and never of values. Pure.

use std::collections::{BTreeMap, BTreeSet};

use toml_edit::{Item, TableLike};

use super::record::Record;
use crate::api::status::one_line;

/// Longest description, in bytes.
const LONGEST: usize = 512;

/// Names of one kind that are listed.
const LISTED: usize = 12;

/// What a release changed, in one line; empty when nothing did.
pub fn between(before: &Record, after: &Record) -> String {
    let mut parts = Vec::new();
    if before.content.pinned != after.content.pinned {
        parts.push(format!(
            "image {} to {}",
            image(before),
            if repository(before) == repository(after) {
                tag(after)
            } else {
                image(after)
            }
        ));
    }
    let config = differing(&keys(before), &keys(after));
    if !config.is_empty() {
        parts.push(format!("fly.toml {}", list(&config)));
    } else if before.content.config_hash != after.content.config_hash {
        parts.push("configuration".to_owned());
    }
    let secrets = differing(&before.content.secrets, &after.content.secrets);
    if !secrets.is_empty() {
        parts.push(format!("secrets {}", list(&secrets)));
    }
    one_line(&parts.join("; "), LONGEST)
}

/// What a rollback does not restore: secrets whose values have changed. Empty when there are none.
pub fn secrets_not_restored(
    before: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
) -> String {
    let names = differing(before, now);
    if names.is_empty() {
        return String::new();
    }
    format!(
        "secrets that have changed since keep their present values: {}",
        list(&names)
    )
}

fn repository(record: &Record) -> &str {
    record.content.pinned.split('@').next().unwrap_or_default()
}

/// The image as the spec named it, without a digest.
fn image(record: &Record) -> String {
    record
        .content
        .image
        .split('@')
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// What follows the repository, or the first digits of the digest.
fn tag(record: &Record) -> String {
    let image = image(record);
    let last = image.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, tag)) => tag.to_owned(),
        None => record.content.digest.chars().take(19).collect(),
    }
}

/// Every key of the fly.toml, with its value as text.
fn keys(record: &Record) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    match &record.content.config {
        None => {
            keys.insert(
                "http_service.internal_port".to_owned(),
                record.content.port.to_string(),
            );
        }
        Some(text) => {
            if let Ok(document) = text.parse::<toml_edit::DocumentMut>() {
                collect(document.as_table(), "", &mut keys);
            }
        }
    }
    keys
}

fn collect(table: &dyn TableLike, path: &str, keys: &mut BTreeMap<String, String>) {
    for (name, item) in table.iter() {
        let path = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        match (item.as_table_like(), item) {
            (Some(table), _) => collect(table, &path, keys),
            (None, Item::ArrayOfTables(tables)) => {
                for (at, table) in tables.iter().enumerate() {
                    collect(table, &format!("{path}[{at}]"), keys);
                }
            }
            (None, item) => {
                keys.insert(path, item.to_string().trim().to_owned());
            }
        }
    }
}

/// Names whose values differ, or that only one side has.
fn differing(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .cloned()
        .collect()
}

fn list(names: &[String]) -> String {
    let more = names.len().saturating_sub(LISTED);
    let mut text = names[..names.len().min(LISTED)].join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{
        super::{record::Outcome, records::tests::record},
        *,
    };

    #[test]
    fn changes_are_named_and_their_values_are_never_shown() {
        let mut before = record(1, "a", Outcome::Succeeded);
        before.content.config =
            Some("[env]\nMODE = 'hidden-one'\nSAME = '1'\n[[vm]]\nsize = 'x'".into());
        before.content.secrets = [("KEY".to_owned(), "d1".to_owned())].into();
        let mut after = record(2, "b", Outcome::Succeeded);
        after.content.image = "registry.fly.io/a:2".to_owned();
        after.content.pinned = "registry.fly.io/a@sha256:2".to_owned();
        after.content.config = Some(
            "# said otherwise\n[env]\nMODE = 'hidden-two'\nSAME = '1'\n[[vm]]\nsize = 'y'".into(),
        );
        after.content.secrets = [
            ("KEY".to_owned(), "d2".to_owned()),
            ("NEW".to_owned(), "d3".to_owned()),
        ]
        .into();

        let text = between(&before, &after);

        assert_eq!(
            text,
            "image registry.fly.io/a:1 to 2; fly.toml env.MODE, vm[0].size; secrets KEY, NEW"
        );
        assert_eq!(between(&before, &before), "");
    }

    #[test]
    fn many_changes_stay_one_short_line() {
        let mut before = record(1, "a", Outcome::Succeeded);
        before.content.config = Some(String::new());
        let mut after = before.clone();
        let lines = (0..500).map(|n| format!("[env.K{n}]\nvalue = 'x'\n"));
        after.content.config = Some(lines.collect());
        let text = between(&before, &after);
        assert!(
            text.len() <= LONGEST && text.contains("and 488 more"),
            "{text}"
        );
    }
}
