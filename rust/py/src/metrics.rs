//! Metrics: arrays in, value and bounds out. `python/mllmrisk/metrics.py` gives them names.

#![allow(clippy::needless_pass_by_value, reason = "a pyfunction owns what it is given")]

use std::num::NonZero;
use std::sync::{Mutex, PoisonError};

use mllmrisk_core::metrics::{self as core, Contrast, Interval, Resampling, Scored, Threshold, Validation, Values};
use numpy::{Element, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::convert::detached;

/// Value and bounds.
type Bounded = (f64, Option<(f64, f64)>);
/// Value, bounds and p-value.
type Contrasted = (f64, Option<(f64, f64)>, f64);

/// How to resample: (resamples, seed, level, threads).
#[derive(FromPyObject)]
struct Plan(usize, u64, f64, Option<NonZero<usize>>);

impl From<Plan> for Resampling {
    fn from(Plan(resamples, seed, level, threads): Plan) -> Self {
        Self { resamples, seed, level, threads }
    }
}

/// A copy: the interpreter is left while the core works, and others may write to the array meanwhile.
fn copied<T: Element + Copy>(array: &PyReadonlyArray1<'_, T>) -> PyResult<Vec<T>> {
    Ok(array.as_slice()?.to_vec())
}

fn copied_option<T: Element + Copy>(array: Option<&PyReadonlyArray1<'_, T>>) -> PyResult<Option<Vec<T>>> {
    array.map(copied).transpose()
}

fn bounded(interval: Interval) -> Bounded {
    (interval.value, interval.bounds)
}

fn contrasted(contrast: Contrast) -> Contrasted {
    (contrast.interval.value, contrast.interval.bounds, contrast.p_value)
}

type Estimator = fn(&[f64], &[i64], &Resampling) -> mllmrisk_core::Result<Interval>;

fn estimated(
    py: Python<'_>,
    estimator: Estimator,
    values: &PyReadonlyArray1<'_, f64>,
    clusters: &PyReadonlyArray1<'_, i64>,
    plan: Plan,
) -> PyResult<Bounded> {
    let (values, clusters) = (copied(values)?, copied(clusters)?);
    detached(py, || estimator(&values, &clusters, &plan.into())).map(bounded)
}

#[pyfunction]
fn metrics_rate(
    py: Python<'_>,
    values: PyReadonlyArray1<'_, f64>,
    clusters: PyReadonlyArray1<'_, i64>,
    plan: Plan,
) -> PyResult<Bounded> {
    estimated(py, core::rate, &values, &clusters, plan)
}

#[pyfunction]
fn metrics_mean(
    py: Python<'_>,
    values: PyReadonlyArray1<'_, f64>,
    clusters: PyReadonlyArray1<'_, i64>,
    plan: Plan,
) -> PyResult<Bounded> {
    estimated(py, core::mean, &values, &clusters, plan)
}

#[pyfunction]
fn metrics_share(
    py: Python<'_>,
    values: PyReadonlyArray1<'_, f64>,
    clusters: PyReadonlyArray1<'_, i64>,
    plan: Plan,
) -> PyResult<Bounded> {
    estimated(py, core::share, &values, &clusters, plan)
}

#[pyfunction]
fn metrics_wilson(py: Python<'_>, successes: u64, trials: u64, level: f64) -> PyResult<Bounded> {
    detached(py, || core::wilson(successes, trials, level)).map(bounded)
}

#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "two sides and how to compare them")]
fn metrics_difference(
    py: Python<'_>,
    values_a: PyReadonlyArray1<'_, f64>,
    clusters_a: PyReadonlyArray1<'_, i64>,
    values_b: PyReadonlyArray1<'_, f64>,
    clusters_b: PyReadonlyArray1<'_, i64>,
    paired: bool,
    shares: bool,
    plan: Plan,
) -> PyResult<Contrasted> {
    let (values_a, clusters_a) = (copied(&values_a)?, copied(&clusters_a)?);
    let (values_b, clusters_b) = (copied(&values_b)?, copied(&clusters_b)?);
    let contrast = if paired { core::difference_paired } else { core::difference_unpaired };
    let values = if shares { Values::Shares } else { Values::Numbers };
    detached(py, || contrast((&values_a, &clusters_a), (&values_b, &clusters_b), values, &plan.into())).map(contrasted)
}

#[pyfunction]
fn metrics_slope(
    py: Python<'_>,
    values: PyReadonlyArray1<'_, f64>,
    levels: PyReadonlyArray1<'_, i64>,
    clusters: PyReadonlyArray1<'_, i64>,
    plan: Plan,
) -> PyResult<Contrasted> {
    let (values, levels, clusters) = (copied(&values)?, copied(&levels)?, copied(&clusters)?);
    detached(py, || core::slope(&values, &levels, &clusters, &plan.into())).map(contrasted)
}

#[pyfunction]
fn metrics_holm(py: Python<'_>, p_values: Vec<f64>) -> PyResult<Vec<f64>> {
    detached(py, || core::holm(&p_values))
}

/// Scores with what is known of their rows, owned.
struct Rows {
    scores: Vec<f64>,
    labels: Vec<bool>,
    strata: Option<Vec<i64>>,
    thresholds: Option<Vec<f64>>,
}

impl Rows {
    fn new(
        scores: &PyReadonlyArray1<'_, f64>,
        labels: &PyReadonlyArray1<'_, bool>,
        strata: Option<&PyReadonlyArray1<'_, i64>>,
        thresholds: Option<&PyReadonlyArray1<'_, f64>>,
    ) -> PyResult<Self> {
        Ok(Self {
            scores: copied(scores)?,
            labels: copied(labels)?,
            strata: copied_option(strata)?,
            thresholds: copied_option(thresholds)?,
        })
    }

    fn scored(&self) -> Scored<'_> {
        Scored {
            scores: &self.scores,
            labels: &self.labels,
            strata: self.strata.as_deref(),
            thresholds: self.thresholds.as_deref(),
        }
    }
}

