//! An answer of the HTTP API of Prometheus.
//!
//! Source: prometheus/prometheus, `docs/querying/api.md`: "Format overview", "Expression query result formats"
//! and "Native histograms".

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Most bytes of an answer.
pub const MAX_BYTES: usize = 4 << 20;

/// Most series of an answer.
pub const MAX_SERIES: usize = 4096;

/// Most points of one series: what Prometheus itself allows.
pub const MAX_POINTS: usize = 11_000;

/// Most labels of a series.
pub const MAX_LABELS: usize = 128;

/// Most buckets of a native histogram.
pub const MAX_BUCKETS: usize = 2048;

/// Why an answer gives no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It has more than [`MAX_BYTES`].
    #[error("the answer of Prometheus has more than {MAX_BYTES} bytes")]
    Long,
    /// It is no answer of Prometheus' API.
    #[error("the answer is not one of Prometheus' HTTP API")]
    Malformed,
    /// It has too many series, points, labels or buckets.
    #[error("the answer of Prometheus has too many series, points, labels or buckets")]
    TooMuch,
    /// Prometheus refused or failed.
    #[error("Prometheus answered with an error: {0}")]
    Refused(ErrorKind),
}

/// The kind of an error of Prometheus; its text is the server's and is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// `bad_data`: a parameter or the query cannot be understood.
    BadData,
    /// `timeout`: the query took too long.
    Timeout,
    /// `canceled`: the query was ended.
    Canceled,
    /// `execution`: the query cannot be evaluated.
    Execution,
    /// `internal`: the server is at fault.
    Internal,
    /// `unavailable`: the server is starting or ending.
    Unavailable,
    /// `not_found` or `not_acceptable`, and whatever else there may be.
    Other,
}

impl ErrorKind {
    fn of(name: &str) -> Self {
        match name {
            "bad_data" => Self::BadData,
            "timeout" => Self::Timeout,
            "canceled" => Self::Canceled,
            "execution" => Self::Execution,
            "internal" => Self::Internal,
            "unavailable" => Self::Unavailable,
            _ => Self::Other,
        }
    }

    /// Whether the same question may be answered later.
    #[must_use]
    pub fn may_pass(self) -> bool {
        match self {
            Self::Timeout | Self::Canceled | Self::Internal | Self::Unavailable => true,
            Self::BadData | Self::Execution | Self::Other => false,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadData => "it does not understand the query (bad_data)",
            Self::Timeout => "the query took too long (timeout)",
            Self::Canceled => "the query was ended (canceled)",
            Self::Execution => "the query cannot be evaluated (execution)",
            Self::Internal => "the server failed (internal)",
            Self::Unavailable => "the server is starting or ending (unavailable)",
            Self::Other => "of a kind that is not known",
        })
    }
}

/// An answer with a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The result.
    pub data: Data,
    /// How many warnings came with it. The result may then lack series; their texts are the server's.
    pub warnings: usize,
    /// Whether some of the data could not be read (`isPartial` of VictoriaMetrics).
    pub is_partial: bool,
}

impl Answer {
    /// Whether the result is what was asked for, and all of it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.warnings == 0 && !self.is_partial
    }
}

/// A result.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// One point of each series: of `/api/v1/query`.
    Vector(Vec<Series>),
    /// Points of each series: of `/api/v1/query_range`, or of a range.
    Matrix(Vec<Series>),
    /// A number.
    Scalar(Point<f64>),
}

impl Data {
    /// The series of a vector or a matrix.
    #[must_use]
    pub fn series(&self) -> &[Series] {
        match self {
            Self::Vector(series) | Self::Matrix(series) => series,
            Self::Scalar(_) => &[],
        }
    }
}

/// A series with its points, in the order of their times.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Numbers.
    pub values: Vec<Point<f64>>,
    /// Native histograms.
    pub histograms: Vec<Point<NativeHistogram>>,
}

/// A value at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Point<T> {
    /// Unit: milliseconds since 1970.
    pub at: i64,
    /// The value. A number may be NaN or infinite.
    pub value: T,
}

/// A native histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct NativeHistogram {
    /// How many observations there are; those of NaN are in no bucket.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// Its buckets with at least one observation, ascending.
    pub buckets: Vec<NativeBucket>,
}

/// A bucket of a native histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NativeBucket {
    /// Which bounds are part of it.
    pub bounds: Bounds,
    /// Its lower bound.
    pub low: f64,
    /// Its upper bound.
    pub high: f64,
    /// How many observations are in it.
    pub count: f64,
}

