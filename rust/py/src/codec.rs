//! Reading, probing, writing and perturbing images.
#![allow(clippy::needless_pass_by_value)] // pyo3 hands arguments over by value

use mllmrisk_core::codec::{self, Input, Limits, Probe};
use mllmrisk_core::image::Image;
use mllmrisk_core::perturb::{self, Chain};
use mllmrisk_core::transform::resize::{self, Kernel};
use mllmrisk_core::{Error, Result};
use numpy::{PyArray1, PyArray2, PyArray3, PyArray4, PyArrayMethods, PyReadonlyArray3, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::convert::detached;

/// Adds this part's functions to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(decode, module)?)?;
    module.add_function(wrap_pyfunction!(probe, module)?)?;
    module.add_function(wrap_pyfunction!(dct_coefficients, module)?)?;
    module.add_function(wrap_pyfunction!(encode, module)?)?;
    module.add_function(wrap_pyfunction!(perturb_array, module)?)?;
    module.add_function(wrap_pyfunction!(reencode, module)?)?;
    module.add_function(wrap_pyfunction!(resize_array, module)?)?;
    module.add_function(wrap_pyfunction!(perturbations, module)?)?;
    module.add_function(wrap_pyfunction!(canonical_chain, module)?)?;
    module.add_function(wrap_pyfunction!(build_info, module)?)
}

/// Bytes of a file, or its path.
#[derive(FromPyObject)]
enum Source {
    Bytes(PyBackedBytes),
    Path(String),
}

impl Source {
    /// Calls `work` with the bytes, read first where a path was given.
    fn with<T>(&self, limits: &Limits, work: impl FnOnce(&Input<'_>) -> Result<T>) -> Result<T> {
        match self {
            Self::Bytes(bytes) => work(&Input { name: "bytes", bytes }),
            Self::Path(path) => work(&Input { name: path, bytes: &codec::read_file(path, limits)? }),
        }
    }
}

fn limits_or_default(limits: Option<(u64, u64, u64)>) -> Limits {
    limits.map_or_else(Limits::default, |(bytes, pixels, memory)| Limits { bytes, pixels, memory })
}

/// A file, or decoded pixels.
#[derive(FromPyObject)]
enum Picture<'py> {
    File(Source),
    Array(PyReadonlyArray3<'py, u8>),
}

/// A `(height, width, 3)` array as an image: copied, since Python may write to it while the core works.
fn image_from_array(array: &PyReadonlyArray3<'_, u8>) -> Result<Image> {
    let &[height, width, channels] = array.shape() else { return Err(wrong_shape(array.shape())) };
    let (Ok(w), Ok(h), 3) = (u32::try_from(width), u32::try_from(height), channels) else {
        return Err(wrong_shape(array.shape()));
    };
    let data = array.as_slice().map_or_else(|_| array.as_array().iter().copied().collect(), <[u8]>::to_vec);
    Image::from_rgb(w, h, data)
}

fn wrong_shape(shape: &[usize]) -> Error {
    Error::argument("array", format!("its shape is {shape:?}, not (height, width, 3)"))
}

/// The image's buffer as a `(height, width, 3)` array, moved.
fn array_from_image(py: Python<'_>, image: Image) -> PyResult<Bound<'_, PyArray3<u8>>> {
    let shape = [image.height() as usize, image.width() as usize, 3];
    PyArray1::from_vec(py, image.into_data()).reshape(shape)
}

#[pyfunction]
#[pyo3(signature = (source, orient = false, limits = None))]
fn decode(
    py: Python<'_>,
    source: Source,
    orient: bool,
    limits: Option<(u64, u64, u64)>,
) -> PyResult<Bound<'_, PyArray3<u8>>> {
    let limits = limits_or_default(limits);
    let image = detached(py, || source.with(&limits, |input| codec::decode(input, &limits, orient)))?;
    array_from_image(py, image)
}

/// `(blocks_y, blocks_x, 8, 8)` coefficients, the `(8, 8)` table, `(h, v)`.
type ComponentArrays<'py> = (Bound<'py, PyArray4<i16>>, Bound<'py, PyArray2<u16>>, (u8, u8));

#[pyfunction]
#[pyo3(signature = (source, limits = None))]
fn dct_coefficients(
    py: Python<'_>,
    source: Source,
    limits: Option<(u64, u64, u64)>,
) -> PyResult<Vec<ComponentArrays<'_>>> {
    let limits = limits_or_default(limits);
    let components = detached(py, || source.with(&limits, |input| codec::coefficients(input, &limits)))?;
    let arrays = |of: codec::Coefficients| {
        let shape = [of.blocks_y as usize, of.blocks_x as usize, 8, 8];
        let quantisation = PyArray1::from_slice(py, &of.quantisation).reshape([8, 8])?;
        Ok((PyArray1::from_vec(py, of.values).reshape(shape)?, quantisation, of.sampling))
    };
    components.into_iter().map(arrays).collect()
}

