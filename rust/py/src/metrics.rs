//! To be filled.

use pyo3::prelude::*;

/// Adds this part's functions to the module.
pub(crate) fn register(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