#[pyfunction]
fn metrics_detection_value(
    py: Python<'_>,
    metric: &str,
    scores: PyReadonlyArray1<'_, f64>,
    labels: PyReadonlyArray1<'_, bool>,
    strata: Option<PyReadonlyArray1<'_, i64>>,
    thresholds: Option<PyReadonlyArray1<'_, f64>>,
) -> PyResult<f64> {
    let rows = Rows::new(&scores, &labels, strata.as_ref(), thresholds.as_ref())?;
    detached(py, || core::detection_value(metric.parse()?, &rows.scored()))
}

#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "one array per property of a row")]
fn metrics_detection(
    py: Python<'_>,
    metric: &str,
    scores: PyReadonlyArray1<'_, f64>,
    labels: PyReadonlyArray1<'_, bool>,
    clusters: PyReadonlyArray1<'_, i64>,
    strata: Option<PyReadonlyArray1<'_, i64>>,
    thresholds: Option<PyReadonlyArray1<'_, f64>>,
    plan: Plan,
) -> PyResult<Bounded> {
    let rows = Rows::new(&scores, &labels, strata.as_ref(), thresholds.as_ref())?;
    let clusters = copied(&clusters)?;
    detached(py, || core::detection(metric.parse()?, &rows.scored(), &clusters, &plan.into())).map(bounded)
}

#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "one array per property of a row")]
fn metrics_detection_difference(
    py: Python<'_>,
    metric: &str,
    scores: PyReadonlyArray1<'_, f64>,
    labels: PyReadonlyArray1<'_, bool>,
    first: PyReadonlyArray1<'_, bool>,
    clusters: PyReadonlyArray1<'_, i64>,
    strata: Option<PyReadonlyArray1<'_, i64>>,
    thresholds: Option<PyReadonlyArray1<'_, f64>>,
    plan: Plan,
) -> PyResult<Contrasted> {
    let rows = Rows::new(&scores, &labels, strata.as_ref(), thresholds.as_ref())?;
    let (first, clusters) = (copied(&first)?, copied(&clusters)?);
    detached(py, || core::detection_difference(metric.parse()?, &rows.scored(), &first, &clusters, &plan.into()))
        .map(contrasted)
}

