//! Rank statistics of scores: AUC, average precision, equal error rate, ties. `true` is fake, the positive class.
//!
//! Rows are ranked once; a resample then costs one walk over them with the weights of their clusters.
//! With *strata* (the fold whose model gave the score) only rows of one stratum are compared, and each stratum weighs
//! as many as it has pairs of a real and a fake.

use super::check_length;
use super::sort::{key, sorted_keys};
use crate::{Error, Result};

/// Refuses NaN scores, unequal lengths, and the lack of a label that is `needed`.
pub(super) fn check_scores(scores: &[f64], labels: &[bool], needed: impl Fn(bool) -> bool) -> Result<()> {
    check_length("labels", labels.len(), scores.len())?;
    if scores.is_empty() {
        return Err(Error::argument("scores", "no scores"));
    }
    if let Some(row) = scores.iter().position(|s| s.is_nan()) {
        return Err(Error::argument("scores", format!("row {row} is NaN; unscored rows belong elsewhere")));
    }
    match [(false, "no real rows"), (true, "no fake rows")]
        .iter()
        .find(|(fake, _)| needed(*fake) && !labels.contains(fake))
    {
        Some((_, lack)) => Err(Error::argument("labels", *lack)),
        None => Ok(()),
    }
}

/// Area under the ROC curve: the share of (real, fake) pairs in which the fake scores higher, ties counting half.
pub fn auc(scores: &[f64], labels: &[bool]) -> Result<f64> {
    let pairs = Pairs::count(scores, labels)?;
    Ok((pairs.below + pairs.below_or_tied) as f64 / (2.0 * pairs.all))
}

/// The share of (real, fake) pairs with the same score.
pub fn tie_share(scores: &[f64], labels: &[bool]) -> Result<f64> {
    let pairs = Pairs::count(scores, labels)?;
    Ok((pairs.below_or_tied - pairs.below) as f64 / pairs.all)
}

/// Pairs of a real and a fake: all, and those where the real is below (or tied with) the fake.
struct Pairs {
    all: f64,
    below: u64,
    below_or_tied: u64,
}

impl Pairs {
    fn count(scores: &[f64], labels: &[bool]) -> Result<Self> {
        check_scores(scores, labels, |_| true)?;
        let (keys, count) = sorted_keys(scores, labels);
        let (reals, fakes) = keys.split_at(count);
        let all = reals.len() as f64 * fakes.len() as f64;
        let below = merge_count(reals, fakes, |real, fake| real < fake);
        Ok(Self { all, below, below_or_tied: merge_count(reals, fakes, |real, fake| real <= fake) })
    }
}

/// Σ over fakes of the number of reals before it, by a merge without unpredictable branches.
#[inline]
fn merge_count(reals: &[u64], fakes: &[u64], before: impl Fn(u64, u64) -> bool) -> u64 {
    let (mut real, mut fake, mut pairs) = (0, 0, 0_u64);
    while real < reals.len() && fake < fakes.len() {
        let step = before(reals[real], fakes[fake]);
        pairs += if step { 0 } else { real as u64 };
        real += usize::from(step);
        fake += usize::from(!step);
    }
    pairs + (fakes.len() - fake) as u64 * reals.len() as u64
}

/// Which rank statistic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RankStatistic {
    Auc,
    AveragePrecision,
    EqualErrorRate,
}

/// Rows in order of score, as runs of reals and fakes.
#[derive(Debug, Clone)]
pub(super) struct Ranking {
    statistic: RankStatistic,
    strata: Vec<Stratum>,
}

#[derive(Debug, Clone, Default)]
struct Stratum {
    runs: Vec<Run>,
    /// The cluster of each row: of a run its reals, then its fakes.
    members: Vec<u32>,
}

/// Rows of one score (`tied`), or reals that are all below fakes that follow.
#[derive(Debug, Clone, Copy)]
struct Run {
    reals: u32,
    fakes: u32,
    tied: bool,
}

/// A row to rank.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) score: f64,
    pub(super) fake: bool,
    pub(super) cluster: u32,
    pub(super) stratum: u32,
}

