//! `mllmrisk._core`: the binding. It parses arguments, makes one detached call into the core, and converts.

mod codec;
mod convert;
mod error;
mod features;
mod metrics;
mod preprocess;
mod quality;
mod transform;

use pyo3::prelude::*;

/// glibc gives the planes of an image back to the system after each image and faults them in again for the next: an
/// eighth of the time of a feature vector.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    codec::register(module)?;
    features::register(module)?;
    metrics::register(module)?;
    preprocess::register(module)?;
    quality::register(module)?;
    transform::register(module)
}
