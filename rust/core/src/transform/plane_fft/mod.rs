//! The 2-D transform of a real plane and back, sides of any length (docs/design/0017).
//!
//! ```text
//! 32 rows  -> transposed into 16 complex signals side by side -> passes -> spectra told apart -> half spectra, row-major
//! 16 columns of those -> passes that read from and write to the plane's rows
//! ```
//!
//! Signals lie side by side ([`passes::Line`]), so every operation is on whole vectors whatever the length. Lengths with
//! prime factors up to 31 have passes of radix 8, 4, 2 and the odd primes ([`plan`]); others go through Bluestein's
//! algorithm. Nothing here is generic towards other crates: kernels that are compiled in the binding's crate are 2.5 times
//! slower. The order of sums depends neither on threads nor on other planes; between machines results differ by
//! rounding where one fuses products and sums.

mod bluestein;
mod butterfly;
mod columns;
mod passes;
mod plan;
mod rows;
mod simd;

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

use rustfft::num_complex::Complex32;

use passes::{Line, SIGNALS};
use plan::{Plan, plan};
pub use rows::Samples;

use crate::error::{Error, Result};

/// Half of the spectrum of a real plane: the other half is its conjugate.
#[derive(Debug, Clone)]
pub struct Spectrum {
    /// Width of the plane in pixels; horizontal frequencies are 0 to `width / 2`.
    pub width: usize,
    /// Height of the plane in pixels: the number of vertical frequencies.
    pub height: usize,
    /// `[v * (width / 2 + 1) + u]`, u horizontal and v vertical, not normalised.
    pub data: Vec<Complex32>,
}

/// The transform of `plane`, rows of `width` values.
///
/// # Panics
/// Where `plane` is not whole rows, or empty.
pub fn forward<'a>(plane: impl Into<Samples<'a>>, width: usize) -> Spectrum {
    let plane = plane.into();
    assert!(plane.len() > 0 && plane.len().is_multiple_of(width), "a plane is whole rows");
    let (height, across) = (plane.len() / width, rows::across(width));
    let mut data = vec![Complex32::default(); across * height];
    forward_into(plane, width, &mut data);
    Spectrum { width, height, data }
}

/// The plane that `spectrum` is the transform of. What cannot come from a real plane is left out: the imaginary parts
/// of horizontal frequencies 0 and (of an even width) `width / 2` once columns are transformed.
///
/// # Panics
/// Where the fields of `spectrum` do not fit each other.
pub fn inverse(spectrum: Spectrum) -> Vec<f32> {
    let Spectrum { width, height, mut data } = spectrum;
    assert!(width * height > 0 && data.len() == rows::across(width) * height, "half a spectrum of {width}x{height}");
    let mut plane = vec![0.0; width * height];
    inverse_into(&mut data, width, &mut plane);
    plane
}

/// [`forward`] of planes of `height` rows one after the other, up to `threads` at once.
///
/// # Panics
/// Where `planes` is not whole planes.
pub fn forward_many(planes: Samples<'_>, (height, width): (usize, usize), threads: usize) -> Result<Vec<Complex32>> {
    let (area, half) = areas(height, width, threads)?;
    assert!(planes.len().is_multiple_of(area), "planes of {width}x{height}");
    let mut data = vec![Complex32::default(); planes.len() / area * half];
    share(threads, planes.chunks(area).zip(data.chunks_mut(half)).collect(), |(plane, spectrum)| {
        forward_into(plane, width, spectrum);
    });
    Ok(data)
}

/// [`inverse`] of spectra one after the other, up to `threads` at once.
///
/// # Panics
/// Where `spectra` is not whole spectra.
pub fn inverse_many(mut spectra: Vec<Complex32>, (height, width): (usize, usize), threads: usize) -> Result<Vec<f32>> {
    let (area, half) = areas(height, width, threads)?;
    assert!(spectra.len().is_multiple_of(half), "half spectra of {width}x{height}");
    let mut planes = vec![0.0; spectra.len() / half * area];
    share(threads, spectra.chunks_mut(half).zip(planes.chunks_mut(area)).collect(), |(spectrum, plane)| {
        inverse_into(spectrum, width, plane);
    });
    Ok(planes)
}

/// Values of a plane and of its half spectrum.
fn areas(height: usize, width: usize, threads: usize) -> Result<(usize, usize)> {
    if threads == 0 {
        return Err(Error::argument("threads", "0 is less than 1"));
    }
    if height == 0 || width == 0 {
        return Err(Error::argument("shape", format!("a plane of {height} rows of {width} has no transform")));
    }
    // Places in a transform are 32-bit numbers.
    if height.max(width) >= 1 << 30 {
        return Err(Error::argument("shape", format!("{height} rows of {width} are too long")));
    }
    Ok((height * width, height * rows::across(width)))
}

