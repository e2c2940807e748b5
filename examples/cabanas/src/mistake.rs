//! The classic mistakes of those who receive webhooks and exchange calendars, each a switch.
//!
//! Without a switch the service makes none of them. Golive's checks of integrations must find each.

/// One mistake. The name of its switch is [`Mistake::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mistake {
    /// Webhooks are taken whatever their signature.
    AcceptsUnsigned,
    /// WhatsApp: only the old header `X-Hub-Signature`, with SHA-1, is checked.
    Sha1Only,
    /// WhatsApp: the body is parsed and written again before its signature is checked.
    Reserializes,
    /// WhatsApp: `\u00f1` becomes `ñ` before the signature is checked.
    DecodesEscapes,
    /// The first eight digits of a signature decide.
    ComparesPrefix,
    /// A signature that was made with an empty key passes too, as where a second secret is not set.
    AcceptsEmptyKey,
    /// A signature that is no hexadecimal text is not checked.
    SkipsUndecodable,
    /// A webhook that is refused is processed all the same.
    ProcessesRefused,
    /// WhatsApp: the challenge is returned to whoever asks, with any verify token.
    EchoesChallenge,
    /// Mercado Pago: the signature is checked with the id in the body, not with the one in the query.
    UsesBodyId,
    /// Mercado Pago: a notification without `x-request-id` is refused.
    RequiresRequestId,
    /// Mercado Pago: `ts` counts as seconds, so that one in milliseconds is far in the future.
    SecondsOnly,
    /// Mercado Pago: a signature for the id in the body passes too, whatever id the query has.
    AcceptsOtherId,
    /// A delivery that comes again is processed again.
    ProcessesReplays,
    /// Whether a delivery is known is asked first and written down later: two machines that get it
    /// at the same instant both process it.
    RacesReplays,
    /// Webhooks are answered after [`LATE`] seconds, or as many as the switch says.
    AnswersLate,
    /// A webhook is answered 200 first and stored [`STORED_AFTER`] seconds later.
    AcknowledgesEarly,
    /// A type of event that we do not know is answered 500.
    UnknownEventFails,
    /// The export names the guest and the phone number.
    ExportsGuests,
    /// `DTEND` is the last night instead of the day after it.
    InclusiveEnd,
    /// The lines of the export end with LF alone.
    LfLines,
    /// Lines are folded after 75 octets even inside a character.
    FoldsCharacters,
    /// Each export gives its events new UIDs.
    ChangingUids,
    /// All events of the export have the same UID.
    DuplicateUids,
    /// The export is `text/plain`.
    WrongContentType,
    /// The export begins with a byte order mark.
    ByteOrderMark,
    /// Calendars are imported once, and never again.
    FrozenImport,
    /// Every import but the first takes the calendar for an empty one: all its nights become free.
    ImportEmpties,
    /// The age of the last import is 0 whatever happens.
    AgeAlwaysZero,
}

/// Time until an answer with [`Mistake::AnswersLate`]: more than the 22 s that Mercado Pago waits.
///
/// Unit: seconds.
pub const LATE: u64 = 30;

/// Time between the answer and the effect with [`Mistake::AcknowledgesEarly`].
///
/// Unit: seconds.
pub const STORED_AFTER: u64 = 20;

impl Mistake {
    /// All of them.
    pub const ALL: [Self; 29] = [
        Self::AcceptsUnsigned,
        Self::Sha1Only,
        Self::Reserializes,
        Self::DecodesEscapes,
        Self::ComparesPrefix,
        Self::AcceptsEmptyKey,
        Self::SkipsUndecodable,
        Self::ProcessesRefused,
        Self::EchoesChallenge,
        Self::UsesBodyId,
        Self::RequiresRequestId,
        Self::SecondsOnly,
        Self::AcceptsOtherId,
        Self::ProcessesReplays,
        Self::RacesReplays,
        Self::AnswersLate,
        Self::AcknowledgesEarly,
        Self::UnknownEventFails,
        Self::ExportsGuests,
        Self::InclusiveEnd,
        Self::LfLines,
        Self::FoldsCharacters,
        Self::ChangingUids,
        Self::DuplicateUids,
        Self::WrongContentType,
        Self::ByteOrderMark,
        Self::FrozenImport,
        Self::ImportEmpties,
        Self::AgeAlwaysZero,
    ];

    /// Name of the switch.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AcceptsUnsigned => "accepts-unsigned",
            Self::Sha1Only => "sha1-only",
            Self::Reserializes => "reserializes",
            Self::DecodesEscapes => "decodes-escapes",
            Self::ComparesPrefix => "compares-prefix",
            Self::AcceptsEmptyKey => "accepts-empty-key",
            Self::SkipsUndecodable => "skips-undecodable",
            Self::ProcessesRefused => "processes-refused",
            Self::EchoesChallenge => "echoes-challenge",
            Self::UsesBodyId => "uses-body-id",
            Self::RequiresRequestId => "requires-request-id",
            Self::SecondsOnly => "seconds-only",
            Self::AcceptsOtherId => "accepts-other-id",
            Self::ProcessesReplays => "processes-replays",
            Self::RacesReplays => "races-replays",
            Self::AnswersLate => "answers-late",
            Self::AcknowledgesEarly => "acknowledges-early",
            Self::UnknownEventFails => "unknown-event-fails",
            Self::ExportsGuests => "exports-guests",
            Self::InclusiveEnd => "inclusive-end",
            Self::LfLines => "lf-lines",
            Self::FoldsCharacters => "folds-characters",
            Self::ChangingUids => "changing-uids",
            Self::DuplicateUids => "duplicate-uids",
            Self::WrongContentType => "wrong-content-type",
            Self::ByteOrderMark => "byte-order-mark",
            Self::FrozenImport => "frozen-import",
            Self::ImportEmpties => "import-empties",
            Self::AgeAlwaysZero => "age-always-zero",
        }
    }

    /// The mistake whose switch has this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_mistake_has_a_name_of_its_own() {
        let names: BTreeSet<_> = Mistake::ALL.map(Mistake::name).into();
        assert_eq!(names.len(), Mistake::ALL.len());
        for one in Mistake::ALL {
            assert_eq!(Mistake::named(one.name()), Some(one));
        }
    }
}
