//! Chance-corrected agreement between raters, with intervals over items or clusters of items.
//!
//! All three are functions of additive totals, so a resample costs a sum. Where every resample agrees fully, the
//! observed agreement gets Wilson's bounds on the number of clusters, and the coefficient follows from them.

use super::bootstrap::{Resampling, Totals};
use super::check_length;
use super::clusters::{Pools, dense};
use super::detection::is_constant;
use super::interval::{Interval, from_replicates, wilson_bounds};
use crate::{Error, Result};

/// More raters per category than this are a mistake, and their squares would not fit.
const MAX_RATERS: i64 = 1_000_000;

/// Cohen's kappa of two raters (Cohen 1960): `first[i]` and `second[i]` are the categories given to item i.
pub fn cohen_kappa(first: &[i64], second: &[i64], clusters: &[i64], resampling: &Resampling) -> Result<Interval> {
    check_length("second", second.len(), first.len())?;
    let (codes, categories) = dense(&[first, second].concat());
    let (a, b) = codes.split_at(first.len());
    let k = categories.len();
    // Items, agreements, then the marginals of each rater.
    let rows = a.iter().zip(b).map(|(&a, &b)| {
        let mut row = vec![0.0; 2 + 2 * k];
        row[0] = 1.0;
        row[1] = f64::from(u8::from(a == b));
        row[2 + a as usize] += 1.0;
        row[2 + k + b as usize] += 1.0;
        row
    });
    let chance = |t: &[f64]| t[2..2 + k].iter().zip(&t[2 + k..]).map(|(a, b)| a * b).sum::<f64>() / (t[0] * t[0]);
    estimate(&rows.collect::<Vec<_>>(), clusters, |t| (t[1] / t[0], chance(t)), resampling)
}

/// Fleiss' kappa (Fleiss 1971): `counts[item * categories + c]` raters gave item the category c; every item has the
/// same number of raters, at least 2.
pub fn fleiss_kappa(counts: &[i64], categories: usize, clusters: &[i64], resampling: &Resampling) -> Result<Interval> {
    if categories == 0 || !counts.len().is_multiple_of(categories) {
        return Err(Error::argument("counts", "not a table of items and categories"));
    }
    let raters = counts.iter().take(categories).fold(0_i64, |sum, &n| sum.saturating_add(n));
    let mut rows = vec![];
    for (item, of_item) in counts.chunks_exact(categories).enumerate() {
        if of_item.iter().any(|n| !(0..=MAX_RATERS).contains(n)) || of_item.iter().sum::<i64>() != raters || raters < 2
        {
            return Err(Error::argument("counts", format!("item {item}: every item needs the same 2 or more raters")));
        }
        let squares: i64 = of_item.iter().map(|n| n * n).sum();
        let mut row = vec![1.0, (squares - raters) as f64 / (raters * (raters - 1)) as f64];
        row.extend(of_item.iter().map(|&n| n as f64 / raters as f64));
        rows.push(row);
    }
    let chance = |t: &[f64]| t[2..].iter().map(|n| n * n).sum::<f64>() / (t[0] * t[0]);
    estimate(&rows, clusters, |t| (t[1] / t[0], chance(t)), resampling)
}

/// Krippendorff's alpha for nominal data (Krippendorff 2011, "Computing Krippendorff's alpha-reliability"):
/// `ratings[item * raters + r]`, a negative code for a missing rating. Items with fewer than two ratings are left out.
pub fn krippendorff_alpha(
    ratings: &[i64],
    raters: usize,
    clusters: &[i64],
    resampling: &Resampling,
) -> Result<Interval> {
    if raters == 0 || !ratings.len().is_multiple_of(raters) {
        return Err(Error::argument("ratings", "not a table of raters and items"));
    }
    check_length("clusters", clusters.len(), ratings.len() / raters)?;
    let (codes, distinct) = dense(ratings);
    let missing = distinct.partition_point(|&code| code < 0);
    let k = distinct.len() - missing;
    let (mut rows, mut kept) = (vec![], vec![]);
    for (of_item, &cluster) in codes.chunks_exact(raters).zip(clusters) {
        // Pairable ratings, agreement (Σ of the coincidence matrix's diagonal), then the marginals.
        let mut row = vec![0.0; 2 + k];
        for code in of_item.iter().filter_map(|&code| (code as usize).checked_sub(missing)) {
            row[0] += 1.0;
            row[2 + code] += 1.0;
        }
        if row[0] >= 2.0 {
            row[1] = row[2..].iter().map(|n| n * (n - 1.0)).sum::<f64>() / (row[0] - 1.0);
            rows.push(row);
            kept.push(cluster);
        }
    }
    if rows.is_empty() {
        return Err(Error::argument("ratings", "no item with two ratings"));
    }
    let chance = |t: &[f64]| t[2..].iter().map(|n| n * (n - 1.0)).sum::<f64>() / (t[0] * (t[0] - 1.0));
    estimate(&rows, &kept, |t| (t[1] / t[0], chance(t)), resampling)
}