/// Does `work` on all `parts`, on up to `threads` threads that live no longer.
fn share<T: Send>(threads: usize, parts: Vec<T>, work: impl Fn(T) + Sync) {
    let threads = threads.min(parts.len());
    if threads <= 1 {
        return parts.into_iter().for_each(work);
    }
    let queue = Mutex::new(parts.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let until_empty = || {
        while let Some(part) = next() {
            work(part);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(until_empty);
        }
        until_empty();
    });
}

fn forward_into(plane: Samples<'_>, width: usize, data: &mut [Complex32]) {
    let (height, across) = (plane.len() / width, rows::across(width));
    let (horizontal, vertical) = (plan(width), plan(height));
    let columns = if rows::is_packed(width) { across - 1 } else { across };
    with_scratch(&horizontal, &vertical, |lines, spare| {
        let signals = &mut lines[..horizontal.lines()];
        for (real, spectra) in plane.chunks(rows::ROWS * width).zip(data.chunks_mut(rows::ROWS * across)) {
            rows::load(&horizontal, real, signals);
            horizontal.transform(signals, spare);
            rows::unpack(&horizontal, signals, spectra);
        }
        columns::transform::<false>(&vertical, data, across, columns, (&mut lines[..vertical.lines()], spare));
    });
    if rows::is_packed(width) {
        part_ends(data, across);
    }
}

/// `data` is used up.
fn inverse_into(data: &mut [Complex32], width: usize, plane: &mut [f32]) {
    let (height, across) = (plane.len() / width, rows::across(width));
    let (horizontal, vertical) = (plan(width), plan(height));
    if rows::is_packed(width) {
        join_ends(data, across);
    }
    let columns = if rows::is_packed(width) { across - 1 } else { across };
    let scale = 1.0 / plane.len() as f32;
    with_scratch(&horizontal, &vertical, |lines, spare| {
        columns::transform::<true>(&vertical, data, across, columns, (&mut lines[..vertical.lines()], spare));
        let signals = &mut lines[..horizontal.lines()];
        for (spectra, real) in data.chunks(rows::ROWS * across).zip(plane.chunks_mut(rows::ROWS * width)) {
            rows::pack(&horizontal, spectra, signals);
            horizontal.transform(signals, spare);
            rows::store(&horizontal, signals, scale, real);
        }
    });
}

/// The inverse transform, in place, of a full square spectrum `[v * side + u]` of a complex plane, not normalised: the
/// plane comes out as columns, `[x * side + y]`.
pub fn inverse_square(data: &mut [Complex32], side: usize) {
    let plan = plan(side);
    with_scratch(&plan, &plan, |lines, spare| {
        let lines = &mut lines[..plan.lines()];
        columns::transform::<true>(&plan, data, side, side, (&mut *lines, &mut *spare));
        transpose(data, side);
        columns::transform::<true>(&plan, data, side, side, (lines, spare));
    });
}

fn transpose(square: &mut [Complex32], side: usize) {
    /// Side of the squares that are exchanged one by one, so that both stay in the cache.
    const SQUARE: usize = 8;
    for top in (0..side).step_by(SQUARE) {
        for left in (top..side).step_by(SQUARE) {
            for y in top..side.min(top + SQUARE) {
                for x in left.max(y + 1)..side.min(left + SQUARE) {
                    square.swap(y * side + x, x * side + y);
                }
            }
        }
    }
}

/// Tells the first and the last column apart that were transformed as one.
fn part_ends(data: &mut [Complex32], across: usize) {
    let height = data.len() / across;
    for v in 0..=height / 2 {
        let w = (height - v) % height;
        let (z, y) = (data[v * across], data[w * across]);
        let first = Complex32::new(z.re + y.re, z.im - y.im) / 2.0;
        let last = Complex32::new(z.im + y.im, y.re - z.re) / 2.0;
        (data[v * across], data[w * across]) = (first, first.conj());
        (data[(v + 1) * across - 1], data[(w + 1) * across - 1]) = (last, last.conj());
    }
}

