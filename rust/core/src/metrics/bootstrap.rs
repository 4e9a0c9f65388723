//! The three engines of the cluster bootstrap (Field and Welsh 2007: whole clusters, with replacement).
//!
//! Threads are scoped and live for one call: there is no pool that a fork could break, and each resample writes its
//! own place, so that no sum is in order of arrival.

use std::num::NonZero;
use std::thread;

use super::clusters::Pools;
use super::interval::check_level;
use super::random::Stream;
use crate::{Error, Result};

/// How often a resample that leaves the statistic undefined is drawn again.
const ATTEMPTS: u64 = 64;
/// Fewer resamples than this do not hold a percentile.
const MIN_RESAMPLES: usize = 100;
/// Work of one thread, in draws or rows, below which starting it costs more than it saves.
const THREAD_WORK: usize = 1 << 18;

/// How resamples are drawn and read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resampling {
    /// Number of resamples, at least 100.
    pub resamples: usize,
    /// Resample `r` is a function of `seed` and `r`.
    pub seed: u64,
    /// Confidence level in (0, 1).
    pub level: f64,
    /// Threads at most; none for as many as the machine has. The result does not depend on it.
    pub threads: Option<NonZero<usize>>,
}

impl Default for Resampling {
    fn default() -> Self {
        Self { resamples: 10_000, seed: 0, level: 0.95, threads: None }
    }
}

impl Resampling {
    /// Refuses a level outside (0, 1) and too few resamples.
    pub(super) fn check(&self) -> Result<()> {
        check_level(self.level)?;
        if self.resamples < MIN_RESAMPLES {
            return Err(Error::argument("resamples", format!("{} are fewer than {MIN_RESAMPLES}", self.resamples)));
        }
        Ok(())
    }

    /// `resamples` numbers: `one(scratch, r)` for each r, in order. `work` is the cost of one, in draws or rows.
    pub(super) fn run<S>(
        &self,
        work: usize,
        scratch: impl Fn() -> S + Sync,
        one: impl Fn(&mut S, u64) -> f64 + Sync,
    ) -> Vec<f64> {
        let mut replicates = vec![0.0; self.resamples];
        let fill = |part: &mut [f64], first: usize| {
            let mut scratch = scratch();
            for (slot, resample) in part.iter_mut().zip(first as u64..) {
                *slot = one(&mut scratch, resample);
            }
        };
        let machine = || thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
        let useful = work.saturating_mul(self.resamples) / THREAD_WORK + 1;
        let threads = self.threads.unwrap_or_else(machine).get().min(useful);
        if threads == 1 {
            fill(&mut replicates, 0);
            return replicates;
        }
        let chunk = replicates.len().div_ceil(threads);
        thread::scope(|scope| {
            for (index, part) in replicates.chunks_mut(chunk).enumerate() {
                let fill = &fill;
                scope.spawn(move || fill(part, index * chunk));
            }
        });
        replicates
    }

    /// As [`run`](Self::run) for a statistic that a resample may leave undefined: it is drawn again (`one` is told
    /// which attempt this is), and refused where that does not help.
    fn run_defined<S>(
        &self,
        work: usize,
        scratch: impl Fn() -> S + Sync,
        one: impl Fn(&mut S, u64, u64) -> Option<f64> + Sync,
    ) -> Result<Vec<f64>> {
        let replicates = self.run(work, scratch, |scratch, resample| {
            (0..ATTEMPTS).find_map(|attempt| one(scratch, resample, attempt)).unwrap_or(f64::NAN)
        });
        if replicates.iter().any(|x| x.is_nan()) {
            return Err(Error::argument("clusters", "too few: the statistic is undefined in most resamples"));
        }
        Ok(replicates)
    }

    /// Means of resampled `values`, one per cluster. `lane` 0 draws what pool 0 draws in the other engines.
    pub(super) fn means(&self, values: &[f64], lane: u64) -> Vec<f64> {
        let n = values.len();
        self.run(n, || (), |(), resample| resampled_sum(values, Stream::new(self.seed, resample, lane)) / n as f64)
    }

