//! How well scores tell fakes from reals, with cluster-bootstrap intervals. `true` is fake, the positive class.
//!
//! Clusters are resampled within label where no cluster holds both a real and a fake, and together where one does
//! (a caption with its photograph and its generations).

use super::bootstrap::{Resampling, Totals};
use super::check_length;
use super::clusters::{Pools, dense};
use super::interval::{Contrast, Interval, Share, bootstrap_p, from_replicates, newcombe, wilson_bounds};
use super::rate::share_in_pools;
use super::roc::{RankStatistic, Ranking, Row, auc, check_scores};
use crate::{Error, Result};

const NAMES: &str = "auc, ap, eer, accuracy, detection_rate, false_alarm_rate";

/// What is measured. A score *above* its threshold is called fake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Area under the ROC curve, ties at half.
    Auc,
    /// Average precision.
    AveragePrecision,
    /// Equal error rate, by linear interpolation of the ROC curve.
    EqualErrorRate,
    /// The share of all rows on the right side of the threshold.
    Accuracy,
    /// The share of fakes above the threshold.
    DetectionRate,
    /// The share of reals above the threshold.
    FalseAlarmRate,
}

impl std::str::FromStr for Measure {
    type Err = Error;

    /// By its name in `estimates.json`.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auc" => Ok(Self::Auc),
            "ap" => Ok(Self::AveragePrecision),
            "eer" => Ok(Self::EqualErrorRate),
            "accuracy" => Ok(Self::Accuracy),
            "detection_rate" => Ok(Self::DetectionRate),
            "false_alarm_rate" => Ok(Self::FalseAlarmRate),
            _ => Err(Error::argument("metric", format!("{name:?} is none of {NAMES}"))),
        }
    }
}

impl Measure {
    fn rank(self) -> Option<RankStatistic> {
        match self {
            Self::Auc => Some(RankStatistic::Auc),
            Self::AveragePrecision => Some(RankStatistic::AveragePrecision),
            Self::EqualErrorRate => Some(RankStatistic::EqualErrorRate),
            Self::Accuracy | Self::DetectionRate | Self::FalseAlarmRate => None,
        }
    }

    /// Whether a row of this label counts.
    fn counts(self, fake: bool) -> bool {
        match self {
            Self::DetectionRate => fake,
            Self::FalseAlarmRate => !fake,
            _ => true,
        }
    }
}

/// Scores with what is known of their rows; all slices have the same length.
#[derive(Debug, Clone, Copy)]
pub struct Scored<'a> {
    /// Higher is more likely fake; never NaN.
    pub scores: &'a [f64],
    /// `true` for fake.
    pub labels: &'a [bool],
    /// Rows of one stratum are compared with each other; none for a single stratum. Rank statistics only.
    pub strata: Option<&'a [i64]>,
    /// The threshold of each row; none for rank statistics.
    pub thresholds: Option<&'a [f64]>,
}

impl Scored<'_> {
    fn check(&self, measure: Measure) -> Result<()> {
        check_scores(self.scores, self.labels, |fake| measure.counts(fake))?;
        if let Some(strata) = self.strata {
            check_length("strata", strata.len(), self.scores.len())?;
        }
        match self.thresholds {
            None if measure.rank().is_none() => Err(Error::argument("threshold", "needed for this metric")),
            None => Ok(()),
            Some(_) if measure.rank().is_some() => Err(Error::argument("threshold", "of no use for this metric")),
            Some(thresholds) if thresholds.iter().any(|t| t.is_nan()) => Err(Error::argument("threshold", "is NaN")),
            Some(thresholds) => check_length("threshold", thresholds.len(), self.scores.len()),
        }
    }

    fn strata(&self) -> Vec<u32> {
        self.strata.map_or_else(|| vec![0; self.scores.len()], |strata| dense(strata).0)
    }

    /// The rows that count in `measure`, and whether each is a hit: above its threshold (accuracy: on its side).
    fn hits(&self, measure: Measure) -> impl Iterator<Item = (usize, f64)> + '_ {
        let thresholds = self.thresholds.unwrap_or_default();
        let rows = self.scores.iter().zip(thresholds).zip(self.labels).enumerate();
        rows.filter(move |(_, (_, fake))| measure.counts(**fake)).map(move |(row, ((score, threshold), &fake))| {
            let above = score > threshold;
            (row, f64::from(u8::from(if measure == Measure::Accuracy { above == fake } else { above })))
        })
    }
}

