//! Statistics of pictures and their perceptual hashes.

use mllmrisk_core::batch;
use mllmrisk_core::codec::Limits;
use mllmrisk_core::quality::STATISTICS;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;

use crate::convert::{detached, interruptible};

/// Adds this part's functions to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(describe_statistics, module)?)?;
    module.add_function(wrap_pyfunction!(statistics, module)?)
}

/// (name, unit, formula, source) of each statistic, in their order.
#[pyfunction]
fn describe_statistics() -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
    STATISTICS.iter().map(|about| (about.name, about.unit, about.formula, about.source)).collect()
}

/// Values (n, k) float32, hashes (n,) uint64 and errors (index, code, message); the row of an input in error is NaN and
/// its hash 0.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // pyo3 hands over owned values
#[allow(clippy::type_complexity)] // the tuple is the contract of the stub
fn statistics<'py>(
    py: Python<'py>,
    sources: Vec<Bound<'py, PyAny>>,
    threads: usize,
) -> PyResult<(Bound<'py, PyArray2<f32>>, Bound<'py, PyArray1<u64>>, Vec<(usize, &'static str, String)>)> {
    let sources = sources
        .iter()
        .enumerate()
        .map(|(index, source)| crate::features::to_source(index, source))
        .collect::<PyResult<_>>()?;
    let limits = Limits::default();
    let results = interruptible(|go_on| detached(py, || Ok(batch::measure_many(sources, threads, &limits, go_on))))?;
    let rows = results.len();
    let mut values = Vec::with_capacity(rows * STATISTICS.len());
    let mut hashes = Vec::with_capacity(rows);
    let mut errors = Vec::new();
    for (index, result) in results.into_iter().enumerate() {
        match result {
            Ok(measured) => {
                values.extend(measured.values);
                hashes.push(measured.hash);
            }
            Err(error) => {
                values.extend([f32::NAN; STATISTICS.len()]);
                hashes.push(0);
                errors.push((index, error.code(), error.to_string()));
            }
        }
    }
    Ok((values.into_pyarray(py).reshape([rows, STATISTICS.len()])?, hashes.into_pyarray(py), errors))
}
