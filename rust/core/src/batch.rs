//! Many inputs on a stated number of threads.
//!
//! Threads live as long as one call: a pool kept across a `fork` would hold threads that the child does not have, and
//! wait for them for ever. Starting a thread costs some 20 µs, one image some milliseconds.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::codec::{self, Input, Limits};
use crate::error::{Error, Result};
use crate::features::{self, Selection};
use crate::image::Image;
use crate::perturb::{self, Chain};
use crate::preprocess::{Preprocessing, View, patches};
use crate::quality::{self, Measured};
use crate::transform::resize::Region;

/// Where the pixels of one input come from.
pub enum Source {
    /// A file; its path names it.
    Path(String),
    /// The content of a file.
    Bytes {
        /// What errors call it.
        name: String,
        /// The content, wherever it is kept.
        bytes: Box<dyn AsRef<[u8]> + Send>,
    },
    /// Pixels.
    Pixels {
        /// What errors call them.
        name: String,
        /// The pixels.
        image: Image,
    },
    /// Pixels that are copied from elsewhere when their turn comes, so that no batch holds a copy of all of them.
    Deferred {
        /// What errors call them.
        name: String,
        /// Makes the copy, on whatever thread.
        image: Box<dyn FnOnce() -> Result<Image> + Send>,
    },
}

impl Source {
    fn name(&self) -> &str {
        match self {
            Self::Path(name) | Self::Bytes { name, .. } | Self::Pixels { name, .. } | Self::Deferred { name, .. } => {
                name
            }
        }
    }

    fn image(self, limits: &Limits) -> Result<Image> {
        self.image_part(limits, |_, _| None)
    }

    /// The pixels, of which those outside the `part` for a (width, height) need not be there.
    fn image_part(self, limits: &Limits, part: impl FnOnce(u32, u32) -> Option<Region>) -> Result<Image> {
        match self {
            Self::Path(path) => {
                let bytes = codec::read_file(&path, limits)?;
                codec::decode_part(&Input { name: &path, bytes: &bytes }, limits, part)
            }
            Self::Bytes { name, bytes } => {
                codec::decode_part(&Input { name: &name, bytes: bytes.as_ref().as_ref() }, limits, part)
            }
            Self::Pixels { image, .. } => Ok(image),
            Self::Deferred { image, .. } => image(),
        }
    }
}

/// One input of [`extract_many`], [`prepare_many`] or [`patches_many`].
pub struct Item<'a> {
    /// Where its pixels come from.
    pub source: Source,
    /// What is done to them first.
    pub chain: Option<&'a Chain>,
    /// Seed of the chain's random steps.
    pub seed: u64,
}

impl Item<'_> {
    /// The pixels after the chain.
    fn image(self, limits: &Limits) -> Result<Image> {
        let image = self.source.image(limits)?;
        match self.chain {
            Some(chain) => chain.apply(image, self.seed),
            None => Ok(image),
        }
    }

    /// As [`Item::image`], but only the pixels of the `part` for a (width, height) need be there.
    fn image_part(self, limits: &Limits, part: impl Fn(u32, u32) -> Option<Region>) -> Result<Image> {
        let Some(chain) = self.chain else { return self.source.image_part(limits, part) };
        let read = |width, height| chain.part_read(width, height, part(width, height)?);
        let image = self.source.image_part(limits, read)?;
        match part(image.width(), image.height()) {
            Some(part) => chain.apply_part(image, self.seed, part),
            None => chain.apply(image, self.seed),
        }
    }
}

/// The values of `selection` on each item, in their order, one result each: a bad input, or even a panic, is the
/// error of its own row.
///
/// Works on `threads` threads (at least 1), the calling one among them. Each thread holds the pixels of one input at a
/// time. `go_on` is asked on the calling thread between inputs; once it says no, `None` comes back.
pub fn extract_many(
    items: Vec<Item<'_>>,
    selection: &Selection,
    threads: usize,
    limits: &Limits,
    go_on: impl FnMut() -> bool,
) -> Option<Vec<Result<Vec<f32>>>> {
    let one = |name: &str, item: Item<'_>| features::extract(name, &item.image(limits)?, selection);
    each(items, |item| item.source.name().to_owned(), one, threads, go_on)
}

/// A source's values under each of its chains.
pub type UnderChains = Vec<Result<Vec<f32>>>;

