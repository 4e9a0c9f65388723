//! The 2-D transform of real planes.

use mllmrisk_core::Error;
use mllmrisk_core::transform::plane_fft::{self, Samples};
use numpy::{Complex32, Element, IntoPyArray, PyArray3, PyArrayMethods, PyReadonlyArray3, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::convert::detached;

/// Adds this part's functions to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(rfft2, module)?)?;
    module.add_function(wrap_pyfunction!(irfft2, module)?)
}

/// Half spectra (n, height, width / 2 + 1) complex64 of planes (n, height, width) float32 or uint8.
#[pyfunction]
fn rfft2<'py>(
    py: Python<'py>,
    planes: &Bound<'py, PyAny>,
    threads: usize,
) -> PyResult<Bound<'py, PyArray3<Complex32>>> {
    match planes.cast::<PyArray3<u8>>() {
        Ok(bytes) => spectra(py, &bytes.try_readonly()?, threads),
        Err(_) => spectra(py, &planes.extract::<PyReadonlyArray3<'py, f32>>()?, threads),
    }
}

fn spectra<'py, T: Element + Copy + Sync>(
    py: Python<'py>,
    planes: &PyReadonlyArray3<'py, T>,
    threads: usize,
) -> PyResult<Bound<'py, PyArray3<Complex32>>>
where
    for<'a> Samples<'a>: From<&'a Vec<T>>,
{
    let &[count, height, width] = planes.shape() else { unreachable!("three axes") };
    // A copy: the array may be written to while the interpreter is left.
    let values = planes.as_slice()?.to_vec();
    let data = detached(py, || plane_fft::forward_many(Samples::from(&values), (height, width), threads))?;
    data.into_pyarray(py).reshape([count, height, width / 2 + 1])
}

/// Planes (n, height, width) float32 of half spectra (n, height, width / 2 + 1) complex64.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // pyo3 hands over owned values
fn irfft2<'py>(
    py: Python<'py>,
    spectra: PyReadonlyArray3<'py, Complex32>,
    width: usize,
    threads: usize,
) -> PyResult<Bound<'py, PyArray3<f32>>> {
    let &[count, height, across] = spectra.shape() else { unreachable!("three axes") };
    let data = spectra.as_slice()?.to_vec();
    let planes = detached(py, || {
        if across != width / 2 + 1 {
            return Err(Error::argument("width", format!("{across} columns are no half spectrum of {width}")));
        }
        plane_fft::inverse_many(data, (height, width), threads)
    })?;
    planes.into_pyarray(py).reshape([count, height, width])
}