/// Which bounds are part of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds {
    /// The upper one.
    OpenLeft,
    /// The lower one.
    OpenRight,
    /// None.
    OpenBoth,
    /// Both.
    ClosedBoth,
}

/// Reads an answer. The status of HTTP does not matter: errors have a body of the same form.
///
/// # Errors
/// When it is none of Prometheus' API, has an error, or is too large.
pub fn read(body: &[u8]) -> Result<Answer, Fault> {
    if body.len() > MAX_BYTES {
        return Err(Fault::Long);
    }
    // What the result is made of is only known when its type is.
    let wire: Wire<IgnoredAny> = parse(body)?;
    if wire.status == Status::Error {
        let kind = wire.error_type.ok_or(Fault::Malformed)?;
        return Err(Fault::Refused(ErrorKind::of(&kind)));
    }
    let data = match wire.data.ok_or(Fault::Malformed)?.result_type {
        ResultType::Vector => {
            let series = bounded(result::<Vec<WireInstant>>(body)?)?.into_iter();
            Data::Vector(series.map(WireInstant::read).collect::<Result<_, _>>()?)
        }
        ResultType::Matrix => {
            let series = bounded(result::<Vec<WireRange>>(body)?)?.into_iter();
            Data::Matrix(series.map(WireRange::read).collect::<Result<_, _>>()?)
        }
        ResultType::Scalar => Data::Scalar(result::<WirePoint>(body)?.read()),
        // No query of ours has a text as its result.
        ResultType::String => return Err(Fault::Malformed),
    };
    Ok(Answer {
        data,
        warnings: wire.warnings.0,
        is_partial: wire.is_partial,
    })
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<Wire<T>, Fault> {
    serde_json::from_slice(body).map_err(|_| Fault::Malformed)
}

/// The result of an answer whose type is known.
fn result<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    let data = parse::<T>(body)?.data.ok_or(Fault::Malformed)?;
    Ok(data.result)
}

fn bounded<T>(series: Vec<T>) -> Result<Vec<T>, Fault> {
    match series.len() <= MAX_SERIES {
        true => Ok(series),
        false => Err(Fault::TooMuch),
    }
}

/// The fields of an answer. Prometheus adds fields in new versions (`infos`, `stats`); those of the result are
/// fixed.
#[derive(Deserialize)]
struct Wire<T> {
    status: Status,
    data: Option<WireData<T>>,
    #[serde(rename = "errorType")]
    error_type: Option<String>,
    #[serde(default)]
    warnings: Count,
    #[serde(rename = "isPartial", default)]
    is_partial: bool,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Status {
    Success,
    Error,
}

#[derive(Deserialize)]
struct WireData<T> {
    #[serde(rename = "resultType")]
    result_type: ResultType,
    result: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ResultType {
    Vector,
    Matrix,
    Scalar,
    String,
}

/// How many elements a list has; none is like an empty one.
#[derive(Default)]
struct Count(usize);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        let list = Option::<Vec<IgnoredAny>>::deserialize(json)?;
        Ok(Self(list.map_or(0, |list| list.len())))
    }
}

/// A series with one point.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireInstant {
    metric: Labels,
    value: Option<WirePoint>,
    histogram: Option<WireHistogramPoint>,
}

impl WireInstant {
    fn read(self) -> Result<Series, Fault> {
        let (values, histograms) = match (self.value, self.histogram) {
            (Some(value), None) => (vec![value.read()], Vec::new()),
            (None, Some(histogram)) => (Vec::new(), vec![histogram.read()?]),
            _ => return Err(Fault::Malformed),
        };
        Ok(Series {
            labels: self.metric.read()?,
            values,
            histograms,
        })
    }
}

/// A series with points.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRange {
    metric: Labels,
    #[serde(default)]
    values: Vec<WirePoint>,
    #[serde(default)]
    histograms: Vec<WireHistogramPoint>,
}

impl WireRange {
    fn read(self) -> Result<Series, Fault> {
        let points = self.values.len() + self.histograms.len();
        if points > MAX_POINTS {
            return Err(Fault::TooMuch);
        }
        let histograms = self.histograms.into_iter().map(WireHistogramPoint::read);
        let series = Series {
            labels: self.metric.read()?,
            values: self.values.iter().map(WirePoint::read).collect(),
            histograms: histograms.collect::<Result<_, _>>()?,
        };
        let is_ordered = is_ascending(&series.values) && is_ascending(&series.histograms);
        match points > 0 && is_ordered {
            true => Ok(series),
            false => Err(Fault::Malformed),
        }
    }
}

