//! From resamples to bounds.
//!
//! *Percentile, expanded*: the percentile interval of few clusters is too short by about √((G-1)/G) z/t, so its
//! level is moved to Φ(-√(G/(G-1)) t) per tail, t with G - 1 degrees of freedom (Hesterberg, "What teachers should
//! know about the bootstrap", The American Statistician 2015, section 5.2). With many clusters nothing is left of it.
//!
//! *Near a bound*: a resample cannot hold what the sample lacks. A share with fewer than [`FEW`] clusters off 0 (or
//! off 1) gets the hull of its bootstrap interval and Wilson's on the effective sample size
//! n = p(1-p)/var(p) (z/t)², t with as many degrees of freedom as there are clusters off the bound, held within
//! [clusters, rows] (after Korn and Graubard, Survey Methodology 1998). At 0 and 1, where the variance says nothing,
//! n is the number of clusters: the cautious end.

use super::special::{normal_cdf, normal_quantile, student_cdf, student_quantile};
use crate::{Error, Result};

/// Below this many clusters off a bound, the resamples alone are not trusted.
const FEW: usize = 10;

/// A value and its bounds, `bounds.0 <= value <= bounds.1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The statistic on the data as they are.
    pub value: f64,
    /// The ends; none where a single cluster cannot bound the value.
    pub bounds: Option<(f64, f64)>,
}

/// A difference (or slope), its interval and the two-sided p-value of "it is 0".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contrast {
    /// The difference.
    pub interval: Interval,
    /// Two-sided, never 0.
    pub p_value: f64,
}

/// Wilson's score interval of `successes` in `trials` independent trials (Wilson 1927).
pub fn wilson(successes: u64, trials: u64, level: f64) -> Result<Interval> {
    check_level(level)?;
    if trials == 0 {
        return Err(Error::argument("trials", "no trials"));
    }
    if successes > trials {
        return Err(Error::argument("successes", format!("{successes} of {trials} trials")));
    }
    let p = successes as f64 / trials as f64;
    Ok(Interval { value: p, bounds: Some(wilson_bounds(p, trials as f64, level)) })
}

pub(super) fn check_level(level: f64) -> Result<()> {
    if level > 0.0 && level < 1.0 {
        Ok(())
    } else {
        Err(Error::argument("level", format!("{level} is not between 0 and 1")))
    }
}

/// Wilson's bounds for the share `p` of `n` trials; `n` need not be whole.
pub(super) fn wilson_bounds(p: f64, n: f64, level: f64) -> (f64, f64) {
    let z = normal_quantile(0.5 + 0.5 * level);
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    ((centre - half).clamp(0.0, p), (centre + half).clamp(p, 1.0))
}

/// A share over clusters: Σ sums / Σ counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// The share.
    pub(super) p: f64,
    clusters: f64,
    rows: f64,
    /// p(1-p) / variance; none where the variance says nothing.
    effective: Option<f64>,
    /// Clusters that are off the nearer bound.
    off_bound: usize,
}

impl Share {
    /// `sums[c]` of `counts[c]` in each cluster, from `rows` rows in all.
    pub(super) fn new(sums: &[f64], counts: &[f64], rows: f64) -> Self {
        let clusters = sums.len() as f64;
        let total: f64 = counts.iter().sum();
        let p = sums.iter().sum::<f64>() / total;
        let both = || sums.iter().zip(counts);
        let above_zero = both().filter(|(s, _)| **s > 0.0).count();
        let below_one = both().filter(|(s, n)| **s < **n).count();
        let off_bound = above_zero.min(below_one);
        // Variance of a ratio, linearised (Cochran 1977, eq. 6.13), clusters drawn with replacement.
        let squares: f64 = both().map(|(s, n)| (s - p * n).powi(2)).sum();
        let variance = clusters / (clusters - 1.0) * squares / (total * total);
        let effective = (off_bound > 0 && sums.len() > 1).then(|| p * (1.0 - p) / variance);
        Self { p, clusters, rows, effective, off_bound }
    }

    /// Whether the resamples say too little about it.
    pub(super) fn is_near_bound(&self) -> bool {
        self.off_bound < FEW
    }

    /// Wilson's bounds on the effective sample size.
    pub(super) fn wilson(&self, level: f64) -> (f64, f64) {
        let tail = 0.5 + 0.5 * level;
        let doubt = || normal_quantile(tail) / student_quantile(tail, self.off_bound as f64);
        let size = self.effective.map_or(self.clusters, |n| n * doubt().powi(2));
        wilson_bounds(self.p, size.clamp(self.clusters, self.rows.max(self.clusters)), level)
    }

    /// What an interval of this share has to cover beside its resamples.
    pub(super) fn guard(&self, level: f64) -> Option<(f64, f64)> {
        self.is_near_bound().then(|| self.wilson(level))
    }
}