impl Ranking {
    pub(super) fn new(statistic: RankStatistic, rows: impl Iterator<Item = Row>) -> Self {
        let descending = statistic == RankStatistic::AveragePrecision;
        let order = |row: &Row| if descending { !key(row.score) } else { key(row.score) };
        let mut rows: Vec<(u32, u64, bool, u32)> =
            rows.map(|row| (row.stratum, order(&row), row.fake, row.cluster)).collect();
        rows.sort_unstable();
        let mut strata = vec![];
        for of_stratum in rows.chunk_by(|a, b| a.0 == b.0) {
            let mut stratum = Stratum { runs: vec![], members: of_stratum.iter().map(|row| row.3).collect() };
            for tied in of_stratum.chunk_by(|a, b| a.1 == b.1) {
                let fakes = tied.iter().filter(|row| row.2).count() as u32;
                stratum.push(Run { reals: tied.len() as u32 - fakes, fakes, tied: true }, statistic);
            }
            strata.push(stratum);
        }
        Self { statistic, strata }
    }

    /// The number of rows.
    pub(super) fn rows(&self) -> usize {
        self.strata.iter().map(|stratum| stratum.members.len()).sum()
    }

    /// The statistic with each row counted as often as its cluster; none where no stratum has a real and a fake.
    pub(super) fn evaluate(&self, weights: &[u32]) -> Option<f64> {
        let (mut sum, mut pairs) = (0.0, 0.0);
        for stratum in &self.strata {
            let (value, of_stratum) = match self.statistic {
                RankStatistic::Auc => stratum.pairs_won(weights),
                RankStatistic::AveragePrecision => stratum.average_precision(weights),
                RankStatistic::EqualErrorRate => stratum.equal_error(weights),
            };
            sum += value;
            pairs += of_stratum;
        }
        (pairs > 0.0).then(|| sum / pairs)
    }
}

impl Stratum {
    /// For the AUC, runs of reals and then fakes without a tie between them are one run.
    fn push(&mut self, run: Run, statistic: RankStatistic) {
        let untied = run.reals == 0 || run.fakes == 0;
        if statistic == RankStatistic::Auc && untied {
            match self.runs.last_mut() {
                Some(last) if !last.tied && (last.fakes == 0 || run.reals == 0) => {
                    last.reals += run.reals;
                    last.fakes += run.fakes;
                }
                _ => self.runs.push(Run { tied: false, ..run }),
            }
        } else {
            self.runs.push(run);
        }
    }

    /// The runs with the weights of their reals and fakes.
    #[inline]
    fn weighted<'a>(&'a self, weights: &'a [u32]) -> impl Iterator<Item = (u64, u64, bool)> + 'a {
        let mut rest = self.members.as_slice();
        let mut take = move |count: u32| {
            let (head, tail) = rest.split_at(count as usize);
            rest = tail;
            head.iter().map(|&cluster| u64::from(weights[cluster as usize])).sum::<u64>()
        };
        self.runs.iter().map(move |run| (take(run.reals), take(run.fakes), run.tied))
    }

    /// Pairs that the fake wins, and all pairs. Exact: integers until the end.
    fn pairs_won(&self, weights: &[u32]) -> (f64, f64) {
        let (mut reals, mut fakes, mut twice) = (0_u64, 0_u64, 0_u128);
        for (r, f, tied) in self.weighted(weights) {
            let won = if tied { 2 * reals + r } else { 2 * (reals + r) };
            twice += u128::from(f) * u128::from(won);
            reals += r;
            fakes += f;
        }
        (twice as f64 / 2.0, reals as f64 * fakes as f64)
    }

    /// Σ (gain in recall × precision) over thresholds from the highest down, times the number of pairs, and that.
    fn average_precision(&self, weights: &[u32]) -> (f64, f64) {
        let (mut reals, mut fakes, mut sum) = (0_u64, 0_u64, 0.0);
        for (r, f, _) in self.weighted(weights) {
            reals += r;
            fakes += f;
            if f > 0 {
                sum += f as f64 * (fakes as f64 / (reals + fakes) as f64);
            }
        }
        let pairs = reals as f64 * fakes as f64;
        (if fakes > 0 { sum / fakes as f64 * pairs } else { 0.0 }, pairs)
    }

