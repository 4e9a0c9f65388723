//! Core errors as the exceptions of `mllmrisk.errors`, variant by variant.

use mllmrisk_core::Error;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The exception for an error of the core: `ValueError` for a wrong argument, `mllmrisk.errors.ImageError`
/// (message, code) for everything that an input is to blame for.
pub(crate) fn to_python(error: &Error) -> PyErr {
    let message = error.to_string();
    if let Error::Argument { .. } = error {
        return PyValueError::new_err(message);
    }
    Python::attach(|py| {
        let made = py
            .import("mllmrisk.errors")
            .and_then(|errors| errors.getattr("ImageError"))
            .and_then(|class| class.call1((message, error.code())));
        match made {
            Ok(exception) => PyErr::from_value(exception),
            Err(failure) => failure,
        }
    })
}