/// The values of `selection` on each source under each of its chains, as [`extract_many`]: a source is decoded once, and
/// chains that begin alike share that work. The outer error is the source's own, an inner one a chain's.
pub fn extract_chains(
    sources: Vec<(Source, Vec<&Chain>, u64)>,
    selection: &Selection,
    threads: usize,
    limits: &Limits,
    go_on: impl FnMut() -> bool,
) -> Option<Vec<Result<UnderChains>>> {
    let one = |name: &str, (source, chains, seed): (Source, Vec<&Chain>, u64)| {
        let image = source.image(limits)?;
        let mut found: UnderChains = chains.iter().map(|_| Ok(Vec::new())).collect();
        perturb::apply_each(&chains, &image, seed, &mut |index, made| {
            found[index] = made.and_then(|image| guarded(name, || features::extract(name, image, selection)));
        });
        Ok(found)
    };
    each(sources, |(source, _, _)| source.name().to_owned(), one, threads, go_on)
}

/// What [`quality::measure`] says of each source, as [`extract_many`].
pub fn measure_many(
    sources: Vec<Source>,
    threads: usize,
    limits: &Limits,
    go_on: impl FnMut() -> bool,
) -> Option<Vec<Result<Measured>>> {
    let one = |name: &str, source: Source| quality::measure(name, &source.image(limits)?);
    each(sources, |source| source.name().to_owned(), one, threads, go_on)
}

/// Rows of a network's input.
#[derive(Debug, Default)]
pub struct Prepared {
    /// The rows one after the other.
    pub values: Vec<f32>,
    /// (height, width) of a row of three channels; (0, 0) where there is none.
    pub size: (usize, usize),
    /// Of each row, the item that it comes from, ascending.
    pub sources: Vec<usize>,
    /// The items that gave no row.
    pub errors: Vec<(usize, Error)>,
}

