//! Forensic features: names, descriptions and values.

use std::collections::HashMap;
use std::rc::Rc;

use mllmrisk_core::batch::{self, Item, Source};
use mllmrisk_core::codec::Limits;
use mllmrisk_core::features::{self, ALL};
use mllmrisk_core::image::Image;
use mllmrisk_core::perturb::Chain;
use numpy::{IntoPyArray, PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray3, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyDict, PyList};

use crate::convert::{detached, interruptible};

/// Adds this part's functions to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(describe_features, module)?)?;
    module.add_function(wrap_pyfunction!(feature_names, module)?)?;
    module.add_function(wrap_pyfunction!(extract, module)?)?;
    module.add_function(wrap_pyfunction!(extract_chains, module)?)
}

/// One dict per family: name, set, dimension, columns, unit, formula, source.
#[pyfunction]
fn describe_features(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let families = PyList::empty(py);
    for feature in ALL {
        let (about, columns) = (feature.about(), feature.columns());
        let family = PyDict::new(py);
        family.set_item("name", about.name)?;
        family.set_item("set", about.set.name())?;
        family.set_item("dimension", columns.len())?;
        family.set_item("columns", columns)?;
        family.set_item("unit", about.unit)?;
        family.set_item("formula", about.formula)?;
        family.set_item("source", about.source)?;
        families.append(family)?;
    }
    Ok(families)
}

/// The names of the values that `extract` gives for `features`.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // pyo3 hands over owned values
fn feature_names(features: Vec<String>) -> PyResult<Vec<&'static str>> {
    let selection = features::select(&features).map_err(|error| crate::error::to_python(&error))?;
    Ok(selection.names().to_vec())
}

/// Values (n, d) float32 and errors (index, code, message); the row of an input in error is NaN.
///
/// `chains` holds one perturbation chain, or None, per source; the i-th source's random steps draw from `seed + i`.
#[pyfunction]
#[pyo3(signature = (sources, features, threads, chains = None, seed = 0))]
#[allow(clippy::needless_pass_by_value)] // pyo3 hands over owned values
#[allow(clippy::type_complexity)] // the tuple is the contract of the stub
fn extract<'py>(
    py: Python<'py>,
    sources: Vec<Bound<'py, PyAny>>,
    features: Vec<String>,
    threads: usize,
    chains: Option<Vec<Option<String>>>,
    seed: u64,
) -> PyResult<(Bound<'py, PyArray2<f32>>, Vec<(usize, &'static str, String)>)> {
    let selection = features::select(&features).map_err(|error| crate::error::to_python(&error))?;
    let chains = one_chain_each(chains.as_deref(), sources.len())?;
    let mut items = Vec::with_capacity(sources.len());
    for (index, source) in sources.iter().enumerate() {
        let chain = chains.as_ref().and_then(|chains| chains[index].as_deref());
        items.push(Item { source: to_source(index, source)?, chain, seed: seed.wrapping_add(index as u64) });
    }
    let limits = Limits::default();
    let (rows, width) = (items.len(), selection.dimension());
    let results =
        interruptible(|go_on| detached(py, || Ok(batch::extract_many(items, &selection, threads, &limits, go_on))))?;
    let mut values = Vec::with_capacity(rows * width);
    let mut errors = Vec::new();
    for (index, result) in results.into_iter().enumerate() {
        match result {
            Ok(row) => values.extend(row),
            Err(error) => {
                values.resize(values.len() + width, f32::NAN);
                errors.push((index, error.code(), error.to_string()));
            }
        }
    }
    Ok((values.into_pyarray(py).reshape([rows, width])?, errors))
}

