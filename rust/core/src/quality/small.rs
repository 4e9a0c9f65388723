//! The picture in little: means of luma over equal parts.

use multiversion::multiversion;

use super::differences;
use crate::image::Plane;

/// Parts along each axis.
pub(super) const SIDE: usize = 64;
/// Parts along each axis of [`halved`].
pub(super) const HALF: usize = SIDE / 2;

/// Means over SIDE × SIDE equal parts, row after row.
pub(super) type Means = [f32; SIDE * SIDE];
/// Means over HALF × HALF equal parts, row after row.
pub(super) type Halved = [f32; HALF * HALF];

/// Exact means of `luma` over 64 × 64 equal parts: a pixel that a border cuts counts by its share.
pub(super) fn means(luma: &Plane<u8>) -> Box<Means> {
    let (width, height) = (luma.width, luma.height);
    let mut out = Box::new([0.0; SIDE * SIDE]);
    let mut band = vec![0.0_f32; width];
    for (y, out) in out.as_chunks_mut::<SIDE>().0.iter_mut().enumerate() {
        band.fill(0.0);
        for (line, weight) in shares(y, height) {
            add(luma.row(line), weight, &mut band);
        }
        for (x, out) in out.iter_mut().enumerate() {
            *out = shares(x, width).map(|(column, weight)| band[column] * weight).sum();
        }
    }
    out
}

/// Means over 32 × 32 equal parts.
pub(super) fn halved(means: &Means) -> Box<Halved> {
    let at = |y: usize, x: usize| means[y * SIDE + x];
    Box::new(std::array::from_fn(|k| {
        let (y, x) = (k / HALF * 2, k % HALF * 2);
        0.25 * (at(y, x) + at(y, x + 1) + at(y + 1, x) + at(y + 1, x + 1))
    }))
}

/// Lag-1 autocorrelation of the little picture, as [`differences::neighbour`].
pub(super) fn neighbour(half: &Halved) -> f64 {
    let rows = half.as_chunks::<HALF>().0;
    let square = |a: f32, b: f32| f64::from(a - b).powi(2);
    let across: f64 = rows.iter().flat_map(|row| row.windows(2)).map(|pair| square(pair[0], pair[1])).sum();
    let down: f64 = rows.windows(2).flat_map(|pair| pair[0].iter().zip(&pair[1])).map(|(&a, &b)| square(a, b)).sum();
    let count = half.len() as f64;
    let mean = half.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
    let variance = half.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count;
    differences::neighbour((across + down) / (2 * HALF * (HALF - 1)) as f64, variance)
}

/// The lines of `n` that part `i` of [`SIDE`] covers, each with its share of the part; shares add up to 1.
fn shares(i: usize, n: usize) -> impl Iterator<Item = (usize, f32)> {
    // In units of 1 / SIDE of a line all borders are integers.
    let (start, end) = (i * n, (i + 1) * n);
    (start / SIDE..end.div_ceil(SIDE)).map(move |line| {
        let covered = end.min((line + 1) * SIDE) - start.max(line * SIDE);
        (line, covered as f32 / n as f32)
    })
}

#[multiversion(targets = "simd")]
fn add(row: &[u8], weight: f32, sums: &mut [f32]) {
    for (&sample, sum) in row.iter().zip(sums) {
        *sum += weight * f32::from(sample);
    }
}