/// Bounds of `first - second` from theirs (square-and-add, Newcombe 1998, method 10).
pub(super) fn newcombe(first: (f64, (f64, f64)), second: (f64, (f64, f64))) -> (f64, f64) {
    let ((p, (p_low, p_high)), (q, (q_low, q_high))) = (first, second);
    (p - q - (p - p_low).hypot(q_high - q), p - q + (p_high - p).hypot(q - q_low))
}

/// The expanded percentile interval of `replicates`, hulled with `guard` and with the value itself.
///
/// `clusters` is the number of clusters of the smallest pool that was resampled; one cluster bounds nothing, and only
/// the guard is left.
pub(super) fn from_replicates(
    value: f64,
    replicates: &mut [f64],
    clusters: usize,
    level: f64,
    guard: Option<(f64, f64)>,
) -> Interval {
    let tail = expanded_tail(0.5 * (1.0 - level), clusters);
    let resampled = (clusters > 1).then(|| (quantile(replicates, tail), quantile(replicates, 1.0 - tail)));
    let hull = match (resampled, guard) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (one, other) => one.or(other),
    };
    Interval { value, bounds: hull.map(|(low, high)| (low.min(value), high.max(value))) }
}

/// The level per tail at which the percentile interval of `clusters` clusters is as wide as Student's.
fn expanded_tail(tail: f64, clusters: usize) -> f64 {
    if clusters < 2 {
        return tail;
    }
    let n = clusters as f64;
    normal_cdf((n / (n - 1.0)).sqrt() * student_quantile(tail, n - 1.0))
}

/// The two-sided p-value whose interval has 0 at its end: the inverse of [`from_replicates`].
///
/// Davison and Hinkley 1997, section 4.4: (1 + resamples on the other side of 0) / (1 + resamples), so never 0.
pub(super) fn bootstrap_p(replicates: &[f64], clusters: usize) -> f64 {
    if clusters < 2 {
        return 1.0;
    }
    // Shares of small whole numbers meet at 0 but for rounding: that is 0.
    let slack = 1e-12 * replicates.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
    let below = 1 + replicates.iter().filter(|x| **x <= slack).count();
    let above = 1 + replicates.iter().filter(|x| **x >= -slack).count();
    let tail = below.min(above) as f64 / (1 + replicates.len()) as f64;
    if tail >= 0.5 {
        return 1.0;
    }
    let n = clusters as f64;
    (2.0 * student_cdf(normal_quantile(tail) * ((n - 1.0) / n).sqrt(), n - 1.0)).min(1.0)
}

/// The quantile by linear interpolation between order statistics (Hyndman and Fan's type 7, `NumPy`'s default).
fn quantile(values: &mut [f64], p: f64) -> f64 {
    let place = p * (values.len() - 1) as f64;
    let (_, below, rest) = values.select_nth_unstable_by(place as usize, f64::total_cmp);
    let below = *below;
    let above = rest.iter().copied().min_by(f64::total_cmp).unwrap_or(below);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_meets_the_published_example() {
        // Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662.
        let (low, high) = wilson(81, 263, 0.95).unwrap().bounds.unwrap();
        assert!((low - 0.2553).abs() < 5e-5 && (high - 0.3662).abs() < 5e-5, "{low} {high}");
    }

    #[test]
    fn newcombe_meets_the_published_example() {
        // Newcombe 1998 (differences), table II (a), method 10: 56/70 - 48/80 gives 0.0524 to 0.3339.
        let share = |k, n| (k as f64 / n as f64, wilson(k, n, 0.95).unwrap().bounds.unwrap());
        let (low, high) = newcombe(share(56, 70), share(48, 80));
        assert!((low - 0.0524).abs() < 5e-5 && (high - 0.3339).abs() < 5e-5, "{low} {high}");
    }

    #[test]
    fn quantiles_interpolate() {
        let mut values = [4.0, 1.0, 3.0, 2.0];
        for (p, expected) in [(0.0, 1.0), (1.0, 4.0), (0.5, 2.5), (0.1, 1.3)] {
            assert!((quantile(&mut values, p) - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn expansion_fades_with_clusters() {
        assert!((expanded_tail(0.025, 100_000) - 0.025).abs() < 1e-5);
        assert!(expanded_tail(0.025, 7) < 0.005);
    }

    #[test]
    fn p_value_and_interval_agree() {
        let mut replicates: Vec<f64> = (0..10_000).map(|i| f64::from(i) / 1e4 - 0.01).collect();
        let p = bootstrap_p(&replicates, 20);
        let touching = from_replicates(0.5, &mut replicates, 20, 1.0 - p, None).bounds.unwrap();
        assert!(touching.0.abs() < 2e-4, "{touching:?}");
    }

    #[test]
    fn nothing_seen_is_not_nothing_possible() {
        let share = Share::new(&[0.0; 40], &[1.0; 40], 400.0);
        let (low, high) = share.guard(0.95).unwrap();
        assert!(low == 0.0 && (high - 3.8415 / 43.8415).abs() < 1e-4);
    }
}
