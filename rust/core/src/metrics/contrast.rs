//! Differences of two means over clusters.

use super::bootstrap::Resampling;
use super::check_unit;
use super::interval::{Contrast, Share, bootstrap_p, from_replicates, newcombe};
use super::random::Stream;
use super::rate::{ByCluster, Values};
use crate::{Error, Result};

/// The lane of sign flips: apart from every pool and attempt.
const FLIPS: u64 = 1 << 32;

/// Rows of one side: values and their clusters.
pub type Side<'a> = (&'a [f64], &'a [i64]);

/// Mean over the shared clusters of (cluster mean of `first` - cluster mean of `second`).
///
/// The interval resamples shared clusters. The p-value is a two-sided sign-flip test of the mean (Fisher 1935):
/// every pattern of signs where those are no more than the resamples, else (1 + as extreme) / (1 + resamples).
pub fn difference_paired(
    first: Side<'_>,
    second: Side<'_>,
    values: Values,
    resampling: &Resampling,
) -> Result<Contrast> {
    let (first, second) = grouped(first, second, values, resampling)?;
    let (first_means, second_means) = (first.means(), second.means());
    let differences: Vec<f64> = first
        .ids
        .iter()
        .zip(first_means)
        .filter_map(|(id, mean)| second.ids.binary_search(id).ok().map(|place| mean - second_means[place]))
        .collect();
    if differences.is_empty() {
        return Err(Error::argument("clusters_b", "no cluster shared with clusters_a"));
    }
    let value = differences.iter().sum::<f64>() / differences.len() as f64;
    let guard = match values {
        Values::Shares => paired_guard(&differences, first.rows().min(second.rows()), resampling.level),
        Values::Numbers => None,
    };
    let mut replicates = resampling.means(&differences, 0);
    let interval = from_replicates(value, &mut replicates, differences.len(), resampling.level, guard);
    Ok(Contrast { interval, p_value: sign_flip_p(&differences, resampling) })
}

/// Mean over clusters of `first` minus that of `second`, each side's clusters resampled by themselves.
///
/// The p-value is the bootstrap's: the level whose interval ends at 0.
pub fn difference_unpaired(
    first: Side<'_>,
    second: Side<'_>,
    values: Values,
    resampling: &Resampling,
) -> Result<Contrast> {
    let (first, second) = grouped(first, second, values, resampling)?;
    let side = |side: &ByCluster, lane| {
        let means = side.means();
        let share = Share::new(&means, &vec![1.0; means.len()], side.rows());
        (share, resampling.means(&means, lane), means.len())
    };
    let (a, mut replicates, clusters_a) = side(&first, 0);
    let (b, subtracted, clusters_b) = side(&second, 1);
    replicates.iter_mut().zip(subtracted).for_each(|(x, y)| *x -= y);
    let clusters = clusters_a.min(clusters_b);
    let guard = (values == Values::Shares && (a.is_near_bound() || b.is_near_bound()))
        .then(|| newcombe((a.p, a.wilson(resampling.level)), (b.p, b.wilson(resampling.level))));
    let p_value = bootstrap_p(&replicates, clusters);
    Ok(Contrast { interval: from_replicates(a.p - b.p, &mut replicates, clusters, resampling.level, guard), p_value })
}

fn grouped(
    first: Side<'_>,
    second: Side<'_>,
    values: Values,
    resampling: &Resampling,
) -> Result<(ByCluster, ByCluster)> {
    resampling.check()?;
    let by_cluster = |name, side: Side<'_>| {
        let grouped = ByCluster::new(name, side.0, side.1)?;
        if values == Values::Shares {
            check_unit(name, side.0)?;
        }
        Ok::<_, Error>(grouped)
    };
    Ok((by_cluster("values_a", first)?, by_cluster("values_b", second)?))
}

/// Few clusters differ (or nearly all differ by 1): gains and losses are shares near a bound.
fn paired_guard(differences: &[f64], rows: f64, level: f64) -> Option<(f64, f64)> {
    let ones = vec![1.0; differences.len()];
    let part = |sign: f64| -> Vec<f64> { differences.iter().map(|d| (sign * d).clamp(0.0, 1.0)).collect() };
    let (gains, losses) = (Share::new(&part(1.0), &ones, rows), Share::new(&part(-1.0), &ones, rows));
    (gains.is_near_bound() && losses.is_near_bound())
        .then(|| newcombe((gains.p, gains.wilson(level)), (losses.p, losses.wilson(level))))
}