/// The value alone.
pub fn detection_value(measure: Measure, scored: &Scored<'_>) -> Result<f64> {
    scored.check(measure)?;
    let Some(statistic) = measure.rank() else {
        let (sum, count) = scored.hits(measure).fold((0.0, 0.0), |(sum, count), (_, hit)| (sum + hit, count + 1.0));
        return Ok(sum / count);
    };
    if measure == Measure::Auc && scored.strata.is_none() {
        return auc(scored.scores, scored.labels);
    }
    let strata = scored.strata();
    let rows = rows(scored, &strata, |_| 0, |_| true);
    Ranking::new(statistic, rows).evaluate(&[1]).ok_or_else(no_pairs)
}

/// The value and its interval.
pub fn detection(measure: Measure, scored: &Scored<'_>, clusters: &[i64], resampling: &Resampling) -> Result<Interval> {
    resampling.check()?;
    scored.check(measure)?;
    check_length("clusters", clusters.len(), scored.scores.len())?;
    let Some(statistic) = measure.rank() else {
        let (rows, hits): (Vec<usize>, Vec<f64>) = scored.hits(measure).unzip();
        let ids: Vec<i64> = rows.iter().map(|&row| clusters[row]).collect();
        let (index, kept) = dense(&ids);
        let pools = Pools::by_kind(&index, rows.iter().map(|&row| u8::from(scored.labels[row])), kept.len());
        return share_in_pools(&hits, &ids, &pools, resampling);
    };
    let (index, kept) = dense(clusters);
    let pools = Pools::by_kind(&index, scored.labels.iter().map(|&fake| u8::from(fake)), kept.len());
    let strata = scored.strata();
    let ranking = Ranking::new(statistic, rows(scored, &strata, |row| index[row], |_| true));
    let value = ranking.evaluate(&vec![1; kept.len()]).ok_or_else(no_pairs)?;
    let mut replicates = resampling.of_weights(&pools, ranking.rows(), |weights| ranking.evaluate(weights))?;
    let clusters = pools.smallest();
    let guard = is_constant(&replicates).then(|| wilson_bounds(value, clusters as f64, resampling.level));
    let guard = guard.filter(|_| clusters > 1);
    Ok(from_replicates(value, &mut replicates, clusters, resampling.level, guard))
}

/// The measure of the fakes in the first group (`first[row]`) minus that of the others, against the same reals.
///
/// `first` says nothing of reals. Reals, first and second fakes are three pools where no cluster mixes them, else
/// clusters are drawn together, which pairs what shares a prompt. The p-value is the bootstrap's.
pub fn detection_difference(
    measure: Measure,
    scored: &Scored<'_>,
    first: &[bool],
    clusters: &[i64],
    resampling: &Resampling,
) -> Result<Contrast> {
    resampling.check()?;
    scored.check(measure)?;
    check_length("groups", first.len(), scored.scores.len())?;
    check_length("clusters", clusters.len(), scored.scores.len())?;
    if measure == Measure::FalseAlarmRate {
        return Err(Error::argument("metric", "both groups share the reals and their false alarms"));
    }
    let fakes = || scored.labels.iter().zip(first).filter(|(fake, _)| **fake);
    if !fakes().any(|(_, first)| *first) || fakes().all(|(_, first)| *first) {
        return Err(Error::argument("groups", "no fake rows in one of the two groups"));
    }
    let kind = |row: usize| if scored.labels[row] { 1 + u8::from(first[row]) } else { 0 };
    let kept: Vec<usize> = (0..first.len()).filter(|&row| measure.counts(scored.labels[row])).collect();
    let ids: Vec<i64> = kept.iter().map(|&row| clusters[row]).collect();
    let (index, distinct) = dense(&ids);
    let pools = Pools::by_kind(&index, kept.iter().map(|&row| kind(row)), distinct.len());
    let sides = match measure.rank() {
        Some(statistic) => rank_sides(statistic, scored, first, &index, &pools, resampling)?,
        None => share_sides(measure, scored, first, &index, &pools, resampling)?,
    };
    let Sides { values: (a, b), mut replicates, guard } = sides;
    let clusters = pools.smallest();
    let p_value = bootstrap_p(&replicates, clusters);
    Ok(Contrast { interval: from_replicates(a - b, &mut replicates, clusters, resampling.level, guard), p_value })
}

