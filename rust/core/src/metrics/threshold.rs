//! The threshold that calibration reals set.

use crate::{Error, Result};

/// A threshold, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Threshold {
    /// A score *above* `value` is flagged.
    At {
        /// The threshold: one of the calibration scores.
        value: f64,
        /// The false-alarm rate that it has on the calibration reals.
        false_alarm_rate: f64,
    },
    /// Not one false alarm is allowed at this rate: more reals are needed.
    TooFewReals,
    /// Reals share the scores at the threshold, and fewer than half of the allowed false alarms can be reached.
    Ties,
}

/// The smallest threshold whose false-alarm rate (share of `real_scores` above it) is at most `fpr`.
pub fn threshold_at_fpr(real_scores: &[f64], fpr: f64) -> Result<Threshold> {
    if !(fpr > 0.0 && fpr < 1.0) {
        return Err(Error::argument("fpr", format!("{fpr} is not between 0 and 1")));
    }
    if real_scores.is_empty() {
        return Err(Error::argument("real_scores", "no real_scores"));
    }
    if let Some(row) = real_scores.iter().position(|s| s.is_nan()) {
        return Err(Error::argument("real_scores", format!("row {row} is NaN; unscored rows belong elsewhere")));
    }
    let n = real_scores.len();
    // 0.29 of 100 is 29, though 0.29 * 100 is a little less.
    let allowed = (fpr * n as f64 * (1.0 + 1e-12)) as usize;
    if allowed == 0 {
        return Ok(Threshold::TooFewReals);
    }
    let mut scores = real_scores.to_vec();
    let (_, &mut value, _) = scores.select_nth_unstable_by(n - 1 - allowed, f64::total_cmp);
    let above = real_scores.iter().filter(|&&score| score > value).count();
    if 2 * above < allowed {
        return Ok(Threshold::Ties);
    }
    Ok(Threshold::At { value, false_alarm_rate: above as f64 / n as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_that_keeps_the_rate() {
        let scores: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(threshold_at_fpr(&scores, 0.29).unwrap(), Threshold::At { value: 70.0, false_alarm_rate: 0.29 });
        assert_eq!(threshold_at_fpr(&scores, 0.005).unwrap(), Threshold::TooFewReals);
        assert_eq!(threshold_at_fpr(&[1.0; 50], 0.1).unwrap(), Threshold::Ties);
        assert!(threshold_at_fpr(&scores, 0.0).is_err() && threshold_at_fpr(&[], 0.1).is_err());
    }
}
