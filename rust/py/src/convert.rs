//! The one door into the core: every call that works leaves the interpreter through [`detached`].

use mllmrisk_core::Result;
use pyo3::prelude::*;

/// Runs `work` without the interpreter and turns its error into a Python exception.
pub(crate) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    py.detach(work).map_err(|error| crate::error::to_python(&error))
}

/// Runs a batch that asks `go_on` between its inputs: a signal that Python has to act on stops it and is its exception.
pub(crate) fn interruptible<T: Default>(
    batch: impl FnOnce(&mut (dyn FnMut() -> bool + Send)) -> PyResult<Option<T>>,
) -> PyResult<T> {
    let mut interruption = None;
    #[allow(clippy::redundant_closure_for_method_calls)] // the method is not general over the token's lifetime
    let mut go_on = || match Python::attach(|py| py.check_signals()) {
        Ok(()) => true,
        Err(error) => {
            interruption = Some(error);
            false
        }
    };
    let results = batch(&mut go_on)?;
    match interruption {
        Some(error) => Err(error),
        None => Ok(results.unwrap_or_default()),
    }
}
