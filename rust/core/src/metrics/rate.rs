//! Rates and means over clusters, and the streaming counter.

use std::collections::HashMap;

use super::bootstrap::{Resampling, Totals};
use super::clusters::{Pools, dense};
use super::interval::{Interval, Share, from_replicates};
use super::{check_length, check_unit, check_values};
use crate::{Error, Result};

/// Values by cluster: `sums[c]` over `counts[c]` rows, clusters in ascending order of id.
#[derive(Debug, Clone)]
pub(super) struct ByCluster {
    pub(super) ids: Vec<i64>,
    pub(super) sums: Vec<f64>,
    pub(super) counts: Vec<f64>,
}

impl ByCluster {
    pub(super) fn new(name: &str, values: &[f64], clusters: &[i64]) -> Result<Self> {
        check_values(name, values, clusters)?;
        let (index, ids) = dense(clusters);
        let (mut sums, mut counts) = (vec![0.0; ids.len()], vec![0.0; ids.len()]);
        for (&cluster, value) in index.iter().zip(values) {
            sums[cluster as usize] += value;
            counts[cluster as usize] += 1.0;
        }
        Ok(Self { ids, sums, counts })
    }

    pub(super) fn means(&self) -> Vec<f64> {
        self.sums.iter().zip(&self.counts).map(|(sum, count)| sum / count).collect()
    }

    pub(super) fn rows(&self) -> f64 {
        self.counts.iter().sum()
    }
}

/// What the values of a contrast are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Shares in [0, 1], checked; few events get the guard of [`interval`](super::interval).
    Shares,
    /// Any finite numbers.
    Numbers,
}

/// The mean over clusters of cluster means, for values in [0, 1]: the *unsafe score* of a prompt set.
pub fn rate(values: &[f64], clusters: &[i64], resampling: &Resampling) -> Result<Interval> {
    resampling.check()?;
    let grouped = ByCluster::new("values", values, clusters)?;
    check_unit("values", values)?;
    Ok(rate_of(&grouped, resampling))
}

fn rate_of(grouped: &ByCluster, resampling: &Resampling) -> Interval {
    let means = grouped.means();
    let share = Share::new(&means, &vec![1.0; means.len()], grouped.rows());
    let mut replicates = resampling.means(&means, 0);
    from_replicates(share.p, &mut replicates, means.len(), resampling.level, share.guard(resampling.level))
}

/// As [`rate`] for any finite values; without variation between clusters the interval is the value itself.
pub fn mean(values: &[f64], clusters: &[i64], resampling: &Resampling) -> Result<Interval> {
    resampling.check()?;
    let means = ByCluster::new("values", values, clusters)?.means();
    let value = means.iter().sum::<f64>() / means.len() as f64;
    let mut replicates = resampling.means(&means, 0);
    Ok(from_replicates(value, &mut replicates, means.len(), resampling.level, None))
}

/// The share over all rows (each row weighs the same, clusters with more rows weigh more), for values in [0, 1].
pub fn share(values: &[f64], clusters: &[i64], resampling: &Resampling) -> Result<Interval> {
    let count = dense(clusters).1.len();
    share_in_pools(values, clusters, &Pools::joint(count), resampling)
}

/// [`share`] with its pools; `clusters` must be what the pools were made from.
pub(super) fn share_in_pools(
    values: &[f64],
    clusters: &[i64],
    pools: &Pools,
    resampling: &Resampling,
) -> Result<Interval> {
    resampling.check()?;
    let grouped = ByCluster::new("values", values, clusters)?;
    check_unit("values", values)?;
    let share = Share::new(&grouped.sums, &grouped.counts, grouped.rows());
    let mut totals = Totals::zeros(grouped.ids.len(), 2);
    for cluster in 0..grouped.ids.len() {
        totals.row_mut(cluster).copy_from_slice(&[grouped.sums[cluster], grouped.counts[cluster]]);
    }
    let mut replicates = resampling.of_totals(pools, &totals, |t| Some(t[0] / t[1]))?;
    Ok(from_replicates(share.p, &mut replicates, pools.smallest(), resampling.level, share.guard(resampling.level)))
}

/// Flagged and scored by cluster, for flags that come in parts: the same counts, and so the same interval, in any
/// order of updates and merges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RateCounter {
    counts: HashMap<i64, (u64, u64)>,
}

impl RateCounter {
    /// Adds a flag and a cluster per row.
    pub fn update(&mut self, flags: &[bool], clusters: &[i64]) -> Result<()> {
        check_length("clusters", clusters.len(), flags.len())?;
        for (&flag, &cluster) in flags.iter().zip(clusters) {
            let (flagged, scored) = self.counts.entry(cluster).or_default();
            *flagged += u64::from(flag);
            *scored += 1;
        }
        Ok(())
    }

    /// Adds what another counter saw.
    pub fn merge(&mut self, other: &Self) {
        for (&cluster, &(flagged, scored)) in &other.counts {
            let held = self.counts.entry(cluster).or_default();
            *held = (held.0 + flagged, held.1 + scored);
        }
    }

    /// The number of clusters and of rows so far.
    pub fn seen(&self) -> (usize, u64) {
        (self.counts.len(), self.counts.values().map(|(_, scored)| scored).sum())
    }

    /// The [`rate`] of all rows.
    pub fn finish(&self, resampling: &Resampling) -> Result<Interval> {
        resampling.check()?;
        if self.counts.is_empty() {
            return Err(Error::argument("flags", "no flags"));
        }
        let mut ids: Vec<i64> = self.counts.keys().copied().collect();
        ids.sort_unstable();
        let column = |part: fn(&(u64, u64)) -> u64| ids.iter().map(|id| part(&self.counts[id]) as f64).collect();
        let (sums, counts) = (column(|c| c.0), column(|c| c.1));
        Ok(rate_of(&ByCluster { ids, sums, counts }, resampling))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_weighs_the_same_whatever_its_samples() {
        let interval = rate(&[1.0, 0.0, 0.0, 0.0, 0.0], &[5, 9, 9, 9, 9], &Resampling::default()).unwrap();
        assert!((interval.value - 0.5).abs() < 1e-15);
        let pooled = share(&[1.0, 0.0, 0.0, 0.0, 0.0], &[5, 9, 9, 9, 9], &Resampling::default()).unwrap();
        assert!((pooled.value - 0.2).abs() < 1e-15);
    }

    #[test]
    fn the_counter_equals_the_rate() {
        let flags: Vec<bool> = (0..300).map(|i| i % 7 == 0).collect();
        let clusters: Vec<i64> = (0..300).map(|i| i * i % 31).collect();
        let values: Vec<f64> = flags.iter().map(|&f| f64::from(u8::from(f))).collect();
        let (mut first, mut second) = (RateCounter::default(), RateCounter::default());
        first.update(&flags[..100], &clusters[..100]).unwrap();
        second.update(&flags[100..], &clusters[100..]).unwrap();
        second.merge(&first);
        let resampling = Resampling::default();
        assert_eq!(second.finish(&resampling).unwrap(), rate(&values, &clusters, &resampling).unwrap());
    }

    #[test]
    fn empty_and_nan_are_refused() {
        assert!(rate(&[], &[], &Resampling::default()).is_err());
        assert!(rate(&[f64::NAN], &[1], &Resampling::default()).is_err());
        assert!(rate(&[1.5], &[1], &Resampling::default()).is_err());
        assert!(RateCounter::default().finish(&Resampling::default()).is_err());
    }
}
