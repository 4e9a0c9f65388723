//! Resampling without antialiasing: what lies between the pixels that are kept is not seen.
//!
//! Pixel centres are at halves, and the border is replicated, as in `resize` of `OpenCV` and in torch's
//! `interpolate(align_corners=False)`; sums are made in 32-bit floats and rounded once, so that both are met
//! within one level.

use std::ops::Range;

use multiversion::multiversion;

use crate::error::Result;
use crate::image::Image;
use crate::transform::resize::Region;

/// How a pixel is made of its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// The pixel under the output pixel's corner, ⌊i · from / to⌋, as `nearest` of `OpenCV` and torch takes it.
    NearestCorner,
    /// The pixel under the output pixel's centre, ⌊(i + 0.5) · from / to⌋, as Pillow takes it.
    NearestCentre,
    /// Two neighbours an axis.
    Bilinear,
    /// Keys' cubic with a = -0.75 over four neighbours an axis.
    Bicubic,
}

/// The part `part` of `image` resampled to `width` × `height`.
pub fn interpolate(image: &Image, width: u32, height: u32, part: Region, how: Interpolation) -> Result<Image> {
    part.check(width, height)?;
    let from = (image.width() as usize, image.height() as usize);
    let to = (width as usize, height as usize);
    let data = match how {
        Interpolation::NearestCorner | Interpolation::NearestCentre => {
            let index = if how == Interpolation::NearestCorner { corner } else { centre };
            nearest(image, &index(from.0, to.0, part.columns()), &index(from.1, to.1, part.rows()))
        }
        Interpolation::Bilinear => {
            let taps = |from, to, kept| taps(from, to, kept, |t| [1.0 - t, t]);
            weighted(image, &taps(from.0, to.0, part.columns()), &taps(from.1, to.1, part.rows()))
        }
        Interpolation::Bicubic => {
            let taps = |from, to, kept| taps(from, to, kept, cubic);
            weighted(image, &taps(from.0, to.0, part.columns()), &taps(from.1, to.1, part.rows()))
        }
    };
    Image::from_rgb(part.width as u32, part.height as u32, data)
}

fn corner(from: usize, to: usize, kept: Range<usize>) -> Vec<usize> {
    kept.map(|at| at * from / to).collect()
}

/// Pillow adds the scale up from the first position on, in double precision, and so does this.
fn centre(from: usize, to: usize, kept: Range<usize>) -> Vec<usize> {
    let scale = from as f64 / to as f64;
    let positions = std::iter::successors(Some(scale * 0.5), |at| Some(at + scale));
    positions.take(kept.end).skip(kept.start).map(|at| (at as usize).min(from - 1)).collect()
}

fn nearest(image: &Image, columns: &[usize], rows: &[usize]) -> Vec<u8> {
    let stride = image.width() as usize * 3;
    let mut out = Vec::with_capacity(rows.len() * columns.len() * 3);
    for &y in rows {
        let row = &image.data()[y * stride..][..stride];
        for &x in columns {
            out.extend_from_slice(&row[3 * x..3 * x + 3]);
        }
    }
    out
}

/// The inputs of one output position, and their weights.
struct Tap<const N: usize> {
    at: [usize; N],
    weights: [f32; N],
}

fn taps<const N: usize>(from: usize, to: usize, kept: Range<usize>, weights: impl Fn(f32) -> [f32; N]) -> Vec<Tap<N>> {
    let scale = from as f64 / to as f64;
    let tap = |at: usize| {
        let position = (at as f64 + 0.5) * scale - 0.5;
        let first = position.floor() as isize + 1 - (N / 2) as isize;
        Tap {
            at: std::array::from_fn(|k| (first + k as isize).clamp(0, from as isize - 1) as usize),
            weights: weights((position - position.floor()) as f32),
        }
    };
    kept.map(tap).collect()
}

/// Keys 1981, equation 4, with a = -0.75: weights of the four neighbours of a point at `t` between the middle ones.
fn cubic(t: f32) -> [f32; 4] {
    const A: f32 = -0.75;
    let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    [far(1.0 + t), near(t), near(1.0 - t), far(2.0 - t)]
}

fn weighted<const N: usize>(image: &Image, across: &[Tap<N>], down: &[Tap<N>]) -> Vec<u8> {
    let stride = image.width() as usize * 3;
    let width = across.len() * 3;
    let mut out = vec![0; width * down.len()];
    // Input rows of one output row follow each other: each has a place of its own, and is there for the next row too.
    let mut rows = [const { Vec::new() }; N];
    let mut held = [None; N];
    let mut sums = vec![0.0; width];
    for (tap, out) in down.iter().zip(out.chunks_exact_mut(width)) {
        sums.fill(0.5);
        for (&y, &weight) in tap.at.iter().zip(&tap.weights) {
            let row = &mut rows[y % N];
            if held[y % N] != Some(y) {
                row.resize(width, 0.0);
                across_row(&image.data()[y * stride..][..stride], across, row);
                held[y % N] = Some(y);
            }
            add(&mut sums, row, weight);
        }
        for (out, &sum) in out.iter_mut().zip(&sums) {
            *out = sum as u8; // cuts the fraction off, and ends at 0 and 255
        }
    }
    out
}

fn across_row<const N: usize>(row: &[u8], across: &[Tap<N>], out: &mut [f32]) {
    for (pixel, tap) in out.chunks_exact_mut(3).zip(across) {
        let mut sum = [0.0; 3];
        for (&x, &weight) in tap.at.iter().zip(&tap.weights) {
            for (sum, &value) in sum.iter_mut().zip(&row[3 * x..3 * x + 3]) {
                *sum += weight * f32::from(value);
            }
        }
        pixel.copy_from_slice(&sum);
    }
}

#[multiversion(targets = "simd")]
fn add(sums: &mut [f32], row: &[f32], weight: f32) {
    for (sum, &value) in sums.iter_mut().zip(row) {
        *sum += weight * value;
    }
}

#[cfg(test)]
mod tests {
    use super::{Interpolation, interpolate};
    use crate::image::Image;
    use crate::transform::resize::Region;

    const ALL: [Interpolation; 4] =
        [Interpolation::NearestCorner, Interpolation::NearestCentre, Interpolation::Bilinear, Interpolation::Bicubic];

    fn ramp(width: u32, height: u32) -> Image {
        let data = (0..width * height * 3).map(|i| (i * 37 % 251) as u8).collect();
        Image::from_rgb(width, height, data).expect("its size is right")
    }

    #[test]
    fn the_same_size_is_the_same_image() {
        let image = ramp(9, 7);
        for how in ALL {
            assert_eq!(interpolate(&image, 9, 7, Region::whole(9, 7), how).expect("possible"), image, "{how:?}");
        }
    }

    #[test]
    fn a_part_is_cut_out_of_the_whole() {
        let image = ramp(31, 23);
        let part = Region { left: 5, top: 3, width: 11, height: 9 };
        for how in ALL {
            let whole = interpolate(&image, 40, 17, Region::whole(40, 17), how).expect("possible");
            let cut = interpolate(&image, 40, 17, part, how).expect("possible");
            for y in 0..part.height {
                let expected = &whole.data()[((y + part.top) * 40 + part.left) * 3..][..part.width * 3];
                assert_eq!(&cut.data()[y * part.width * 3..][..part.width * 3], expected, "{how:?}");
            }
        }
    }
}