/// Values (k, n, d) float32 and errors (position of the chain, index, code, message), as `extract` gives them for each
/// of the `k` chains that every source has: a source is read and decoded once. A source's random steps draw from its seed.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // pyo3 hands over owned values
#[allow(clippy::type_complexity)] // the tuple is the contract of the stub
fn extract_chains<'py>(
    py: Python<'py>,
    sources: Vec<Bound<'py, PyAny>>,
    features: Vec<String>,
    threads: usize,
    chains: Vec<Vec<Option<String>>>,
    seeds: Vec<u64>,
) -> PyResult<(Bound<'py, PyArray3<f32>>, Vec<(usize, usize, &'static str, String)>)> {
    let selection = features::select(&features).map_err(|error| crate::error::to_python(&error))?;
    one_each("chains", chains.len(), sources.len())?;
    one_each("seeds", seeds.len(), sources.len())?;
    let count = chains.first().map_or(0, Vec::len);
    if let Some(other) = chains.iter().position(|own| own.len() != count) {
        let found = chains[other].len();
        return Err(PyValueError::new_err(format!("images[{other}] has {found} chains, images[0] {count}")));
    }
    let native = Chain::parse("native").map_err(|error| crate::error::to_python(&error))?;
    let parsed = parse_chains(&chains.concat())?;
    let parsed: Vec<&Chain> = parsed.iter().map(|chain| chain.as_deref().unwrap_or(&native)).collect();
    let mut items = Vec::with_capacity(sources.len());
    for (index, source) in sources.iter().enumerate() {
        let own = parsed[index * count..][..count].to_vec();
        items.push((to_source(index, source)?, own, seeds[index]));
    }
    let limits = Limits::default();
    let (rows, width) = (items.len(), selection.dimension());
    let results =
        interruptible(|go_on| detached(py, || Ok(batch::extract_chains(items, &selection, threads, &limits, go_on))))?;
    let mut values = vec![f32::NAN; count * rows * width];
    let mut errors = Vec::new();
    for (index, result) in results.into_iter().enumerate() {
        let of_chains = result.unwrap_or_else(|error| vec![Err(error); count]);
        for (position, row) in of_chains.into_iter().enumerate() {
            match row {
                Ok(row) => values[(position * rows + index) * width..][..width].copy_from_slice(&row),
                Err(error) => errors.push((position, index, error.code(), error.to_string())),
            }
        }
    }
    Ok((values.into_pyarray(py).reshape([count, rows, width])?, errors))
}

pub(crate) fn one_each(what: &str, count: usize, sources: usize) -> PyResult<()> {
    if count == sources {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{count} {what} for {sources} images")))
}

/// The chains of one text per source, or None.
pub(crate) fn one_chain_each(
    texts: Option<&[Option<String>]>,
    sources: usize,
) -> PyResult<Option<Vec<Option<Rc<Chain>>>>> {
    texts.map(|texts| one_each("chains", texts.len(), sources).and_then(|()| parse_chains(texts))).transpose()
}

/// The chains of some texts; texts that repeat are parsed once.
fn parse_chains(texts: &[Option<String>]) -> PyResult<Vec<Option<Rc<Chain>>>> {
    let mut known: HashMap<&str, Rc<Chain>> = HashMap::new();
    let mut chains = Vec::with_capacity(texts.len());
    for text in texts {
        let Some(text) = text else {
            chains.push(None);
            continue;
        };
        if !known.contains_key(text.as_str()) {
            let chain = Chain::parse(text).map_err(|error| crate::error::to_python(&error))?;
            known.insert(text, Rc::new(chain));
        }
        chains.push(known.get(text.as_str()).cloned());
    }
    Ok(chains)
}

/// A path, the bytes of a file or an (H, W, 3) uint8 array, the `index`-th of its call.
pub(crate) fn to_source(index: usize, source: &Bound<'_, PyAny>) -> PyResult<Source> {
    if let Ok(path) = source.extract::<String>() {
        return Ok(Source::Path(path));
    }
    if let Ok(bytes) = source.extract::<PyBackedBytes>() {
        return Ok(Source::Bytes { name: format!("bytes {index}"), bytes: Box::new(bytes) });
    }
    let Ok(array) = source.extract::<PyReadonlyArray3<'_, u8>>() else {
        let kind = source.get_type();
        return Err(PyTypeError::new_err(format!(
            "images[{index}]: {kind} is no path, bytes or (H, W, 3) uint8 array"
        )));
    };
    let &[height, width, channels] = array.shape() else {
        return Err(PyTypeError::new_err(format!("images[{index}]: the array has not three axes")));
    };
    if channels != 3 {
        return Err(PyTypeError::new_err(format!("images[{index}]: {channels} channels, not 3")));
    }
    // Copied: another thread may write to the array while this one works without the interpreter.
    // `as_slice` gives Fortran-ordered memory too, as it lies: only C order is the order of an image.
    let data = match array.as_slice() {
        Ok(slice) if array.is_c_contiguous() => slice.to_vec(),
        _ => array.as_array().iter().copied().collect(),
    };
    let image = Image::from_rgb(width as u32, height as u32, data).map_err(|error| crate::error::to_python(&error))?;
    Ok(Source::Pixels { name: format!("array {index}"), image })
}
