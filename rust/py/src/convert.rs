//! The one door into the core: every call that works leaves the interpreter through [`detached`].

use std::time::{Duration, Instant};

use mllmrisk_core::Result;
use pyo3::prelude::*;

/// Runs `work` without the interpreter and turns its error into a Python exception.
pub(crate) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    py.detach(work).map_err(|error| crate::error::to_python(&error))
}

/// How long a batch works before it asks again for signals: to ask waits for the interpreter, some milliseconds where
/// another thread runs Python code.
const PATIENCE: Duration = Duration::from_millis(50);

/// Runs a batch that asks `go_on` between its inputs: a signal that Python has to act on stops it and is its exception.
pub(crate) fn interruptible<T: Default>(
    batch: impl FnOnce(&mut (dyn FnMut() -> bool + Send)) -> PyResult<Option<T>>,
) -> PyResult<T> {
    let mut interruption = None;
    let mut asked = Instant::now();
    let mut go_on = || {
        if asked.elapsed() < PATIENCE {
            return true;
        }
        #[allow(clippy::redundant_closure_for_method_calls)] // the method is not general over the token's lifetime
        let answer = Python::attach(|py| py.check_signals());
        asked = Instant::now();
        answer.map_err(|error| interruption = Some(error)).is_ok()
    };
    let results = batch(&mut go_on)?;
    match interruption {
        Some(error) => Err(error),
        None => Ok(results.unwrap_or_default()),
    }
}