fn is_ascending<T>(points: &[Point<T>]) -> bool {
    points.windows(2).all(|pair| pair[0].at < pair[1].at)
}

/// Labels, each once.
struct Labels(Vec<(String, String)>);

impl Labels {
    fn read(self) -> Result<BTreeMap<String, String>, Fault> {
        if self.0.len() > MAX_LABELS {
            return Err(Fault::TooMuch);
        }
        let count = self.0.len();
        let labels: BTreeMap<String, String> = self.0.into_iter().collect();
        match labels.len() == count {
            true => Ok(labels),
            false => Err(Fault::Malformed),
        }
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Labels, A::Error> {
                let mut labels = Vec::new();
                while let Some(label) = fields.next_entry()? {
                    labels.push(label);
                }
                Ok(Labels(labels))
            }
        }
        json.deserialize_map(All)
    }
}

/// A time in seconds.
struct Time(i64);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(json)?;
        // Ten thousand years.
        match seconds.abs() < 3.2e11 {
            true => Ok(Self((seconds * 1000.0).round() as i64)),
            false => Err(serde::de::Error::custom("no time")),
        }
    }
}

/// A number as text: JSON has no NaN and no infinity.
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(json)?;
        // What Rust reads beside what Go writes: words for infinity, and nothing else.
        let is_short = text.len() <= 32 && !text.is_empty();
        match text.parse() {
            Ok(number) if is_short => Ok(Self(number)),
            _ => Err(serde::de::Error::custom("no number")),
        }
    }
}

/// `[time, "number"]`.
#[derive(Deserialize)]
struct WirePoint(Time, Number);

impl WirePoint {
    fn read(&self) -> Point<f64> {
        Point {
            at: self.0.0,
            value: self.1.0,
        }
    }
}

/// `[time, {"count": "number", "sum": "number", "buckets": [...]}]`.
#[derive(Deserialize)]
struct WireHistogramPoint(Time, WireHistogram);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireHistogram {
    count: Number,
    sum: Number,
    #[serde(default)]
    buckets: Buckets,
}

/// `[boundaries, "low", "high", "count"]`, as many as there may be.
#[derive(Default)]
struct Buckets {
    buckets: Vec<WireBucket>,
    more: bool,
}

#[derive(Deserialize)]
struct WireBucket(u8, Number, Number, Number);

impl<'de> Deserialize<'de> for Buckets {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Buckets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("buckets")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Buckets, A::Error> {
                let mut found = Buckets::default();
                while let Some(bucket) = items.next_element()? {
                    match found.buckets.len() < MAX_BUCKETS {
                        true => found.buckets.push(bucket),
                        false => found.more = true,
                    }
                }
                Ok(found)
            }
        }
        json.deserialize_seq(All)
    }
}

impl WireHistogramPoint {
    fn read(self) -> Result<Point<NativeHistogram>, Fault> {
        if self.1.buckets.more {
            return Err(Fault::TooMuch);
        }
        let buckets = self.1.buckets.buckets.iter().map(WireBucket::read);
        let buckets: Vec<NativeBucket> = buckets.collect::<Result<_, _>>()?;
        let is_ordered = buckets.windows(2).all(|pair| pair[0].high <= pair[1].low);
        let count = self.1.count.0;
        let is_count = count.is_finite() && count >= 0.0;
        if !is_ordered || !is_count {
            return Err(Fault::Malformed);
        }
        Ok(Point {
            at: self.0.0,
            value: NativeHistogram {
                count,
                sum: self.1.sum.0,
                buckets,
            },
        })
    }
}

impl WireBucket {
    fn read(&self) -> Result<NativeBucket, Fault> {
        let bounds = match self.0 {
            0 => Bounds::OpenLeft,
            1 => Bounds::OpenRight,
            2 => Bounds::OpenBoth,
            3 => Bounds::ClosedBoth,
            _ => return Err(Fault::Malformed),
        };
        let (low, high, count) = (self.1.0, self.2.0, self.3.0);
        let is_bucket = low <= high && count.is_finite() && count >= 0.0;
        match is_bucket {
            true => Ok(NativeBucket {
                bounds,
                low,
                high,
                count,
            }),
            false => Err(Fault::Malformed),
        }
    }
}
