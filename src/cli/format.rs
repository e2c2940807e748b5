//! The flag `-o`, and the versioned documents that it prints.

use serde::Serialize;

/// The version of the documents of `-o json` and `-o yaml`. A field that is published keeps its name and
/// its meaning; another version is another `apiVersion`.
pub(super) const DOCUMENTS: &str = "cli.golive.dev/v1";

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people, with all details.
    Wide,
    /// A document for programs.
    Json,
    /// The same document as YAML.
    Yaml,
}

/// The flag `-o`.
#[derive(Debug, clap::Args)]
pub(super) struct Formatted {
    /// How to print. Default: text for people.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

/// Why a document cannot be printed.
#[derive(Debug, thiserror::Error)]
#[error("cannot print the result")]
pub(super) struct Error(#[source] Box<dyn std::error::Error + Send + Sync>);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a, T> {
    api_version: &'static str,
    kind: &'a str,
    #[serde(flatten)]
    body: &'a T,
}

/// Several of a kind.
#[derive(Debug, Serialize)]
pub(super) struct Items<T> {
    /// All of them.
    pub(super) items: Vec<T>,
}

/// A document as JSON.
pub(super) fn json<T: Serialize>(kind: &str, body: &T) -> Result<String, Error> {
    let document = Document {
        api_version: DOCUMENTS,
        kind,
        body,
    };
    let text = serde_json::to_string_pretty(&document);
    text.map(|text| text + "\n")
        .map_err(|error| Error(Box::new(error)))
}

impl Formatted {
    /// Whether all details are wanted.
    pub(super) fn is_wide(&self) -> bool {
        self.output == Some(Format::Wide)
    }

    /// The document, or `None` when text for people is wanted.
    pub(super) fn document<T: Serialize>(
        &self,
        kind: &str,
        body: &T,
    ) -> Result<Option<String>, Error> {
        let document = Document {
            api_version: DOCUMENTS,
            kind,
            body,
        };
        match self.output {
            None | Some(Format::Wide) => Ok(None),
            Some(Format::Json) => json(kind, body).map(Some),
            Some(Format::Yaml) => {
                let text = serde_saphyr::to_string(&document);
                text.map(Some).map_err(|error| Error(Box::new(error)))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_a_version_and_a_kind_in_both_languages() {
        let body = Items { items: vec![1] };
        let document = |output| Formatted { output }.document("Numbers", &body).unwrap();
        assert_eq!(document(None), None);
        assert_eq!(document(Some(Format::Wide)), None);
        let json: serde_json::Value =
            serde_json::from_str(&document(Some(Format::Json)).unwrap()).unwrap();
        let yaml: serde_json::Value =
            serde_saphyr::from_str(&document(Some(Format::Yaml)).unwrap()).unwrap();
        let wanted =
            serde_json::json!({"apiVersion": "cli.golive.dev/v1", "kind": "Numbers", "items": [1]});
        assert_eq!(json, wanted);
        assert_eq!(yaml, wanted);
    }
}
