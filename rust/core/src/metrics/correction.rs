//! A rate corrected for the errors of its judge (Rogan and Gladen 1978).

use super::bootstrap::Resampling;
use super::check_unit;
use super::interval::{Interval, Share, from_replicates};
use super::random::Stream;
use super::rate::ByCluster;

use crate::{Error, Result};

/// The lane of the validation draws, apart from every pool and attempt.
const VALIDATION: u64 = 1 << 33;

/// What a judge did on images whose label is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validation {
    /// Unsafe and flagged.
    pub true_positives: u64,
    /// Unsafe and not flagged.
    pub false_negatives: u64,
    /// Safe and not flagged.
    pub true_negatives: u64,
    /// Safe and flagged.
    pub false_positives: u64,
}

/// (p + specificity - 1) / (sensitivity + specificity - 1), p the [`rate`](super::rate) of `flags`, held in [0, 1].
///
/// A resample takes p from a cluster resample and sensitivity and specificity from Beta(hits + 1/2, misses + 1/2),
/// their Jeffreys posteriors: a parametric bootstrap that stays alive at 0 misses. One whose judge is no better than
/// chance is drawn again.
pub fn rogan_gladen(
    flags: &[f64],
    clusters: &[i64],
    validation: Validation,
    resampling: &Resampling,
) -> Result<Interval> {
    resampling.check()?;
    let grouped = ByCluster::new("flags", flags, clusters)?;
    check_unit("flags", flags)?;
    let [hits, misses, passes, alarms] =
        [validation.true_positives, validation.false_negatives, validation.true_negatives, validation.false_positives]
            .map(|count| count as f64);
    if hits + misses < 1.0 || passes + alarms < 1.0 {
        return Err(Error::argument("validation", "no unsafe or no safe images"));
    }
    let (sensitivity, specificity) = (hits / (hits + misses), passes / (passes + alarms));
    let means = grouped.means();
    let share = Share::new(&means, &vec![1.0; means.len()], grouped.rows());
    let corrected = |p: f64, sensitivity: f64, specificity: f64| {
        let gain = sensitivity + specificity - 1.0;
        (gain > 0.0).then(|| ((p + specificity - 1.0) / gain).clamp(0.0, 1.0))
    };
    let Some(value) = corrected(share.p, sensitivity, specificity) else {
        return Err(Error::argument(
            "validation",
            "the judge is no better than chance: no rate can be corrected by it",
        ));
    };
    let rates = resampling.means(&means, 0);
    let mut replicates = resampling.run(
        64,
        || (),
        |(), resample| {
            let mut draws = Stream::new(resampling.seed, resample, VALIDATION).draws();
            let p = rates[resample as usize];
            (0..64)
                .find_map(|_| {
                    corrected(p, draws.beta(hits + 0.5, misses + 0.5), draws.beta(passes + 0.5, alarms + 0.5))
                })
                .unwrap_or(f64::NAN)
        },
    );
    if replicates.iter().any(|x| x.is_nan()) {
        return Err(Error::argument(
            "validation",
            "the judge is hardly better than chance: too few images to correct by it",
        ));
    }
    let at = |p| corrected(p, sensitivity, specificity);
    let guard = share.guard(resampling.level).and_then(|(low, high)| at(low).zip(at(high)));
    Ok(from_replicates(value, &mut replicates, means.len(), resampling.level, guard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sure_judge_changes_little_and_an_unsure_one_widens() {
        let flags: Vec<f64> = (0..1000).map(|i| f64::from(u8::from(i % 5 == 0))).collect();
        let clusters: Vec<i64> = (0..1000).collect();
        let by = |tp, fn_, tn, fp| {
            let validation =
                Validation { true_positives: tp, false_negatives: fn_, true_negatives: tn, false_positives: fp };
            rogan_gladen(&flags, &clusters, validation, &Resampling::default())
        };
        let width = |interval: Interval| interval.bounds.map_or(0.0, |(low, high)| high - low);
        let (sure, unsure) = (by(100_000, 0, 100_000, 0).unwrap(), by(45, 5, 47, 3).unwrap());
        assert!((sure.value - 0.2).abs() < 1e-9 && (width(sure) - 0.05).abs() < 0.01, "{sure:?}");
        assert!(
            (unsure.value - (0.2 + 0.94 - 1.0) / 0.84).abs() < 1e-9 && width(unsure) > 2.0 * width(sure),
            "{unsure:?}"
        );
        assert!(by(10, 40, 10, 40).is_err() && by(0, 0, 1, 1).is_err());
    }
}
