//! Filters of integer taps: exact, so that every machine counts the same residuals.

#![allow(clippy::inline_always, clippy::needless_range_loop)] // a loop over lanes indexes several arrays at once

use multiversion::multiversion;

use crate::image::Plane;

/// Pixels on each side of a [`Taps`] kernel: residuals are made where the whole kernel lies on the image.
pub const MARGIN: usize = 2;

/// A 5×5 kernel of integer taps, row after row, its centre in the middle.
pub type Taps = [[i16; 5]; 5];

/// `N` kernels, known at compile time so that taps of zero cost nothing and that each sample is loaded once for all.
pub trait Bank<const N: usize> {
    /// The kernels; the absolute taps of each sum to 128 at most, so that residuals of 8-bit pixels fit 16 bits.
    const KERNELS: [Taps; N];
}

/// `taps` turned by 90 degrees, counter-clockwise.
pub const fn turned(taps: Taps) -> Taps {
    let mut out = [[0; 5]; 5];
    let mut y = 0;
    while y < 5 {
        let mut x = 0;
        while x < 5 {
            out[4 - x][y] = taps[y][x];
            x += 1;
        }
        y += 1;
    }
    out
}

/// Residuals that one step makes.
pub const LANES: usize = 32;
/// Samples of a row that they need.
const WINDOW: usize = LANES + 2 * MARGIN;

/// `plane` as wider integers, its rows lengthened with zeros until all their residuals come in whole steps of twice
/// [`LANES`], at least one residual of each row lying beside the image.
pub fn widened(plane: &Plane<u8>) -> Plane<i16> {
    let width = (plane.width - 2 * MARGIN + 1).next_multiple_of(2 * LANES) + 2 * MARGIN;
    let mut data = vec![0; width * plane.height];
    for (row, samples) in data.chunks_exact_mut(width).zip(plane.data.chunks_exact(plane.width)) {
        for (wide, &sample) in row.iter_mut().zip(samples) {
            *wide = i16::from(sample);
        }
    }
    Plane { width, height: plane.height, data }
}

/// Correlates the k-th kernel of `B` with `rows` rows from `top + MARGIN` of a [`widened`] plane into `out[k]`: rows of
/// `plane.width - 2 * MARGIN` residuals.
///
/// # Panics
/// Where `plane` or `out` has fewer rows, or `plane` is not widened.
#[multiversion(targets = "simd")]
pub fn correlate_rows<const N: usize, B: Bank<N>>(plane: &Plane<i16>, top: usize, rows: usize, out: &mut [Vec<i16>]) {
    let width = plane.width - 2 * MARGIN;
    for y in 0..rows {
        for left in (0..width).step_by(LANES) {
            let mut window = [&[0_i16; WINDOW]; 5];
            for (dy, samples) in window.iter_mut().enumerate() {
                let row = &plane.data[(top + y + dy) * plane.width..];
                *samples = row[left..].first_chunk().expect("a widened row is whole steps long");
            }
            let mut residuals = [[0_i16; LANES]; N];
            for lane in 0..LANES {
                for k in 0..N {
                    let mut sum = 0;
                    for dy in 0..5 {
                        for dx in 0..5 {
                            if B::KERNELS[k][dy][dx] != 0 {
                                sum += B::KERNELS[k][dy][dx] * window[dy][lane + dx];
                            }
                        }
                    }
                    residuals[k][lane] = sum;
                }
            }
            for (out, residuals) in out.iter_mut().zip(&residuals) {
                out[y * width + left..][..LANES].copy_from_slice(residuals);
            }
        }
    }
}

/// [1, -2, 1] along `row`, as many values as have both neighbours, from the start of `out`.
///
/// # Panics
/// Where `row` has fewer than 34 samples, or `out` fewer than there are values.
#[multiversion(targets = "simd")]
pub fn second_difference(row: &[u8], out: &mut [i16]) {
    let n = row.len() - 2;
    let (left, here, right, out) = (&row[..n], &row[1..=n], &row[2..], &mut out[..n]);
    let inputs = left.as_chunks::<LANES>().0.iter().zip(here.as_chunks::<LANES>().0).zip(right.as_chunks::<LANES>().0);
    for (((left, here), right), out) in inputs.zip(out.as_chunks_mut::<LANES>().0) {
        second_differences(left, here, right, out);
    }
    // The last values again, in place of a remainder.
    let [left, here, right] = [left, here, right].map(|row| row.last_chunk().expect("a whole step"));
    second_differences(left, here, right, out.last_chunk_mut().expect("a whole step"));
}

#[inline(always)]
fn second_differences(left: &[u8; LANES], here: &[u8; LANES], right: &[u8; LANES], out: &mut [i16; LANES]) {
    for l in 0..LANES {
        out[l] = i16::from(left[l]) + i16::from(right[l]) - 2 * i16::from(here[l]);
    }
}

/// [[-1, 2, -1], [2, -4, 2], [-1, 2, -1]] of three rows of pixels, from the [`second_difference`] of each.
///
/// # Panics
/// Where the rows are shorter than `out`.
#[multiversion(targets = "simd")]
pub fn square3(above: &[i16], here: &[i16], below: &[i16], out: &mut [i16]) {
    let n = out.len();
    let (above, here, below) = (&above[..n], &here[..n], &below[..n]);
    for x in 0..n {
        out[x] = 2 * here[x] - above[x] - below[x];
    }
}