/// (observed - chance) / (1 - chance) of the totals of `rows`.
fn estimate(
    rows: &[Vec<f64>],
    clusters: &[i64],
    agreements: impl Fn(&[f64]) -> (f64, f64) + Sync,
    resampling: &Resampling,
) -> Result<Interval> {
    resampling.check()?;
    let Some(first) = rows.first() else { return Err(Error::argument("items", "no items")) };
    check_length("clusters", clusters.len(), rows.len())?;
    let (index, ids) = dense(clusters);
    let mut totals = Totals::zeros(ids.len(), first.len());
    for (row, &cluster) in rows.iter().zip(&index) {
        totals.row_mut(cluster as usize).iter_mut().zip(row).for_each(|(total, add)| *total += add);
    }
    let corrected = |observed: f64, chance: f64| (chance < 1.0).then(|| (observed - chance) / (1.0 - chance));
    let coefficient = |t: &[f64]| {
        let (observed, chance) = agreements(t);
        corrected(observed, chance)
    };
    let (observed, chance) = agreements(&totals.sum());
    let Some(value) = corrected(observed, chance) else {
        return Err(Error::argument("ratings", "a single category: agreement beyond chance is undefined"));
    };
    let mut replicates = resampling.of_totals(&Pools::joint(ids.len()), &totals, coefficient)?;
    let guard =
        is_constant(&replicates).then(|| wilson_bounds(observed.clamp(0.0, 1.0), ids.len() as f64, resampling.level));
    let guard = guard.and_then(|(low, high)| corrected(low, chance).zip(corrected(high, chance)));
    Ok(from_replicates(value, &mut replicates, ids.len(), resampling.level, guard))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(n: usize) -> Vec<i64> {
        (0..n as i64).collect()
    }

    #[test]
    fn fleiss_meets_his_table() {
        // The example of Fleiss 1971 as in Wikipedia: 10 items, 14 raters, kappa 0.210.
        let counts = [
            [0, 0, 0, 0, 14],
            [0, 2, 6, 4, 2],
            [0, 0, 3, 5, 6],
            [0, 3, 9, 2, 0],
            [2, 2, 8, 1, 1],
            [7, 7, 0, 0, 0],
            [3, 2, 6, 3, 0],
            [2, 5, 3, 2, 2],
            [6, 5, 2, 1, 0],
            [0, 2, 2, 3, 7],
        ];
        let kappa = fleiss_kappa(counts.as_flattened(), 5, &items(10), &Resampling::default()).unwrap();
        assert!((kappa.value - 0.210).abs() < 5e-4, "{kappa:?}");
    }

    #[test]
    fn krippendorff_meets_his_example() {
        // Krippendorff 2011, example C: 4 observers, 12 units, missing values, nominal alpha 0.743.
        let by_rater = [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, -1, -1, -1],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, -1, 3],
            [-1, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, -1],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, -1],
        ];
        let ratings: Vec<i64> = (0..12).flat_map(|item| by_rater.map(|rater| rater[item])).collect();
        let alpha = krippendorff_alpha(&ratings, 4, &items(12), &Resampling::default()).unwrap();
        assert!((alpha.value - 0.743).abs() < 5e-4, "{alpha:?}");
    }

    #[test]
    fn full_agreement_is_not_certain() {
        let ratings: Vec<i64> = (0..50).map(|i| i % 2).collect();
        let kappa = cohen_kappa(&ratings, &ratings, &items(50), &Resampling::default()).unwrap();
        let (low, high) = kappa.bounds.unwrap();
        assert!((kappa.value - 1.0).abs() < 1e-12 && (high - 1.0).abs() < 1e-12 && low > 0.8 && low < 0.9, "{kappa:?}");
        assert!(cohen_kappa(&[1, 1], &[1, 1], &items(2), &Resampling::default()).is_err());
    }
}