/// The rows of each item, as [`extract_many`]; a wrong argument is the error of the call. Where every item gives one
/// row, it is written where it stays. [`Crop::Full`](crate::preprocess::Crop::Full) takes items of one size only. A view
/// that is not the usual one goes with modes of one row an image. With `partial`, only what the row needs is decoded and
/// perturbed, as [`codec::decode_part`] and [`Chain::apply_part`] do it.
pub fn prepare_many(
    items: Vec<(Item<'_>, View)>,
    how: &Preprocessing,
    partial: bool,
    threads: usize,
    limits: &Limits,
    go_on: impl FnMut() -> bool,
) -> Result<Option<Prepared>> {
    how.check(limits)?;
    if let Some(length) = how.length() {
        let write = |name: &str, (item, view): (Item<'_>, View), out: &mut [f32]| {
            let image = if partial {
                item.image_part(limits, |width, height| how.part(width, height, view))?
            } else {
                item.image(limits)?
            };
            how.write(name, &image, view, out)
        };
        let prepared = fill(items, |(item, _)| item, length, write, threads, go_on)?;
        let size = (how.size.0 as usize, how.size.1 as usize);
        return Ok(prepared.map(|prepared| Prepared { size, ..prepared }));
    }
    if items.iter().any(|(_, view)| *view != View::default()) {
        return Err(Error::argument("views", "go with a crop_mode that gives one row an image"));
    }
    let one = |name: &str, (item, _): (Item<'_>, View)| how.rows(name, &item.image(limits)?, limits);
    each(items, |(item, _)| item.source.name().to_owned(), one, threads, go_on).map(join).transpose()
}

/// [`patches::LENGTH`] values of each item, as [`extract_many`]; they are one row of [`Prepared`].
pub fn patches_many(
    items: Vec<Item<'_>>,
    threads: usize,
    limits: &Limits,
    go_on: impl FnMut() -> bool,
) -> Result<Option<Prepared>> {
    let write = |name: &str, item: Item<'_>, out: &mut [f32]| patches::write(name, &item.image(limits)?, out);
    let prepared = fill(items, |item| item, patches::LENGTH, write, threads, go_on)?;
    let size = (patches::ENLARGED, patches::ENLARGED);
    Ok(prepared.map(|prepared| Prepared { size, ..prepared }))
}

/// `length` values of each of `inputs`, whose item `item` finds, written by `write` to their place among all values.
fn fill<'a, I: Send>(
    inputs: Vec<I>,
    item: impl Fn(&I) -> &Item<'a> + Sync,
    length: usize,
    write: impl Fn(&str, I, &mut [f32]) -> Result<()> + Sync,
    threads: usize,
    go_on: impl FnMut() -> bool,
) -> Result<Option<Prepared>> {
    let mut values = zeros(inputs.len().saturating_mul(length))?;
    let slots: Vec<_> = inputs.into_iter().zip(values.chunks_exact_mut(length)).collect();
    let one = |name: &str, (input, out): (I, &mut [f32])| write(name, input, out);
    let Some(results) = each(slots, |(input, _)| item(input).source.name().to_owned(), one, threads, go_on) else {
        return Ok(None);
    };
    let mut prepared = Prepared::default();
    for (index, result) in results.into_iter().enumerate() {
        match result {
            Ok(()) => {
                // Rows after a failed one move up.
                let row = prepared.sources.len();
                if row < index {
                    values.copy_within(index * length..(index + 1) * length, row * length);
                }
                prepared.sources.push(index);
            }
            Err(error) => prepared.errors.push((index, error)),
        }
    }
    values.truncate(prepared.sources.len() * length);
    prepared.values = values;
    Ok(Some(prepared))
}

/// Rows one after the other, and the (height, width) of each.
type Rows = (Vec<f32>, (usize, usize));

/// The rows of all items; they must have one size.
fn join(results: Vec<Result<Rows>>) -> Result<Prepared> {
    let mut prepared = Prepared::default();
    let total = results.iter().flatten().map(|(values, _)| values.len()).sum();
    for (index, result) in results.into_iter().enumerate() {
        let (values, size) = match result {
            Ok(rows) => rows,
            Err(error) => {
                prepared.errors.push((index, error));
                continue;
            }
        };
        if prepared.sources.is_empty() {
            prepared.size = size;
        } else if prepared.size != size {
            let ((height, width), (h, w)) = (prepared.size, size);
            let detail = format!("images of {width}x{height} and of {w}x{h} make no batch; give one at a time");
            return Err(Error::argument("crop_mode", detail));
        }
        let rows = values.len() / (3 * size.0 * size.1);
        prepared.sources.extend(std::iter::repeat_n(index, rows));
        if values.len() == total {
            prepared.values = values;
        } else {
            if prepared.values.is_empty() {
                prepared.values = reserved(total)?;
            }
            prepared.values.extend(values);
        }
    }
    Ok(prepared)
}

/// `count` zeros, or an error where there is no room for them: the allocator of a `Vec` would end the process.
fn zeros(count: usize) -> Result<Vec<f32>> {
    drop(reserved(count)?);
    Ok(vec![0.0; count]) // pages that nobody has written to yet cost nothing
}

fn reserved(count: usize) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| {
        Error::argument("sources", format!("{count} values do not fit in memory; give fewer at a time"))
    })?;
    Ok(values)
}

/// `one` of each item and its name, in their order, as [`extract_many`] says.
fn each<I: Send, R: Send>(
    items: Vec<I>,
    name: impl Fn(&I) -> String + Sync,
    one: impl Fn(&str, I) -> Result<R> + Sync,
    threads: usize,
    mut go_on: impl FnMut() -> bool,
) -> Option<Vec<Result<R>>> {
    let count = items.len();
    let queue = Mutex::new(items.into_iter().enumerate());
    let stopped = AtomicBool::new(false);
    let done = Mutex::new(Vec::with_capacity(count));
    let work = |go_on: &mut dyn FnMut() -> bool| {
        while !stopped.load(Ordering::Relaxed) {
            let Some((index, item)) = lock(&queue).next() else { break };
            let name = name(&item);
            let result = guarded(&name, || one(&name, item));
            lock(&done).push((index, result));
            if !go_on() {
                stopped.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(count) {
            scope.spawn(|| work(&mut || true));
        }
        work(&mut go_on);
    });
    if stopped.into_inner() {
        return None;
    }
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_unstable_by_key(|(index, _)| *index);
    Some(done.into_iter().map(|(_, result)| result).collect())
}

/// A lock whose holders cannot panic.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The result of `work` on the input `name`; a panic is an error like any other.
fn guarded<R>(name: &str, work: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(Error::Internal { input: name.into(), message: told(panic.as_ref()) }))
}

fn told(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_owned())
}