struct Sides {
    values: (f64, f64),
    replicates: Vec<f64>,
    guard: Option<(f64, f64)>,
}

fn rank_sides(
    statistic: RankStatistic,
    scored: &Scored<'_>,
    first: &[bool],
    index: &[u32],
    pools: &Pools,
    resampling: &Resampling,
) -> Result<Sides> {
    let strata = scored.strata();
    let side = |of_first: bool| {
        let counts = |row: usize| !scored.labels[row] || first[row] == of_first;
        Ranking::new(statistic, rows(scored, &strata, |row| index[row], counts))
    };
    let (a, b) = (side(true), side(false));
    let ones = vec![1; pools.draws()];
    let values = (a.evaluate(&ones).ok_or_else(no_pairs)?, b.evaluate(&ones).ok_or_else(no_pairs)?);
    let replicates = resampling.of_weights(pools, a.rows() + b.rows(), |weights| {
        a.evaluate(weights).zip(b.evaluate(weights)).map(|(a, b)| a - b)
    })?;
    let clusters = pools.smallest();
    let bounds = |value| (value, wilson_bounds(value, clusters as f64, resampling.level));
    let guard = (clusters > 1 && is_constant(&replicates)).then(|| newcombe(bounds(values.0), bounds(values.1)));
    Ok(Sides { values, replicates, guard })
}

fn share_sides(
    measure: Measure,
    scored: &Scored<'_>,
    first: &[bool],
    index: &[u32],
    pools: &Pools,
    resampling: &Resampling,
) -> Result<Sides> {
    let count = pools.draws();
    // Per cluster: hits and rows of the first side, hits and rows of the second.
    let mut totals = Totals::zeros(count, 4);
    for ((row, hit), &cluster) in scored.hits(measure).zip(index) {
        let cells = totals.row_mut(cluster as usize);
        let counted = |side: bool| f64::from(u8::from(!scored.labels[row] || first[row] == side));
        let add = [hit * counted(true), counted(true), hit * counted(false), counted(false)];
        cells.iter_mut().zip(add).for_each(|(cell, x)| *cell += x);
    }
    let share = |at: usize| {
        let held = (0..count).map(|c| totals.row(c)).filter(|cells| cells[at + 1] > 0.0);
        let (sums, counts): (Vec<f64>, Vec<f64>) = held.map(|cells| (cells[at], cells[at + 1])).unzip();
        let rows = counts.iter().sum();
        Share::new(&sums, &counts, rows)
    };
    let (a, b) = (share(0), share(2));
    let replicates =
        resampling.of_totals(pools, &totals, |t| (t[1] > 0.0 && t[3] > 0.0).then(|| t[0] / t[1] - t[2] / t[3]))?;
    let guard = (a.is_near_bound() || b.is_near_bound())
        .then(|| newcombe((a.p, a.wilson(resampling.level)), (b.p, b.wilson(resampling.level))));
    Ok(Sides { values: (a.p, b.p), replicates, guard })
}

