//! The AUC of scores that are too many to keep: counts in bins, and what the bins cannot tell.

use super::check_length;
use crate::{Error, Result};

/// A value that is off by at most `error`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Within {
    /// The value.
    pub value: f64,
    /// The most that it can be off, surely.
    pub error: f64,
}

/// Real and fake scores counted in bins of equal width; the same counts in any order of updates and merges.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreHistogram {
    low: f64,
    high: f64,
    reals: Vec<u64>,
    fakes: Vec<u64>,
}

impl ScoreHistogram {
    /// `bins` bins over [low, high]; scores outside go into the first and last bin, and the error bound holds.
    pub fn new(low: f64, high: f64, bins: usize) -> Result<Self> {
        if !(low.is_finite() && high.is_finite() && low < high) {
            return Err(Error::argument("low", format!("[{low}, {high}] is not a range")));
        }
        if !(2..=1 << 24).contains(&bins) {
            return Err(Error::argument("bins", format!("{bins} is not between 2 and 16,777,216")));
        }
        Ok(Self { low, high, reals: vec![0; bins], fakes: vec![0; bins] })
    }

    /// Counts a score and a label (`true` for fake) per row; nothing is counted where one is NaN.
    pub fn update(&mut self, scores: &[f64], labels: &[bool]) -> Result<()> {
        check_length("labels", labels.len(), scores.len())?;
        if let Some(row) = scores.iter().position(|s| s.is_nan()) {
            return Err(Error::argument("scores", format!("row {row} is NaN; unscored rows belong elsewhere")));
        }
        let (last, scale) = (self.reals.len() - 1, self.reals.len() as f64 / (self.high - self.low));
        for (score, &fake) in scores.iter().zip(labels) {
            // A float below 0 becomes index 0.
            let bin = (((score - self.low) * scale) as usize).min(last);
            if fake { self.fakes[bin] += 1 } else { self.reals[bin] += 1 }
        }
        Ok(())
    }

    /// Adds what another histogram of the same bins counted.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let bins = |h: &Self| (h.low.to_bits(), h.high.to_bits(), h.reals.len());
        if bins(self) != bins(other) {
            return Err(Error::argument("other", "has other bins"));
        }
        self.reals.iter_mut().zip(&other.reals).for_each(|(held, add)| *held += add);
        self.fakes.iter_mut().zip(&other.fakes).for_each(|(held, add)| *held += add);
        Ok(())
    }

    /// The AUC with pairs of one bin at half; it is off by at most half the share of such pairs.
    pub fn finish(&self) -> Result<Within> {
        let (mut below, mut twice, mut same) = (0_u64, 0_u128, 0_u128);
        for (&r, &f) in self.reals.iter().zip(&self.fakes) {
            twice += u128::from(f) * (2 * u128::from(below) + u128::from(r));
            same += u128::from(f) * u128::from(r);
            below += r;
        }
        let pairs = below as f64 * self.fakes.iter().sum::<u64>() as f64;
        if pairs < 1.0 {
            return Err(Error::argument("labels", if below == 0 { "no real rows" } else { "no fake rows" }));
        }
        Ok(Within { value: twice as f64 / 2.0 / pairs, error: same as f64 / 2.0 / pairs })
    }
}

#[cfg(test)]
mod tests {
    use super::super::roc::auc;
    use super::*;

    #[test]
    fn the_bound_holds() {
        let scores: Vec<f64> = (0..5000).map(|i| (f64::from(i) * 0.7).sin() * 1.2 + f64::from(i % 2) * 0.3).collect();
        let labels: Vec<bool> = (0..5000).map(|i| i % 2 == 1).collect();
        let exact = auc(&scores, &labels).unwrap();
        for bins in [2, 10, 1000, 1 << 16] {
            let mut histogram = ScoreHistogram::new(-1.0, 1.0, bins).unwrap();
            histogram.update(&scores, &labels).unwrap();
            let found = histogram.finish().unwrap();
            assert!((found.value - exact).abs() <= found.error + 1e-12, "{bins} {found:?} {exact}");
        }
        assert!(ScoreHistogram::new(0.0, 1.0, 4).unwrap().finish().is_err());
    }
}
