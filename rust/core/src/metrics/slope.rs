//! The slope of a value on a level (v0, v1, v2 as 0, 1, 2).

use super::bootstrap::{Resampling, Totals};
use super::clusters::{Pools, dense};
use super::interval::{Contrast, bootstrap_p, from_replicates};
use super::{check_length, check_values};
use crate::{Error, Result};

/// Least-squares slope of `values` on `levels`, one point per cluster and level (the mean of its rows), interval and
/// p-value by cluster bootstrap.
///
/// Where every cluster has every level it is the mean of the clusters' own slopes.
pub fn slope(values: &[f64], levels: &[i64], clusters: &[i64], resampling: &Resampling) -> Result<Contrast> {
    resampling.check()?;
    check_values("values", values, clusters)?;
    check_length("levels", levels.len(), values.len())?;
    let (index, ids) = dense(clusters);
    let (level_index, distinct) = dense(levels);
    if distinct.len() < 2 {
        return Err(Error::argument("levels", "a single level has no slope"));
    }
    let points = distinct.len();
    let mut cells = vec![(0.0, 0.0); ids.len() * points];
    for ((&cluster, &level), value) in index.iter().zip(&level_index).zip(values) {
        let cell = &mut cells[cluster as usize * points + level as usize];
        *cell = (cell.0 + value, cell.1 + 1.0);
    }
    let mut totals = Totals::zeros(ids.len(), 5);
    for (cluster, of_cluster) in cells.chunks_exact(points).enumerate() {
        for (&(sum, count), &level) in of_cluster.iter().zip(&distinct).filter(|((_, count), _)| *count > 0.0) {
            let (x, y) = (level as f64, sum / count);
            let row = totals.row_mut(cluster);
            row.iter_mut().zip([1.0, x, y, x * x, x * y]).for_each(|(total, add)| *total += add);
        }
    }
    let least_squares = |t: &[f64]| {
        let spread = t[0] * t[3] - t[1] * t[1];
        (spread > 0.0).then(|| (t[0] * t[4] - t[1] * t[2]) / spread)
    };
    let value = least_squares(&totals.sum()).ok_or_else(|| Error::argument("levels", "a single level has no slope"))?;
    let mut replicates = resampling.of_totals(&Pools::joint(ids.len()), &totals, least_squares)?;
    let p_value = bootstrap_p(&replicates, ids.len());
    Ok(Contrast { interval: from_replicates(value, &mut replicates, ids.len(), resampling.level, None), p_value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_rows_weigh_nothing() {
        let single =
            slope(&[0.0, 0.2, 0.4, 0.1, 0.1, 0.4], &[0, 1, 2, 0, 1, 2], &[1, 1, 1, 2, 2, 2], &Resampling::default());
        let doubled = slope(
            &[0.0, 0.0, 0.2, 0.4, 0.1, 0.1, 0.4],
            &[0, 0, 1, 2, 0, 1, 2],
            &[1, 1, 1, 1, 2, 2, 2],
            &Resampling::default(),
        );
        let single = single.unwrap();
        assert!((single.interval.value - 0.175).abs() < 1e-12);
        assert_eq!(single, doubled.unwrap());
        assert!(slope(&[1.0, 2.0], &[1, 1], &[1, 2], &Resampling::default()).is_err());
    }
}
