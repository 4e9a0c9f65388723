//! Expected calibration error (Naeini, Cooper and Hauskrecht, AAAI 2015).

use super::bootstrap::{Resampling, Totals};
use super::clusters::{Pools, dense};
use super::interval::{Interval, from_replicates};
use super::{check_length, check_unit, check_values};
use crate::{Error, Result};

/// How probabilities are put into bins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binning {
    /// Bins of equal width over [0, 1]; an edge belongs to the bin above it.
    Width,
    /// Bins of equal counts by rank, equal probabilities in one bin (that of the first of them). Resamples keep the
    /// bins of the data.
    Mass,
}

/// Σ over bins of (rows in the bin / rows) |mean probability - share of fakes|, with its interval.
///
/// Biased upwards in small samples, as the plain estimator is. `probabilities` are of being fake.
pub fn calibration_error(
    probabilities: &[f64],
    labels: &[bool],
    clusters: &[i64],
    bins: usize,
    binning: Binning,
    resampling: &Resampling,
) -> Result<Interval> {
    resampling.check()?;
    check_values("probabilities", probabilities, clusters)?;
    check_unit("probabilities", probabilities)?;
    check_length("labels", labels.len(), probabilities.len())?;
    if bins == 0 || bins > probabilities.len().max(1000) {
        return Err(Error::argument("bins", format!("{bins} bins for {} rows", probabilities.len())));
    }
    let (index, ids) = dense(clusters);
    let mut totals = Totals::zeros(ids.len(), bins + 1);
    let placed = match binning {
        Binning::Width => probabilities.iter().map(|p| ((p * bins as f64) as usize).min(bins - 1)).collect(),
        Binning::Mass => by_rank(probabilities, bins),
    };
    for (row, &bin) in placed.iter().enumerate() {
        let cells = totals.row_mut(index[row] as usize);
        cells[bin] += probabilities[row] - f64::from(u8::from(labels[row]));
        cells[bins] += 1.0;
    }
    let error = |t: &[f64]| Some(t[..bins].iter().map(|gap| gap.abs()).sum::<f64>() / t[bins]);
    let pools = Pools::by_kind(&index, labels.iter().map(|&fake| u8::from(fake)), ids.len());
    let value = error(&totals.sum()).unwrap_or_default();
    let mut replicates = resampling.of_totals(&pools, &totals, error)?;
    Ok(from_replicates(value, &mut replicates, pools.smallest(), resampling.level, None))
}

fn by_rank(probabilities: &[f64], bins: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|&i, &j| probabilities[i].total_cmp(&probabilities[j]));
    let mut placed = vec![0; probabilities.len()];
    let mut first = 0;
    for tied in order.chunk_by(|&i, &j| probabilities[i].total_cmp(&probabilities[j]).is_eq()) {
        for &row in tied {
            placed[row] = first * bins / probabilities.len();
        }
        first += tied.len();
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_errors() {
        let clusters: Vec<i64> = (0..4).collect();
        let error = |p: &[f64], binning| {
            calibration_error(p, &[false, false, true, true], &clusters, 2, binning, &Resampling::default())
                .unwrap()
                .value
        };
        assert!((error(&[0.1, 0.3, 0.6, 0.8], Binning::Width) - 0.25).abs() < 1e-12);
        assert!((error(&[0.6, 0.7, 0.8, 0.9], Binning::Mass) - 0.4).abs() < 1e-12);
        assert!(error(&[0.0, 0.0, 1.0, 1.0], Binning::Width).abs() < 1e-15);
    }
}