fn rows<'a>(
    scored: &'a Scored<'_>,
    strata: &'a [u32],
    cluster: impl Fn(usize) -> u32 + 'a,
    counts: impl Fn(usize) -> bool + 'a,
) -> impl Iterator<Item = Row> + 'a {
    (0..scored.scores.len()).filter(move |&row| counts(row)).map(move |row| Row {
        score: scored.scores[row],
        fake: scored.labels[row],
        cluster: cluster(row),
        stratum: strata[row],
    })
}

fn no_pairs() -> Error {
    Error::argument("strata", "no stratum has both a real and a fake")
}

/// Whether no resample differs from another.
pub(super) fn is_constant(replicates: &[f64]) -> bool {
    replicates.windows(2).all(|w| w[0].total_cmp(&w[1]).is_eq())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored<'a>(scores: &'a [f64], labels: &'a [bool]) -> Scored<'a> {
        Scored { scores, labels, strata: None, thresholds: None }
    }

    #[test]
    fn a_perfect_detector_is_not_certain() {
        let labels: Vec<bool> = (0..60).map(|i| i % 2 == 0).collect();
        let scores: Vec<f64> = labels.iter().map(|&fake| f64::from(u8::from(fake))).collect();
        let clusters: Vec<i64> = (0..60).collect();
        for (measure, value) in [(Measure::Auc, 1.0), (Measure::AveragePrecision, 1.0), (Measure::EqualErrorRate, 0.0)]
        {
            let found = detection(measure, &scored(&scores, &labels), &clusters, &Resampling::default()).unwrap();
            let (low, high) = found.bounds.unwrap();
            assert!((found.value - value).abs() < 1e-15 && high - low > 0.1 && high - low < 0.2, "{found:?}");
        }
    }

    #[test]
    fn one_cluster_bounds_nothing() {
        let found = detection(
            Measure::Auc,
            &scored(&[0.0, 1.0, 2.0], &[false, true, true]),
            &[1, 2, 2],
            &Resampling::default(),
        );
        assert_eq!(found.unwrap(), Interval { value: 1.0, bounds: None });
    }

    #[test]
    fn a_rate_needs_its_threshold_and_its_class() {
        let (scores, labels) = ([0.2, 0.8, 0.9], [false, true, true]);
        let mut input = scored(&scores, &labels);
        assert!(detection_value(Measure::DetectionRate, &input).is_err());
        input.thresholds = Some(&[0.85; 3]);
        assert_eq!(detection_value(Measure::DetectionRate, &input), Ok(0.5));
        assert_eq!(detection_value(Measure::FalseAlarmRate, &input), Ok(0.0));
        assert_eq!(detection_value(Measure::Accuracy, &input), Ok(2.0 / 3.0));
        let fakes = Scored { scores: &[0.9], labels: &[true], strata: None, thresholds: Some(&[0.5]) };
        assert_eq!(detection_value(Measure::DetectionRate, &fakes), Ok(1.0));
        assert!(detection_value(Measure::FalseAlarmRate, &fakes).is_err());
    }

    #[test]
    fn a_group_against_itself_differs_by_nothing() {
        let scores: Vec<f64> = (0..90).map(|i| f64::from(i * 37 % 90)).collect();
        let labels: Vec<bool> = (0..90).map(|i| i % 3 != 0).collect();
        let first: Vec<bool> = (0..90).map(|i| i % 3 == 1).collect();
        let clusters: Vec<i64> = (0..90).map(|i| i / 3).collect();
        for measure in [Measure::Auc, Measure::AveragePrecision, Measure::EqualErrorRate] {
            let there =
                detection_difference(measure, &scored(&scores, &labels), &first, &clusters, &Resampling::default())
                    .unwrap();
            let swapped: Vec<bool> = first.iter().map(|f| !f).collect();
            let back =
                detection_difference(measure, &scored(&scores, &labels), &swapped, &clusters, &Resampling::default())
                    .unwrap();
            assert!((there.interval.value + back.interval.value).abs() < 1e-14);
            assert!((there.p_value - back.p_value).abs() < 1e-9);
        }
    }
}