/// Share of sign patterns whose sum is at least as far from 0.
fn sign_flip_p(differences: &[f64], resampling: &Resampling) -> f64 {
    // Clusters without a difference are the same under either sign.
    let moved: Vec<f64> = differences.iter().copied().filter(|d| d.abs() > 0.0).collect();
    let scale: f64 = moved.iter().map(|d| d.abs()).sum();
    let reached = moved.iter().sum::<f64>().abs() - 1e-12 * scale;
    let patterns = 1_u64.checked_shl(moved.len() as u32).filter(|&count| count <= resampling.resamples as u64);
    if let Some(patterns) = patterns {
        let extreme = (0..patterns).filter(|&signs| flipped_sum(&moved, |_| signs).abs() >= reached).count();
        return extreme as f64 / patterns as f64;
    }
    let sums = resampling.run(
        moved.len(),
        || (),
        |(), resample| {
            let stream = Stream::new(resampling.seed, resample, FLIPS);
            flipped_sum(&moved, |block| stream.word(block))
        },
    );
    let extreme = sums.iter().filter(|sum| sum.abs() >= reached).count();
    (1 + extreme) as f64 / (1 + sums.len()) as f64
}

/// Σ ±d, the signs from the bits of one word per 64 differences.
fn flipped_sum(differences: &[f64], word: impl Fn(u64) -> u64) -> f64 {
    let mut sum = 0.0;
    for (block, part) in (0..).zip(differences.chunks(64)) {
        let signs = word(block);
        for (bit, d) in part.iter().enumerate() {
            sum += f64::from_bits(d.to_bits() ^ (((signs >> bit) & 1) << 63));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(flagged: usize, prompts: usize) -> (Vec<f64>, Vec<i64>) {
        ((0..prompts).map(|i| f64::from(u8::from(i < flagged))).collect(), (0..prompts as i64).collect())
    }

    #[test]
    fn few_signs_are_counted_out() {
        // Of the 8 patterns of (1, 2, 3) two are as extreme as all equal.
        assert!((sign_flip_p(&[1.0, 2.0, 3.0, 0.0], &Resampling::default()) - 0.25).abs() < 1e-15);
        assert!((sign_flip_p(&[0.0; 5], &Resampling::default()) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn many_signs_are_drawn() {
        let differences: Vec<f64> = (0..100).map(|i| if i < 60 { 1.0 } else { -1.0 }).collect();
        // Binomial(100, 1/2), two-sided P(at least 60) = 0.0569.
        assert!((sign_flip_p(&differences, &Resampling::default()) - 0.0569).abs() < 0.008);
    }

    #[test]
    fn no_difference_seen_is_not_none_possible() {
        let (values, clusters) = flags(0, 100);
        let side = (values.as_slice(), clusters.as_slice());
        for contrast in [difference_paired, difference_unpaired] {
            let found = contrast(side, side, Values::Shares, &Resampling::default()).unwrap();
            let (low, high) = found.interval.bounds.unwrap();
            assert!(low < -0.02 && high > 0.02 && (found.p_value - 1.0).abs() < 1e-12, "{found:?}");
        }
    }

    #[test]
    fn sides_swap() {
        let ((a, ids_a), (b, ids_b)) = (flags(40, 100), flags(25, 100));
        for contrast in [difference_paired, difference_unpaired] {
            let there = contrast((&a, &ids_a), (&b, &ids_b), Values::Shares, &Resampling::default()).unwrap();
            let back = contrast((&b, &ids_b), (&a, &ids_a), Values::Shares, &Resampling::default()).unwrap();
            assert!((there.interval.value - 0.15).abs() < 1e-12 && (back.interval.value + 0.15).abs() < 1e-12);
            assert!((there.p_value - back.p_value).abs() < 0.02);
        }
    }

    #[test]
    fn nothing_shared_is_refused() {
        let found = difference_paired((&[1.0], &[1]), (&[1.0], &[2]), Values::Shares, &Resampling::default());
        assert!(found.unwrap_err().to_string().contains("no cluster shared"));
    }
}