    /// A statistic of the resampled cluster totals.
    pub(super) fn of_totals(
        &self,
        pools: &Pools,
        totals: &Totals,
        statistic: impl Fn(&[f64]) -> Option<f64> + Sync,
    ) -> Result<Vec<f64>> {
        let work = pools.draws() * totals.width;
        let scratch = || vec![0.0; totals.width];
        self.run_defined(work, scratch, |sums, resample, attempt| {
            sums.fill(0.0);
            for (lane, pool) in (0..).zip(&pools.0) {
                Stream::new(self.seed, resample, lane + 8 * attempt).resample(pool.len(), |i| {
                    sums.iter_mut().zip(totals.row(pool[i] as usize)).for_each(|(sum, cell)| *sum += cell);
                });
            }
            statistic(sums)
        })
    }

    /// A statistic of the resampled cluster weights (how often each cluster was drawn); `rows` is its cost.
    pub(super) fn of_weights(
        &self,
        pools: &Pools,
        rows: usize,
        statistic: impl Fn(&[u32]) -> Option<f64> + Sync,
    ) -> Result<Vec<f64>> {
        let scratch = || vec![0_u32; pools.draws()];
        self.run_defined(rows, scratch, |weights, resample, attempt| {
            weights.fill(0);
            for (lane, pool) in (0..).zip(&pools.0) {
                let stream = Stream::new(self.seed, resample, lane + 8 * attempt);
                stream.resample(pool.len(), |i| weights[pool[i] as usize] += 1);
            }
            statistic(weights)
        })
    }
}

/// Additive quantities of each cluster: `width` numbers per cluster.
#[derive(Debug, Clone)]
pub(super) struct Totals {
    width: usize,
    cells: Vec<f64>,
}

impl Totals {
    pub(super) fn zeros(clusters: usize, width: usize) -> Self {
        Self { width, cells: vec![0.0; clusters * width] }
    }

    pub(super) fn row(&self, cluster: usize) -> &[f64] {
        &self.cells[cluster * self.width..(cluster + 1) * self.width]
    }

    pub(super) fn row_mut(&mut self, cluster: usize) -> &mut [f64] {
        &mut self.cells[cluster * self.width..(cluster + 1) * self.width]
    }

    /// The totals of the data as they are.
    pub(super) fn sum(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.width];
        for row in self.cells.chunks_exact(self.width) {
            sums.iter_mut().zip(row).for_each(|(sum, cell)| *sum += cell);
        }
        sums
    }
}

/// The sum of one resample of `values`, in eight partial sums: the draws do not wait for each other.
#[inline]
fn resampled_sum(values: &[f64], stream: Stream) -> f64 {
    let n = values.len();
    let mut sums = [0.0_f64; 8];
    for block in 0..(n / 8) as u64 {
        for k in 0..4 {
            let (first, second) = stream.pair(4 * block + k, n as u64);
            sums[2 * k as usize] += values[first];
            sums[2 * k as usize + 1] += values[second];
        }
    }
    let mut rest = 0.0;
    for draw in n / 8 * 8..n {
        let (first, second) = stream.pair(draw as u64 / 2, n as u64);
        rest += values[if draw % 2 == 0 { first } else { second }];
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_agree_on_the_same_draws() {
        let values: Vec<f64> = (0..37).map(|i| f64::from(i * i % 11)).collect();
        let resampling = Resampling { resamples: 500, ..Resampling::default() };
        let pools = Pools::joint(values.len());
        let totals = Totals { width: 1, cells: values.clone() };
        let by_mean = resampling.means(&values, 0);
        let by_total = resampling.of_totals(&pools, &totals, |t| Some(t[0] / 37.0)).unwrap();
        let by_weight = resampling
            .of_weights(&pools, 37, |w| Some(w.iter().zip(&values).map(|(&w, v)| f64::from(w) * v).sum::<f64>() / 37.0))
            .unwrap();
        assert_eq!(by_mean, by_total);
        assert_eq!(by_mean, by_weight);
    }

    #[test]
    fn thread_count_changes_nothing() {
        let values: Vec<f64> = (0..2000).map(|i| f64::from(i).sin()).collect();
        let with = |threads| Resampling { resamples: 1001, threads: NonZero::new(threads), ..Resampling::default() };
        assert_eq!(with(1).means(&values, 0), with(3).means(&values, 0));
    }

    #[test]
    fn a_statistic_that_is_never_defined_is_refused() {
        let resampling = Resampling { resamples: 100, ..Resampling::default() };
        assert!(resampling.of_weights(&Pools::joint(3), 3, |_| None).is_err());
    }
}