#[pyfunction]
fn metrics_tie_share(
    py: Python<'_>,
    scores: PyReadonlyArray1<'_, f64>,
    labels: PyReadonlyArray1<'_, bool>,
) -> PyResult<f64> {
    let (scores, labels) = (copied(&scores)?, copied(&labels)?);
    detached(py, || core::tie_share(&scores, &labels))
}

#[pyfunction]
fn metrics_threshold_at_fpr(
    py: Python<'_>,
    real_scores: PyReadonlyArray1<'_, f64>,
    fpr: f64,
) -> PyResult<(Option<f64>, Option<f64>, Option<&'static str>)> {
    let real_scores = copied(&real_scores)?;
    Ok(match detached(py, || core::threshold_at_fpr(&real_scores, fpr))? {
        Threshold::At { value, false_alarm_rate } => (Some(value), Some(false_alarm_rate), None),
        Threshold::TooFewReals => (None, None, Some("too_few_reals")),
        Threshold::Ties => (None, None, Some("ties")),
    })
}

#[pyfunction]
fn metrics_calibration_error(
    py: Python<'_>,
    probabilities: PyReadonlyArray1<'_, f64>,
    labels: PyReadonlyArray1<'_, bool>,
    clusters: PyReadonlyArray1<'_, i64>,
    bins: usize,
    equal_mass: bool,
    plan: Plan,
) -> PyResult<Bounded> {
    let (probabilities, labels, clusters) = (copied(&probabilities)?, copied(&labels)?, copied(&clusters)?);
    let binning = if equal_mass { core::Binning::Mass } else { core::Binning::Width };
    detached(py, || core::calibration_error(&probabilities, &labels, &clusters, bins, binning, &plan.into()))
        .map(bounded)
}

#[pyfunction]
fn metrics_cohen_kappa(
    py: Python<'_>,
    first: PyReadonlyArray1<'_, i64>,
    second: PyReadonlyArray1<'_, i64>,
    clusters: PyReadonlyArray1<'_, i64>,
    plan: Plan,
) -> PyResult<Bounded> {
    let (first, second, clusters) = (copied(&first)?, copied(&second)?, copied(&clusters)?);
    detached(py, || core::cohen_kappa(&first, &second, &clusters, &plan.into())).map(bounded)
}

#[pyfunction]
fn metrics_fleiss_kappa(
    py: Python<'_>,
    counts: PyReadonlyArray1<'_, i64>,
    categories: usize,
    clusters: PyReadonlyArray1<'_, i64>,
    plan: Plan,
) -> PyResult<Bounded> {
    let (counts, clusters) = (copied(&counts)?, copied(&clusters)?);
    detached(py, || core::fleiss_kappa(&counts, categories, &clusters, &plan.into())).map(bounded)
}

#[pyfunction]
fn metrics_krippendorff_alpha(
    py: Python<'_>,
    ratings: PyReadonlyArray1<'_, i64>,
    raters: usize,
    clusters: PyReadonlyArray1<'_, i64>,
    plan: Plan,
) -> PyResult<Bounded> {
    let (ratings, clusters) = (copied(&ratings)?, copied(&clusters)?);
    detached(py, || core::krippendorff_alpha(&ratings, raters, &clusters, &plan.into())).map(bounded)
}

/// True positives, false negatives, true negatives, false positives.
type Counts = (u64, u64, u64, u64);

#[pyfunction]
fn metrics_rogan_gladen(
    py: Python<'_>,
    flags: PyReadonlyArray1<'_, f64>,
    clusters: PyReadonlyArray1<'_, i64>,
    validation: Counts,
    plan: Plan,
) -> PyResult<Bounded> {
    let (flags, clusters) = (copied(&flags)?, copied(&clusters)?);
    let (true_positives, false_negatives, true_negatives, false_positives) = validation;
    let validation = Validation { true_positives, false_negatives, true_negatives, false_positives };
    detached(py, || core::rogan_gladen(&flags, &clusters, validation, &plan.into())).map(bounded)
}

/// The lock is only ever held without the interpreter, and never two at once.
fn locked<T, R>(state: &Mutex<T>, work: impl FnOnce(&mut T) -> R) -> R {
    work(&mut state.lock().unwrap_or_else(PoisonError::into_inner))
}

