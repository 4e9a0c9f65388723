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
use crate::quality::{self, Measured};

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
}

impl Source {
    fn name(&self) -> &str {
        match self {
            Self::Path(name) | Self::Bytes { name, .. } | Self::Pixels { name, .. } => name,
        }
    }

    fn image(self, limits: &Limits) -> Result<Image> {
        match self {
            Self::Path(path) => {
                let bytes = codec::read_file(&path, limits)?;
                codec::decode(&Input { name: &path, bytes: &bytes }, limits, false)
            }
            Self::Bytes { name, bytes } => {
                codec::decode(&Input { name: &name, bytes: bytes.as_ref().as_ref() }, limits, false)
            }
            Self::Pixels { image, .. } => Ok(image),
        }
    }
}

/// One input of [`extract_many`].
pub struct Item<'a> {
    /// Where its pixels come from.
    pub source: Source,
    /// What is done to them before the features are computed.
    pub chain: Option<&'a Chain>,
    /// Seed of the chain's random steps.
    pub seed: u64,
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
    let one = |name: &str, item: Item<'_>| {
        let image = item.source.image(limits)?;
        let image = match item.chain {
            Some(chain) => chain.apply(image, item.seed)?,
            None => image,
        };
        features::extract(name, &image, selection)
    };
    each(items, |item| item.source.name().to_owned(), one, threads, go_on)
}

/// The values of `selection` on each source under each of its chains, as [`extract_many`]: a source is decoded once, and
/// chains that begin alike share that work. The outer error is the source's own, an inner one a chain's.
pub fn extract_chains(
    sources: Vec<(Source, Vec<&Chain>, u64)>,
    selection: &Selection,
    threads: usize,
    limits: &Limits,
    go_on: impl FnMut() -> bool,
) -> Option<Vec<Result<Vec<Result<Vec<f32>>>>>> {
    let one = |name: &str, (source, chains, seed): (Source, Vec<&Chain>, u64)| {
        let image = source.image(limits)?;
        let mut found: Vec<Result<Vec<f32>>> = chains.iter().map(|_| Ok(Vec::new())).collect();
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
