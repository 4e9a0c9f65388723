//! `mllmrisk._core`: the binding. It parses arguments, makes one detached call into the core, and converts.

mod codec;
mod convert;
mod error;
mod features;
mod metrics;

use pyo3::prelude::*;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    codec::register(module)?;
    features::register(module)?;
    metrics::register(module)
}