#[pyfunction]
#[pyo3(signature = (source, limits = None))]
fn probe(py: Python<'_>, source: Source, limits: Option<(u64, u64, u64)>) -> PyResult<Bound<'_, PyDict>> {
    let limits = limits_or_default(limits);
    let probe = detached(py, || source.with(&limits, |input| codec::probe(input, &limits)))?;
    dict_from_probe(py, probe)
}

fn dict_from_probe(py: Python<'_>, probe: Probe) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("format", probe.format.name())?;
    dict.set_item("width", probe.width)?;
    dict.set_item("height", probe.height)?;
    dict.set_item("bytes", probe.bytes)?;
    dict.set_item("mode", probe.mode.name())?;
    dict.set_item("channels", probe.channels)?;
    dict.set_item("bit_depth", probe.bit_depth)?;
    dict.set_item("alpha", probe.alpha)?;
    dict.set_item("progressive", probe.progressive)?;
    dict.set_item("lossy", probe.lossy)?;
    dict.set_item("frames", probe.frames)?;
    let jpeg = probe.jpeg.as_ref();
    let tables = PyList::empty(py);
    for table in jpeg.map(|jpeg| jpeg.quantisation.as_slice()).unwrap_or_default() {
        tables.append(PyList::new(py, table)?)?;
    }
    dict.set_item("quantisation", tables)?;
    dict.set_item("subsampling", jpeg.and_then(|jpeg| jpeg.subsampling.as_deref()))?;
    dict.set_item("quality", jpeg.and_then(|jpeg| jpeg.quality))?;
    dict.set_item("quality_exact", jpeg.is_some_and(|jpeg| jpeg.quality_exact))?;
    dict.set_item("jfif", jpeg.is_some_and(|jpeg| jpeg.jfif))?;
    dict.set_item("adobe", jpeg.is_some_and(|jpeg| jpeg.adobe))?;
    dict.set_item("arithmetic", jpeg.is_some_and(|jpeg| jpeg.arithmetic))?;
    dict.set_item("exif", probe.exif)?;
    dict.set_item("make", probe.make)?;
    dict.set_item("model", probe.model)?;
    dict.set_item("software", probe.software)?;
    dict.set_item("orientation", probe.orientation.map(codec::Orientation::value))?;
    dict.set_item("icc", probe.icc)?;
    dict.set_item("xmp", probe.xmp)?;
    dict.set_item("c2pa", probe.c2pa)?;
    dict.set_item("ai_source_type", probe.ai_source_type)?;
    dict.set_item("generation_parameters", probe.generation_parameters)?;
    let texts = PyList::empty(py);
    for text in probe.texts {
        texts.append((text.key, text.value, text.bytes))?;
    }
    dict.set_item("texts", texts)?;
    Ok(dict)
}

#[pyfunction]
fn encode<'py>(py: Python<'py>, array: PyReadonlyArray3<'py, u8>, spec: &str) -> PyResult<Bound<'py, PyBytes>> {
    let image = image_from_array(&array);
    let bytes = detached(py, || codec::encode(&image?, &perturb::encoding_from_text(spec)?))?;
    Ok(PyBytes::new(py, &bytes))
}

#[pyfunction]
#[pyo3(signature = (array, chain, seed = 0), name = "perturb")]
fn perturb_array<'py>(
    py: Python<'py>,
    array: PyReadonlyArray3<'py, u8>,
    chain: &str,
    seed: u64,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let image = image_from_array(&array);
    let image = detached(py, || Chain::parse(chain)?.apply(image?, seed))?;
    array_from_image(py, image)
}

#[pyfunction]
#[pyo3(signature = (source, chain, seed = 0, limits = None))]
fn reencode<'py>(
    py: Python<'py>,
    source: Picture<'py>,
    chain: &str,
    seed: u64,
    limits: Option<(u64, u64, u64)>,
) -> PyResult<Bound<'py, PyBytes>> {
    let limits = limits_or_default(limits);
    let bytes = match source {
        Picture::File(file) => detached(py, || {
            let chain = Chain::parse(chain)?;
            chain.encode(file.with(&limits, |input| codec::decode(input, &limits, false))?, seed)
        })?,
        Picture::Array(array) => {
            let image = image_from_array(&array);
            detached(py, || Chain::parse(chain)?.encode(image?, seed))?
        }
    };
    Ok(PyBytes::new(py, &bytes))
}

#[pyfunction]
#[pyo3(signature = (array, width, height, kernel = "bicubic"), name = "resize")]
fn resize_array<'py>(
    py: Python<'py>,
    array: PyReadonlyArray3<'py, u8>,
    width: u32,
    height: u32,
    kernel: &str,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let image = image_from_array(&array);
    let image = detached(py, || resize::resize(&image?, width, height, Kernel::parse(kernel)?))?;
    array_from_image(py, image)
}

#[pyfunction]
fn perturbations(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let dict = |about: &perturb::About| {
        let dict = PyDict::new(py);
        dict.set_item("name", about.name)?;
        dict.set_item("grammar", about.grammar)?;
        dict.set_item("what", about.what)?;
        dict.set_item("chain", about.chain)?;
        Ok(dict)
    };
    perturb::ALL.iter().chain(perturb::NAMED).map(dict).collect()
}

#[pyfunction]
fn canonical_chain(py: Python<'_>, text: &str) -> PyResult<String> {
    detached(py, || Chain::parse(text).map(|chain| chain.to_string()))
}

#[pyfunction]
fn build_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let info = codec::build_info();
    let dict = PyDict::new(py);
    dict.set_item("version", env!("CARGO_PKG_VERSION"))?;
    dict.set_item("profile", info.profile)?;
    dict.set_item("jpeg_simd", info.jpeg_simd)?;
    dict.set_item("libjpeg_turbo", info.libjpeg_turbo)?;
    dict.set_item("libwebp", info.libwebp)?;
    Ok(dict)
}