/// Makes one column of the first and the last, without what has no real transform.
fn join_ends(data: &mut [Complex32], across: usize) {
    let height = data.len() / across;
    for v in 0..=height / 2 {
        let w = (height - v) % height;
        let even = |column: usize| (data[v * across + column] + data[w * across + column].conj()) / 2.0;
        let (first, last) = (even(0), even(across - 1));
        data[v * across] = Complex32::new(first.re - last.im, first.im + last.re);
        data[w * across] = Complex32::new(first.re + last.im, last.re - first.im);
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with lines for the longer of the plans, and with what they need beside them.
fn with_scratch(horizontal: &Plan, vertical: &Plan, work: impl FnOnce(&mut [Line], &mut [Line])) {
    /// Lines that are kept for the next transform: 2 MiB.
    const MOST: usize = (2 << 20) / (8 * SIGNALS);
    let lines = horizontal.lines().max(vertical.lines());
    let all = lines + horizontal.spare().max(vertical.spare());
    let mut scratch = SCRATCH.take();
    if scratch.len() < all {
        scratch.resize(all, Line::ZERO);
    }
    let (lines, spare) = scratch[..all].split_at_mut(lines);
    work(lines, spare);
    if scratch.len() <= MOST {
        SCRATCH.set(scratch);
    }
}

#[cfg(test)]
mod tests {
    use rustfft::num_complex::Complex64;

    use super::simd::MOST_LANES;
    use super::{Samples, forward, forward_many, inverse, inverse_many, inverse_square};

    fn noise(count: usize) -> Vec<f32> {
        let mut state = 88_172_645_463_325_252_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// Straight from the definition, in double precision.
    fn by_definition(plane: &[f32], width: usize) -> Vec<Complex64> {
        let height = plane.len() / width;
        let cis = |k: usize, n: usize| Complex64::cis(-std::f64::consts::TAU * (k % n) as f64 / n as f64);
        let across = width / 2 + 1;
        let rows: Vec<Complex64> = plane
            .chunks_exact(width)
            .flat_map(|row| (0..across).map(move |u| (0..width).map(|x| f64::from(row[x]) * cis(u * x, width)).sum()))
            .collect();
        (0..height * across)
            .map(|i| (0..height).map(|y| rows[y * across + i % across] * cis(i / across * y, height)).sum())
            .collect()
    }

    const SIZES: [(usize, usize); 16] = [
        (1, 1),
        (2, 1),
        (1, 3),
        (8, 8),
        (31, 33),
        (32, 32),
        (34, 17),
        (48, 40),
        (64, 64),
        (70, 63),
        (37, 41),
        (74, 3),
        (121, 26),
        (96, 1),
        (128, 37),
        (260, 34),
    ];

    /// `check` for every size, with every kind of vectors that the machine has.
    fn on_all_vectors(check: impl Fn(usize, usize)) {
        for lanes in [16, 8, 0] {
            MOST_LANES.set(lanes);
            for (width, height) in SIZES {
                check(width, height);
            }
        }
        MOST_LANES.set(16);
    }

    #[test]
    fn forward_is_the_definition() {
        on_all_vectors(|width, height| {
            let plane = noise(width * height);
            let wanted = by_definition(&plane, width);
            let most = wanted.iter().map(|c| c.norm()).fold(0.0, f64::max);
            let found = forward(&plane, width).data;
            for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                let error = (Complex64::new(f64::from(found.re), f64::from(found.im)) - wanted).norm();
                assert!(error <= 2e-6 * most, "{width}x{height} at {i}: {found} {wanted}");
            }
        });
    }

    #[test]
    fn inverse_undoes_forward() {
        on_all_vectors(|width, height| {
            let plane = noise(width * height);
            let again = inverse(forward(&plane, width));
            let worst = plane.iter().zip(&again).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 2e-6, "{width}x{height}: {worst}");
        });
    }

    #[test]
    fn many_are_each() {
        let (width, height) = (40, 33);
        let planes = noise(5 * width * height);
        let spectra = forward_many(Samples::from(&planes), (height, width), 3).expect("the size is right");
        let each: Vec<_> = planes.chunks(width * height).flat_map(|plane| forward(plane, width).data).collect();
        assert_eq!(spectra, each);
        let again = inverse_many(spectra, (height, width), 2).expect("the size is right");
        assert!(planes.iter().zip(&again).all(|(a, b)| (a - b).abs() < 2e-6));
        assert_eq!(forward_many(Samples::from(&planes), (0, width), 1).expect_err("no rows").code(), "argument");
    }

    #[test]
    fn bytes_are_floats() {
        let bytes: Vec<u8> = (0..70 * 33).map(|i| (i * i % 251) as u8).collect();
        let floats: Vec<f32> = bytes.iter().map(|&b| f32::from(b)).collect();
        assert_eq!(forward(&bytes, 70).data, forward(&floats, 70).data);
    }

    #[test]
    fn a_whole_square_comes_back_as_columns() {
        let side = 20;
        let plane = noise(side * side);
        let half = forward(&plane, side).data;
        let across = side / 2 + 1;
        let at = |v: usize, u: usize| {
            if u < across { half[v * across + u] } else { half[(side - v) % side * across + side - u].conj() }
        };
        let mut whole: Vec<_> = (0..side * side).map(|i| at(i / side, i % side)).collect();
        inverse_square(&mut whole, side);
        for (i, value) in whole.iter().enumerate() {
            let wanted = plane[i % side * side + i / side] * (side * side) as f32;
            assert!((value.re - wanted).abs() < 1e-3 && value.im.abs() < 1e-3, "{i}: {value} {wanted}");
        }
    }
}
