//! Networks' inputs, AIDE's patches, and pairs of near-duplicate images.

use std::rc::Rc;

use mllmrisk_core::batch::{self, Item, Prepared, Source};
use mllmrisk_core::codec::Limits;
use mllmrisk_core::image::Image;
use mllmrisk_core::perturb::Chain;
use mllmrisk_core::preprocess::{Crop, Padding, Preprocessing, Resampling, Rounding, View};
use mllmrisk_core::{Error, Result, quality};
use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray3,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;

use crate::convert::{detached, interruptible};

/// Adds this part's functions to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(prepare, module)?)?;
    module.add_function(wrap_pyfunction!(patches_of, module)?)?;
    module.add_function(wrap_pyfunction!(near_duplicates, module)?)
}

/// The attributes of `mllmrisk.images.Preprocessing`.
#[derive(FromPyObject)]
struct How {
    crop_mode: String,
    size: Option<(u32, u32)>,
    resize: Option<u32>,
    interpolation: String,
    antialias: bool,
    rounding: String,
    padding: String,
    fill: u8,
    stride: Option<u32>,
    channels: String,
    layout: String,
    scale: f32,
    mean: [f32; 3],
    std: [f32; 3],
    minimum: u32,
}

impl How {
    fn parse(&self) -> Result<Preprocessing> {
        let size = self.size.unwrap_or_default();
        Ok(Preprocessing {
            crop: match self.crop_mode.as_str() {
                "squash" => Crop::Squash,
                "short" => Crop::Short { to: self.resize.unwrap_or(size.0.min(size.1)) },
                "centre" => Crop::Centre,
                "pad" => Crop::Pad,
                "longest" => Crop::Longest,
                "tiles" => Crop::Tiles { stride: self.stride.unwrap_or(size.0.min(size.1)) },
                "full" => Crop::Full,
                other => return Err(unknown("crop_mode", other)),
            },
            size,
            resampling: Resampling::parse(&self.interpolation, self.antialias)?,
            rounding: either("rounding", &self.rounding, [("even", Rounding::Even), ("down", Rounding::Down)])?,
            padding: either(
                "padding",
                &self.padding,
                [("constant", Padding::Constant(self.fill)), ("reflect", Padding::Reflect)],
            )?,
            bgr: either("channels", &self.channels, [("RGB", false), ("BGR", true)])?,
            interleaved: either("layout", &self.layout, [("NCHW", false), ("NHWC", true)])?,
            scale: self.scale,
            mean: self.mean,
            std: self.std,
            minimum: self.minimum,
        })
    }
}

fn either<T, const N: usize>(argument: &str, text: &str, known: [(&str, T); N]) -> Result<T> {
    let found = known.into_iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| value).ok_or_else(|| unknown(argument, text))
}

fn unknown(argument: &str, text: &str) -> Error {
    Error::argument(argument, format!("`{text}` is unknown"))
}

/// Values flat float32, the (height, width) of a row, rows (m,) int64 and errors (index, code, message).
type Rows<'py> =
    (Bound<'py, PyArray1<f32>>, (usize, usize), Bound<'py, PyArray1<i64>>, Vec<(usize, &'static str, String)>);

/// One of `mllmrisk.images.View`: fractions of the free rows and columns, and whether it is turned over.
type At = (Option<[f64; 2]>, bool);

/// Rows of a network's input; `how` has the attributes of `mllmrisk.images.Preprocessing`. The i-th source draws from
/// `seeds[i]`, or else from `seed + i`.
#[pyfunction]
#[pyo3(signature = (sources, how, threads, chains = None, seed = 0, seeds = None, views = None, partial = false))]
#[allow(clippy::needless_pass_by_value, clippy::too_many_arguments)] // pyo3 hands over owned values, one an argument
fn prepare<'py>(
    py: Python<'py>,
    sources: Vec<Bound<'py, PyAny>>,
    how: How,
    threads: usize,
    chains: Option<Vec<Option<String>>>,
    seed: u64,
    seeds: Option<Vec<u64>>,
    views: Option<Vec<At>>,
    partial: bool,
) -> PyResult<Rows<'py>> {
    let how = how.parse().map_err(|error| crate::error::to_python(&error))?;
    let chains = crate::features::one_chain_each(chains.as_deref(), sources.len())?;
    let mut items = to_items(&sources, chains.as_deref(), seed)?;
    if let Some(seeds) = seeds {
        crate::features::one_each("seeds", seeds.len(), items.len())?;
        items.iter_mut().zip(seeds).for_each(|(item, seed)| item.seed = seed);
    }
    let views = views.unwrap_or_else(|| vec![(None, false); items.len()]);
    crate::features::one_each("views", views.len(), items.len())?;
    let views = views.into_iter().map(|(at, mirrored)| View { at, mirrored });
    let items = items.into_iter().zip(views).collect();
    let limits = Limits::default();
    let work =
        |go_on: &mut (dyn FnMut() -> bool + Send)| batch::prepare_many(items, &how, partial, threads, &limits, go_on);
    Ok(converted(py, interruptible(|go_on| detached(py, || work(go_on)))?))
}

