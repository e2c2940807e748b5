//! What can be wrong with a page of metrics, and its bounds.

/// Longest line.
///
/// Unit: bytes.
pub const MAX_LINE: usize = 64 << 10;

/// Most labels of a sample.
pub const MAX_LABELS: usize = 256;

/// Most samples of a page.
pub const MAX_SAMPLES: usize = 1_000_000;

/// What is wrong with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The page is not UTF-8.
    #[error("the page is not UTF-8")]
    NotUtf8,
    /// A line does not begin with the name of a metric.
    #[error("no name of a metric")]
    Name,
    /// The labels cannot be read.
    #[error("labels that cannot be read")]
    Labels,
    /// The value is not a number.
    #[error("no number where the value belongs")]
    Value,
    /// The time is not a number.
    #[error("no number where the time belongs")]
    Time,
    /// Something follows the sample.
    #[error("text after the sample")]
    Trailing,
    /// A line of OpenMetrics that begins with `#` and is neither TYPE, HELP, UNIT nor EOF; or an empty one.
    #[error("a line that OpenMetrics does not have")]
    Comment,
    /// The type of a metric is not one of the format.
    #[error("an unknown type of a metric")]
    Type,
    /// The page of OpenMetrics does not end with `# EOF`: it was cut off.
    #[error("no `# EOF` at the end: the page was cut off")]
    NoEnd,
    /// Something follows `# EOF`.
    #[error("text after `# EOF`")]
    AfterEnd,
    /// A line is longer than [`MAX_LINE`].
    #[error("a line of more than {MAX_LINE} bytes")]
    LongLine,
    /// A sample has more than [`MAX_LABELS`] labels.
    #[error("more than {MAX_LABELS} labels")]
    TooManyLabels,
    /// The page has more than [`MAX_SAMPLES`] samples.
    #[error("more than {MAX_SAMPLES} samples")]
    TooManySamples,
    /// The metric is a histogram or a summary, which has no single value.
    #[error("a histogram or summary has no single value")]
    NoSingleValue,
}

/// What is wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct Problem {
    /// The line, from 1 on.
    pub line: u32,
    /// What is wrong.
    pub fault: Fault,
}
