//! Enumerations of the API: a text for each value, with a sentence that explains it.
//!
//! Why a macro: a derived schema drops the doc comments of the variants, and a derived
//! deserializer rejects the whole object when it finds a value of a newer version of Golive. Here the
//! comments appear in `kubectl explain`, and an unknown value in a *status* is no error.

/// Declares an enumeration of the API.
///
/// `strict` refuses unknown values, for fields that users write. `lenient` parses them as the
/// default, for fields that Golive writes: after a downgrade the old version finds values of the new
/// one.
macro_rules! api_enum {
    (
        $(#[doc = $doc:literal])+
        pub enum $name:ident, $mode:ident $(, default $default:ident)? {
            $( $(#[doc = $vdoc:literal])+ $variant:ident = $word:literal, )+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $( $(#[doc = $vdoc])+ $variant, )+
        }

        impl $name {
            /// Every value, in the order in which they are documented.
            pub const ALL: &'static [$name] = &[$( $name::$variant, )+];

            /// The text as it is written in YAML.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( $name::$variant => $word, )+ }
            }

            /// The value with this text, if there is one.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word { $( $word => Some($name::$variant), )+ _ => None }
            }
        }

        $(
            impl Default for $name {
                fn default() -> Self { $name::$default }
            }
        )?

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let word = String::deserialize(d)?;
                match Self::parse(&word) {
                    Some(value) => Ok(value),
                    None => api_enum!(@unknown $mode $name word $($word)+),
                }
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool { true }
            fn schema_name() -> std::borrow::Cow<'static, str> { stringify!($name).into() }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                // As values: the macro below would go through long lists one word at a time, and its
                // recursion is limited.
                let words: &[&str] = &[$($word),+];
                let meanings = $crate::api::enumeration::meanings(&[
                    $( ($word, $crate::api::enumeration::sentence(&[$($vdoc),+])) ),+
                ]);
                schemars::json_schema!({
                    "type": "string",
                    "description": $crate::api::enumeration::sentence(&[$($doc),+]),
                    "enum": words,
                    // `crd.rs` moves this into the description; a field's own comment would
                    // replace a description that stood here.
                    "title": meanings,
                })
            }
        }
    };
    (@unknown strict $name:ident $found:ident $($word:literal)+) => {
        Err(serde::de::Error::unknown_variant(&$found, &[$($word),+]))
    };
    (@unknown lenient $name:ident $found:ident $($word:literal)+) => {
        { let _ = $found; Ok($name::default()) }
    };
}

pub(crate) use api_enum;

/// Joins the lines of a doc comment into one paragraph.
pub(crate) fn sentence(lines: &[&str]) -> String {
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    lines.join(" ")
}

/// "One of: `A`: what it means; `B`: what it means."
pub(crate) fn meanings(words: &[(&str, String)]) -> String {
    let list: Vec<String> = words
        .iter()
        .map(|(word, meaning)| format!("`{word}`: {}", lower_first(meaning.trim_end_matches('.'))))
        .collect();
    format!("One of: {}.", list.join("; "))
}

/// Lower-cases the first letter, unless the first word is an acronym or a proper name in capitals.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    api_enum! {
        /// What a test wants.
        pub enum Strict, strict, default One {
            /// The first.
            One = "One",
            /// The second,
            /// on two lines.
            Two = "two",
        }
    }
    api_enum! {
        /// What a status says.
        pub enum Lenient, lenient, default One {
            /// The first.
            One = "One",
        }
    }

    #[test]
    fn every_word_is_in_the_list_of_all() {
        assert_eq!(Strict::ALL, [Strict::One, Strict::Two]);
        assert_eq!(Lenient::ALL, [Lenient::One]);
    }

    #[test]
    fn words_survive_a_round_trip_as_they_are_written() {
        let json = serde_json::to_string(&Strict::Two).unwrap();
        assert_eq!(json, "\"two\"");
        assert_eq!(serde_json::from_str::<Strict>(&json).unwrap(), Strict::Two);
    }

    #[test]
    fn an_unknown_word_of_a_user_is_an_error_and_one_of_a_status_is_not() {
        let error = serde_json::from_str::<Strict>("\"three\"").unwrap_err();
        assert!(error.to_string().contains("three"), "{error}");
        assert_eq!(
            serde_json::from_str::<Lenient>("\"three\"").unwrap(),
            Lenient::One
        );
    }

    #[test]
    fn the_schema_says_what_each_word_means() {
        let schema = schemars::schema_for!(Strict).to_value();
        assert_eq!(schema["enum"], serde_json::json!(["One", "two"]));
        assert_eq!(
            schema["title"],
            "One of: `One`: the first; `two`: the second, on two lines."
        );
    }
}
