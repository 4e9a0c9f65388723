//! From scores to estimates with intervals.
//!
//! The unit of every interval is the *cluster* (a prompt, a caption, a source), never the row. Three engines make all
//! of them ([`bootstrap`]): the mean of cluster means, functions of cluster totals, and rank statistics over cluster
//! weights. Draws are counter-based ([`random`]): resample `r` is a function of `(seed, r)` alone, so that a result
//! does not depend on the number of threads. [`interval`] turns resamples into bounds; `docs/statistics.md` gives the
//! formulas and sources.
//!
//! Nothing here is ever NaN: an empty group, a NaN score or an undefined statistic is an
//! [`Error::Argument`](crate::Error::Argument) that names the argument.
//!
//! ```
//! use mllmrisk_core::metrics::{Resampling, rate};
//! // Two prompts with three samples each, one sample flagged.
//! let interval = rate(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0], &[1, 1, 1, 2, 2, 2], &Resampling::default())?;
//! assert!((interval.value - 1.0 / 6.0).abs() < 1e-15);
//! # Ok::<(), mllmrisk_core::Error>(())
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod agreement;
mod bootstrap;
mod calibration;
mod clusters;
mod contrast;
mod correction;
mod detection;
mod histogram;
mod holm;
mod interval;
mod random;
mod rate;
mod roc;
mod slope;
mod sort;
mod special;
mod threshold;

pub use agreement::{cohen_kappa, fleiss_kappa, krippendorff_alpha};
pub use bootstrap::Resampling;
pub use calibration::{Binning, calibration_error};
pub use contrast::{Side, difference_paired, difference_unpaired};
pub use correction::{Validation, rogan_gladen};
pub use detection::{Measure, Scored, detection, detection_difference, detection_value};
pub use histogram::{ScoreHistogram, Within};
pub use holm::holm;
pub use interval::{Contrast, Interval, wilson};
pub use rate::{RateCounter, Values, mean, rate, share};
pub use roc::{auc, tie_share};
pub use slope::slope;
pub use threshold::{Threshold, threshold_at_fpr};

use crate::{Error, Result};

/// Refuses empty input, unequal lengths and numbers that are not finite.
fn check_values(name: &str, values: &[f64], clusters: &[i64]) -> Result<()> {
    check_length("clusters", clusters.len(), values.len())?;
    if values.is_empty() {
        return Err(Error::argument(name, format!("no {name}")));
    }
    match values.iter().position(|v| !v.is_finite()) {
        Some(row) => {
            Err(Error::argument(name, format!("row {row} is {}; unscored rows belong elsewhere", values[row])))
        }
        None => Ok(()),
    }
}

/// Refuses a value outside [0, 1].
fn check_unit(name: &str, values: &[f64]) -> Result<()> {
    match values.iter().position(|v| !(0.0..=1.0).contains(v)) {
        Some(row) => Err(Error::argument(name, format!("row {row} is {}, outside [0, 1]", values[row]))),
        None => Ok(()),
    }
}

fn check_length(name: &str, length: usize, expected: usize) -> Result<()> {
    if length == expected {
        Ok(())
    } else {
        Err(Error::argument(name, format!("{length} rows where {expected} are expected")))
    }
}