/// AIDE's patches, four of an image one after the other.
#[pyfunction]
#[pyo3(name = "patches", signature = (sources, threads, chains = None, seed = 0))]
#[allow(clippy::needless_pass_by_value)] // pyo3 hands over owned values
fn patches_of<'py>(
    py: Python<'py>,
    sources: Vec<Bound<'py, PyAny>>,
    threads: usize,
    chains: Option<Vec<Option<String>>>,
    seed: u64,
) -> PyResult<Rows<'py>> {
    let chains = crate::features::one_chain_each(chains.as_deref(), sources.len())?;
    let items = to_items(&sources, chains.as_deref(), seed)?;
    let limits = Limits::default();
    let work = |go_on: &mut (dyn FnMut() -> bool + Send)| batch::patches_many(items, threads, &limits, go_on);
    Ok(converted(py, interruptible(|go_on| detached(py, || work(go_on)))?))
}

fn converted(py: Python<'_>, prepared: Prepared) -> Rows<'_> {
    let rows: Vec<i64> = prepared.sources.into_iter().map(|index| index as i64).collect();
    let errors = prepared.errors.into_iter().map(|(index, error)| (index, error.code(), error.to_string())).collect();
    (prepared.values.into_pyarray(py), prepared.size, rows.into_pyarray(py), errors)
}

fn to_items<'a>(
    sources: &[Bound<'_, PyAny>],
    chains: Option<&'a [Option<Rc<Chain>>]>,
    seed: u64,
) -> PyResult<Vec<Item<'a>>> {
    let item = |(index, source): (usize, &Bound<'_, PyAny>)| {
        let chain = chains.and_then(|chains| chains[index].as_deref());
        let source = match source.cast::<PyArray3<u8>>() {
            Ok(array) if array.shape()[2] == 3 => deferred(index, array),
            _ => crate::features::to_source(index, source)?,
        };
        Ok(Item { source, chain, seed: seed.wrapping_add(index as u64) })
    };
    sources.iter().enumerate().map(item).collect()
}

/// An array that is copied when its turn comes: a batch of arrays is not held twice.
fn deferred(index: usize, array: &Bound<'_, PyArray3<u8>>) -> Source {
    let array = array.clone().unbind();
    let name = format!("array {index}");
    let input = name.clone();
    let copy = move || {
        Python::attach(|py| {
            let array = array.bind(py);
            let busy = |_| Error::Internal { input: input.into(), message: "the array is being written to".to_owned() };
            let view: PyReadonlyArray3<'_, u8> = array.try_readonly().map_err(busy)?;
            let &[height, width, _] = view.shape() else { return Err(unknown("sources", "an array of other axes")) };
            let data = match view.as_slice() {
                Ok(slice) if view.is_c_contiguous() => slice.to_vec(),
                _ => view.as_array().iter().copied().collect(),
            };
            Image::from_rgb(width as u32, height as u32, data)
        })
    };
    Source::Deferred { name, image: Box::new(copy) }
}

/// Pairs (k, 2) int64 of hashes that differ in at most `distance` bits, those of one group left out.
#[pyfunction]
#[pyo3(signature = (hashes, distance, groups = None))]
#[allow(clippy::needless_pass_by_value)] // pyo3 hands over owned values
fn near_duplicates<'py>(
    py: Python<'py>,
    hashes: PyReadonlyArray1<'py, u64>,
    distance: u32,
    groups: Option<PyReadonlyArray1<'py, i64>>,
) -> PyResult<Bound<'py, PyArray2<i64>>> {
    let hashes: Vec<u64> = hashes.as_array().iter().copied().collect();
    let groups: Option<Vec<i64>> = groups.map(|groups| groups.as_array().iter().copied().collect());
    let pairs = detached(py, || quality::near_duplicates(&hashes, distance, groups.as_deref()))?;
    let count = pairs.len();
    pairs.into_flattened().into_pyarray(py).reshape([count, 2])
}