    /// The rate at which the linearly interpolated ROC curve has as many false alarms as misses, times the number of
    /// pairs, and that.
    fn equal_error(&self, weights: &[u32]) -> (f64, f64) {
        let (reals, fakes) = self.weighted(weights).fold((0, 0), |sum, (r, f, _)| (sum.0 + r, sum.1 + f));
        if reals == 0 || fakes == 0 {
            return (0.0, 0.0);
        }
        let (all_reals, all_fakes) = (reals as f64, fakes as f64);
        let (mut passed, mut missed) = (0_u64, 0_u64);
        let (mut alarm, mut miss) = (1.0, 0.0);
        for (r, f, _) in self.weighted(weights) {
            passed += r;
            missed += f;
            let (next_alarm, next_miss) = (1.0 - passed as f64 / all_reals, missed as f64 / all_fakes);
            if next_miss >= next_alarm {
                let gap = alarm - miss;
                let crossing = gap / (gap + next_miss - next_alarm);
                miss += crossing * (next_miss - miss);
                break;
            }
            (alarm, miss) = (next_alarm, next_miss);
        }
        (miss * all_reals * all_fakes, all_reals * all_fakes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(n: u32, levels: u32) -> (Vec<f64>, Vec<bool>) {
        (0..n).map(|i| (f64::from(i * i * 31 % 97 % levels) + f64::from(i % 3), i % 3 == 0)).unzip()
    }

    fn ranking(statistic: RankStatistic, scores: &[f64], labels: &[bool]) -> Ranking {
        let rows = scores.iter().zip(labels).zip(0..);
        Ranking::new(statistic, rows.map(|((&score, &fake), cluster)| Row { score, fake, cluster, stratum: 0 }))
    }

    fn by_pairs(scores: &[f64], labels: &[bool], weights: &[u32]) -> f64 {
        let (mut won, mut all) = (0.0, 0.0);
        for i in (0..scores.len()).filter(|&i| labels[i]) {
            for j in (0..scores.len()).filter(|&j| !labels[j]) {
                let weight = f64::from(weights[i] * weights[j]);
                all += weight;
                won += weight
                    * if scores[i] > scores[j] {
                        1.0
                    } else if scores[i] < scores[j] {
                        0.0
                    } else {
                        0.5
                    };
            }
        }
        won / all
    }

    #[test]
    fn auc_is_the_share_of_pairs() {
        for levels in [2, 5, 97] {
            let (scores, labels) = sample(120, levels);
            let expected = by_pairs(&scores, &labels, &[1; 120]);
            assert!((auc(&scores, &labels).unwrap() - expected).abs() < 1e-14);
            let weights: Vec<u32> = (0..120).map(|i| i * 7 % 4).collect();
            let weighted = ranking(RankStatistic::Auc, &scores, &labels).evaluate(&weights).unwrap();
            assert!((weighted - by_pairs(&scores, &labels, &weights)).abs() < 1e-14);
        }
    }

    #[test]
    fn strata_compare_within() {
        let scores = [0.0, 1.0, 10.0, 9.0];
        let labels = [false, true, false, true];
        let rows =
            (0..4).map(|i| Row { score: scores[i], fake: labels[i], cluster: i as u32, stratum: (i / 2) as u32 });
        assert_eq!(Ranking::new(RankStatistic::Auc, rows).evaluate(&[1; 4]), Some(0.5));
    }

    #[test]
    fn equal_error_of_known_curves() {
        let eer = |scores: &[f64], labels: &[bool]| {
            ranking(RankStatistic::EqualErrorRate, scores, labels).evaluate(&vec![1; scores.len()]).unwrap()
        };
        assert!(eer(&[0.0, 1.0], &[false, true]).abs() < 1e-15);
        assert!((eer(&[0.0, 1.0], &[true, false]) - 1.0).abs() < 1e-15);
        assert!((eer(&[0.5, 0.5], &[true, false]) - 0.5).abs() < 1e-15);
        assert!((eer(&[0.1, 0.3, 0.2, 0.4], &[false, false, true, true]) - 0.5).abs() < 1e-15);
    }

    #[test]
    fn missing_class_and_nan_are_named() {
        assert!(auc(&[1.0], &[true]).unwrap_err().to_string().contains("no real rows"));
        assert!(auc(&[1.0], &[false]).unwrap_err().to_string().contains("no fake rows"));
        assert!(auc(&[f64::NAN, 1.0], &[false, true]).unwrap_err().to_string().contains("NaN"));
    }
}
