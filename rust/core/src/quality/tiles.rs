//! Whether a picture repeats itself.

use rustfft::num_complex::Complex32;

use super::small::{Means, SIDE};
use crate::transform::plane_fft::{self, Spectrum};

/// The largest shift, in 64ths of the picture's side: half of it still overlaps.
const REACH: isize = 32;

/// Shifts in a row of the table of correlations.
const WIDTH: isize = 2 * REACH + 1;

/// Squared grey levels added to variances, so that what rounding leaves of a flat picture repeats nothing.
const FLOOR: f32 = 1.0;

/// Side of the padded plane: no shift wraps around.
const PADDED: usize = 2 * SIDE;

/// The largest R(s) - max(0, min of R on the way from 0 to s).
///
/// The way to s comes through the shift next to s on the line to 0, and is the way to that one.
pub(super) fn peak(means: &Means) -> f64 {
    let correlations = correlations(means);
    let at = |dy: isize, dx: isize| (dy * WIDTH + dx + REACH) as usize;
    let mut lowest = vec![1.0_f32; correlations.len()];
    let mut best = 0.0_f32;
    let mut visit = |dy: isize, dx: isize| {
        let steps = dy.max(dx.abs());
        let before = at(dy - nearest(dy, steps), dx - nearest(dx, steps));
        let low = lowest[before];
        let here = correlations[at(dy, dx)];
        best = best.max(here - low.max(0.0));
        lowest[at(dy, dx)] = low.min(here);
    };
    for radius in 1..=REACH {
        for dx in -radius..=radius {
            visit(radius, dx);
        }
        for dy in 0..radius {
            visit(dy, -radius);
            visit(dy, radius);
        }
    }
    f64::from(best)
}

/// `a / b` rounded to -1, 0 or 1; halves away from 0.
fn nearest(a: isize, b: isize) -> isize {
    if 2 * a.abs() >= b { a.signum() } else { 0 }
}

/// Correlation of the overlap for shifts (dy, dx), dy 0 to REACH, dx -REACH to REACH, row after row.
fn correlations(means: &Means) -> Vec<f32> {
    let mean = means.iter().sum::<f32>() / means.len() as f32;
    let mut plane = vec![0.0_f32; PADDED * PADDED];
    for (row, padded) in means.as_chunks::<SIDE>().0.iter().zip(plane.chunks_exact_mut(PADDED)) {
        for (value, padded) in row.iter().zip(padded) {
            *padded = value - mean;
        }
    }
    let sums = Sums::of(&plane);
    let mut spectrum: Spectrum = plane_fft::forward(&plane, PADDED);
    for value in &mut spectrum.data {
        *value = Complex32::new(value.norm_sqr(), 0.0);
    }
    let products = plane_fft::inverse(spectrum);
    let mut out = Vec::with_capacity((REACH as usize + 1) * WIDTH as usize);
    for dy in 0..=REACH as usize {
        for dx in -REACH..=REACH {
            let wrapped = dx.rem_euclid(PADDED as isize) as usize;
            let product = f64::from(products[dy * PADDED + wrapped]);
            let (across, left) = (dx.unsigned_abs(), dx < 0);
            let n = ((SIDE - dy) * (SIDE - across)) as f64;
            // The two halves that overlap: the one that starts at the shift, and the one that ends before it.
            let (later, earlier) = if left { (0, across) } else { (across, 0) };
            let a = sums.over(dy, later, SIDE - dy, SIDE - across);
            let b = sums.over(0, earlier, SIDE - dy, SIDE - across);
            let variance = |(sum, square): (f64, f64)| (square / n - (sum / n).powi(2)).max(0.0) + f64::from(FLOOR);
            let covariance = product / n - a.0 * b.0 / (n * n);
            out.push((covariance / (variance(a) * variance(b)).sqrt()) as f32);
        }
    }
    out
}

/// Sums over rectangles.
struct Sums {
    plain: Vec<f64>,
    square: Vec<f64>,
}

impl Sums {
    const WIDTH: usize = SIDE + 1;

    fn of(plane: &[f32]) -> Self {
        let mut sums = Self { plain: vec![0.0; Self::WIDTH.pow(2)], square: vec![0.0; Self::WIDTH.pow(2)] };
        for y in 0..SIDE {
            let (mut plain, mut square) = (0.0, 0.0);
            for x in 0..SIDE {
                let value = f64::from(plane[y * PADDED + x]);
                plain += value;
                square += value * value;
                let (here, above) = ((y + 1) * Self::WIDTH + x + 1, y * Self::WIDTH + x + 1);
                sums.plain[here] = sums.plain[above] + plain;
                sums.square[here] = sums.square[above] + square;
            }
        }
        sums
    }

    fn over(&self, top: usize, left: usize, height: usize, width: usize) -> (f64, f64) {
        let corner = |y: usize, x: usize| y * Self::WIDTH + x;
        let corners = [
            corner(top + height, left + width),
            corner(top, left + width),
            corner(top + height, left),
            corner(top, left),
        ];
        let sum = |table: &[f64]| table[corners[0]] - table[corners[1]] - table[corners[2]] + table[corners[3]];
        (sum(&self.plain), sum(&self.square))
    }
}
