//! The one door into the core: every call that works leaves the interpreter through [`detached`].

use mllmrisk_core::Result;
use pyo3::prelude::*;

/// Runs `work` without the interpreter and turns its error into a Python exception.
pub(crate) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    py.detach(work).map_err(|error| crate::error::to_python(&error))
}
