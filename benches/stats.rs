//! Medians, and how sure the ratio of two of them is.

/// How often the rounds are drawn anew for an interval.
const DRAWS: usize = 2_000;

/// The ratio of two medians with its 95 % interval.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    /// The ratio.
    pub of: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.of.is_finite() {
            return f.write_str("none");
        }
        write!(f, "{:.2} [{:.2}, {:.2}]", self.of, self.low, self.high)
    }
}

/// The middle of a list; the mean of the two middle ones; NaN for an empty list.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (Some(value), 1) => *value,
        (Some(value), _) => f64::midpoint(sorted[middle - 1], *value),
        (None, _) => f64::NAN,
    }
}

/// The median of `ours` by the median of `theirs`. Each place of the lists is one round, in which both
/// were measured one after the other: a bootstrap draws rounds, never a value without its partner.
pub fn ratio(ours: &[f64], theirs: &[f64]) -> Ratio {
    let rounds = ours.len().min(theirs.len());
    let by = |ours: &[f64], theirs: &[f64]| median(ours) / median(theirs);
    let (ours, theirs) = (&ours[..rounds], &theirs[..rounds]);
    let of = by(ours, theirs);
    if rounds < 2 {
        return Ratio {
            of,
            low: f64::NAN,
            high: f64::NAN,
        };
    }
    // The same draws in every run: equal figures give an equal interval.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % rounds
    };
    let mut ratios: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let drawn: Vec<usize> = (0..rounds).map(|_| draw()).collect();
            let of = |from: &[f64]| drawn.iter().map(|at| from[*at]).collect::<Vec<_>>();
            by(&of(ours), &of(theirs))
        })
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    Ratio {
        of,
        low: ratios[DRAWS / 40],
        high: ratios[DRAWS - 1 - DRAWS / 40],
    }
}