#[pyclass(module = "mllmrisk._core", frozen)]
struct RateCounter(Mutex<core::RateCounter>);

#[pymethods]
impl RateCounter {
    #[new]
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn update(
        &self,
        py: Python<'_>,
        flags: PyReadonlyArray1<'_, bool>,
        clusters: PyReadonlyArray1<'_, i64>,
    ) -> PyResult<()> {
        let (flags, clusters) = (copied(&flags)?, copied(&clusters)?);
        detached(py, || locked(&self.0, |counter| counter.update(&flags, &clusters)))
    }

    fn merge(&self, py: Python<'_>, other: &Self) -> PyResult<()> {
        detached(py, || {
            let seen = locked(&other.0, |counter| counter.clone());
            locked(&self.0, |counter| counter.merge(&seen));
            Ok(())
        })
    }

    fn seen(&self, py: Python<'_>) -> PyResult<(usize, u64)> {
        detached(py, || Ok(locked(&self.0, |counter| counter.seen())))
    }

    fn finish(&self, py: Python<'_>, plan: Plan) -> PyResult<Bounded> {
        detached(py, || locked(&self.0, |counter| counter.clone()).finish(&plan.into())).map(bounded)
    }
}

#[pyclass(module = "mllmrisk._core", frozen)]
struct ScoreHistogram(Mutex<core::ScoreHistogram>);

#[pymethods]
impl ScoreHistogram {
    #[new]
    fn new(py: Python<'_>, low: f64, high: f64, bins: usize) -> PyResult<Self> {
        detached(py, || core::ScoreHistogram::new(low, high, bins)).map(|made| Self(Mutex::new(made)))
    }

    fn update(
        &self,
        py: Python<'_>,
        scores: PyReadonlyArray1<'_, f64>,
        labels: PyReadonlyArray1<'_, bool>,
    ) -> PyResult<()> {
        let (scores, labels) = (copied(&scores)?, copied(&labels)?);
        detached(py, || locked(&self.0, |histogram| histogram.update(&scores, &labels)))
    }

    fn merge(&self, py: Python<'_>, other: &Self) -> PyResult<()> {
        detached(py, || {
            let seen = locked(&other.0, |histogram| histogram.clone());
            locked(&self.0, |histogram| histogram.merge(&seen))
        })
    }

    fn finish(&self, py: Python<'_>) -> PyResult<(f64, f64)> {
        detached(py, || locked(&self.0, |histogram| histogram.finish())).map(|within| (within.value, within.error))
    }
}

/// Adds this part's functions and classes to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(metrics_rate, module)?)?;
    module.add_function(wrap_pyfunction!(metrics_mean, module)?)?;
    module.add_function(wrap_pyfunction!(metrics_share, module)?)?;
    module.add_function(wrap_pyfunction!(metrics_wilson, module)?)?;
    module.add_function(wrap_pyfunction!(metrics_difference, module)?)?;
    module.add_function(wrap_pyfunction!(metrics_slope, module)?)?;
    module.add_function(wrap_pyfunction!(metrics_holm, module)?)?;
    module.add_function(wrap_pyfunction!(metrics_detection_value, module)?)?;
    module.add_function(wrap_pyfunction!(metrics_detection, module)?)?;
    module.add_function(wrap_pyfunction!(metrics_detection_difference, module)?)?;
    module.add_function(wrap_pyfunction!(metrics_tie_share, module)?)?;
    module.add_function(wrap_pyfunction!(metrics_threshold_at_fpr, module)?)?;
    module.add_function(wrap_pyfunction!(metrics_calibration_error, module)?)?;
    module.add_function(wrap_pyfunction!(metrics_cohen_kappa, module)?)?;
    module.add_function(wrap_pyfunction!(metrics_fleiss_kappa, module)?)?;
    module.add_function(wrap_pyfunction!(metrics_krippendorff_alpha, module)?)?;
    module.add_function(wrap_pyfunction!(metrics_rogan_gladen, module)?)?;
    module.add_class::<RateCounter>()?;
    module.add_class::<ScoreHistogram>()
}
