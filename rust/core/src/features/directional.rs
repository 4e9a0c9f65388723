//! First and second differences of luma in four directions.

use multiversion::multiversion;

use super::sums::{MOMENTS, Moments};
use super::{About, Feature, Set};
use crate::image::{Plane, Planes};
use crate::transform::avx512::difference_sums;
use crate::transform::lanes::{LANES, Window, blocks, padded, start, window, window_mut};

/// The family `directional`.
pub(super) struct Family;

/// Name and (dx) of the neighbour; all but `right` lie one row below.
const DIRECTIONS: [&str; 4] = ["right", "down", "down_right", "down_left"];

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "directional",
            set: Set::Default,
            unit: "grey levels; ln squared grey levels; 1; share",
            formula: "on pixels with all 8 neighbours: first v = Y(p + s) - Y(p), second v = Y(p + s) - 2 Y(p) + Y(p - s), \
                      s one step right, down, down_right, down_left; mean_abs = E|v|; log_power = ln(E v² + 0.01); \
                      kurtosis = E v⁴ / (E v² + 0.01)²; shape = (E|v|)² / (E v² + 0.01); zeros = share of v = 0",
            source: "Fridrich and Kodovský, Rich models for steganalysis of digital images, 2012 (first- and second-order \
                     residuals); shape: Mallat 1989, ratio of moments of a generalised Gaussian",
        }
    }

    fn columns(&self) -> Vec<String> {
        let mut columns = Vec::new();
        for order in ["first", "second"] {
            for direction in DIRECTIONS {
                columns.extend(MOMENTS.map(|name| format!("{order}_{direction}_{name}")));
            }
        }
        columns
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let mut sums = Default::default();
        if !add_vectors(planes.luma8(), &mut sums) {
            add_rows(planes.luma8(), &mut sums);
        }
        for (moments, out) in sums.as_flattened_mut().iter_mut().zip(out.chunks_exact_mut(MOMENTS.len())) {
            moments.finish();
            moments.fill(1.0, out);
        }
    }
}

/// First and second differences in each direction.
type Sums = [[Moments; 4]; 2];

/// By vectors of pixels, where the machine can; says whether it did.
fn add_vectors(luma: &Plane<u8>, sums: &mut Sums) -> bool {
    let stride = luma.width;
    let inside = Window { start: stride + 1, width: stride - 2, height: luma.height - 2, stride };
    for part in inside.parts() {
        for (direction, step) in [1, stride, stride + 1, stride - 1].into_iter().enumerate() {
            let Some(orders) = difference_sums(&luma.data, part, step) else { return false };
            for (sums, order) in sums.iter_mut().zip(orders) {
                sums[direction].add_sums(order, part.width * part.height);
            }
        }
    }
    true
}

/// Row after row.
fn add_rows(luma: &Plane<u8>, sums: &mut Sums) {
    let n = luma.width - 2;
    let (mut first, mut second) = (padded(n), padded(n));
    for y in 1..luma.height - 1 {
        let (above, here, below) = (luma.row(y - 1), luma.row(y), luma.row(y + 1));
        for direction in 0..4 {
            let (before, after) = match direction {
                0 => (here, &here[2..]),
                1 => (&above[1..], &below[1..]),
                2 => (above, &below[2..]),
                _ => (&above[2..], below),
            };
            differences(before, &here[1..], after, n, &mut first, &mut second);
            sums[0][direction].add(&first, n);
            sums[1][direction].add(&second, n);
        }
    }
}

#[multiversion(targets = "simd")]
fn differences(before: &[u8], here: &[u8], after: &[u8], n: usize, first: &mut [i16], second: &mut [i16]) {
    for block in 0..blocks(n) {
        let x = start(block, n);
        let before: &[u8; LANES] = window(before, x);
        let here: &[u8; LANES] = window(here, x);
        let after: &[u8; LANES] = window(after, x);
        let first: &mut [i16; LANES] = window_mut(first, x);
        let second: &mut [i16; LANES] = window_mut(second, x);
        for l in 0..LANES {
            let (b, h, a) = (i16::from(before[l]), i16::from(here[l]), i16::from(after[l]));
            first[l] = a - h;
            second[l] = a - 2 * h + b;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Sums, add_rows, add_vectors};
    use crate::image::Plane;

    #[test]
    fn vectors_sum_as_rows_do() {
        for (width, height, range) in [(64, 64, 256), (67, 101, 256), (195, 80, 9), (20_000, 64, 200), (128, 70, 1)] {
            let data = (0..width * height).map(|i| (i * i % 8191 % range) as u8).collect();
            let plane = Plane { width, height, data };
            let (mut vectors, mut rows) = (Sums::default(), Sums::default());
            if !add_vectors(&plane, &mut vectors) {
                return; // no such vectors on this machine
            }
            add_rows(&plane, &mut rows);
            for (a, b) in vectors.as_flattened().iter().zip(rows.as_flattened_mut()) {
                b.finish();
                assert_eq!((a.count, a.absolute, a.zeros), (b.count, b.absolute, b.zeros));
                // Rows add up to 1,024 values in single precision, with an error of 6e-8 each.
                assert!((a.square - b.square).abs() <= 1e-4 * b.square);
                assert!((a.fourth - b.fourth).abs() <= 1e-4 * b.fourth);
            }
        }
    }
}
