//! Neighbouring-pixel relationships: pixels of a 2×2 block against its top-left pixel.

use multiversion::multiversion;

use super::sums::{MOMENTS, Moments};
use super::{About, Feature, Set};
use crate::image::{Plane, Planes};
use crate::transform::avx512::block_sums;
use crate::transform::lanes::{LANES, Window, blocks, padded, start, window, window_mut};

/// The family `npr`.
pub(super) struct Family;

const OFFSETS: [&str; 3] = ["01", "10", "11"];

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "npr",
            set: Set::Default,
            unit: "grey levels; ln squared grey levels; 1; share",
            formula: "v = Y(2i + a, 2j + b) - Y(2i, 2j) for (a,b) = 01, 10, 11, blocks from the image's origin, a trailing odd \
                      row or column dropped; mean_abs = E|v|; log_power = ln(E v² + 0.01); kurtosis = E v⁴ / (E v² + \
                      0.01)²; shape = (E|v|)² / (E v² + 0.01); zeros = share of v = 0",
            source: "Tan et al., Rethinking the up-sampling operations in CNN-based generative network for generalizable \
                     deepfake detection, 2024; code chuangchuangtan/NPR-DeepfakeDetection",
        }
    }

    fn columns(&self) -> Vec<String> {
        OFFSETS.iter().flat_map(|offset| MOMENTS.map(|name| format!("{offset}_{name}"))).collect()
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let mut sums = Default::default();
        if !add_vectors(planes.luma8(), &mut sums) {
            add_rows(planes.luma8(), &mut sums);
        }
        for (moments, out) in sums.iter_mut().zip(out.chunks_exact_mut(MOMENTS.len())) {
            moments.finish();
            moments.fill(1.0, out);
        }
    }
}

/// By vectors of pixels, where the machine can; says whether it did.
fn add_vectors(luma: &Plane<u8>, sums: &mut [Moments; 3]) -> bool {
    let blocks = Window { start: 0, width: luma.width & !1, height: luma.height & !1, stride: luma.width };
    for part in blocks.parts() {
        let Some(offsets) = block_sums(&luma.data, part) else { return false };
        for (sums, offset) in sums.iter_mut().zip(offsets) {
            sums.add_sums(offset, part.width * part.height / 4);
        }
    }
    true
}

/// Row after row.
fn add_rows(luma: &Plane<u8>, sums: &mut [Moments; 3]) {
    let n = luma.width / 2;
    let mut rows: [Vec<i16>; 3] = std::array::from_fn(|_| padded(n));
    for pair in luma.data.chunks_exact(2 * luma.width) {
        let (top, bottom) = pair.split_at(luma.width);
        let [right, down, across] = &mut rows;
        offsets(top, bottom, n, right, down, across);
        for (sums, row) in sums.iter_mut().zip(&rows) {
            sums.add(row, n);
        }
    }
}

#[multiversion(targets = "simd")]
fn offsets(top: &[u8], bottom: &[u8], n: usize, right: &mut [i16], down: &mut [i16], across: &mut [i16]) {
    for block in 0..blocks(n) {
        let x = start(block, n);
        let top: &[u8; 2 * LANES] = window(top, 2 * x);
        let bottom: &[u8; 2 * LANES] = window(bottom, 2 * x);
        let right: &mut [i16; LANES] = window_mut(right, x);
        let down: &mut [i16; LANES] = window_mut(down, x);
        let across: &mut [i16; LANES] = window_mut(across, x);
        for l in 0..LANES {
            let origin = i16::from(top[2 * l]);
            right[l] = i16::from(top[2 * l + 1]) - origin;
            down[l] = i16::from(bottom[2 * l]) - origin;
            across[l] = i16::from(bottom[2 * l + 1]) - origin;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Moments, add_rows, add_vectors};
    use crate::image::Plane;

    #[test]
    fn vectors_sum_as_rows_do() {
        for (width, height, range) in [(64, 64, 256), (195, 81, 256), (130, 80, 9), (20_001, 64, 200), (128, 70, 1)] {
            let data = (0..width * height).map(|i| (i * i % 8191 % range) as u8).collect();
            let plane = Plane { width, height, data };
            let (mut vectors, mut rows): ([Moments; 3], [Moments; 3]) = Default::default();
            if !add_vectors(&plane, &mut vectors) {
                return; // no such vectors on this machine
            }
            add_rows(&plane, &mut rows);
            for (a, b) in vectors.iter().zip(&mut rows) {
                b.finish();
                assert_eq!((a.count, a.absolute, a.zeros), (b.count, b.absolute, b.zeros));
                // Rows add up to 1,024 values in single precision, with an error of 6e-8 each.
                assert!((a.square - b.square).abs() <= 1e-4 * b.square);
                assert!((a.fourth - b.fourth).abs() <= 1e-4 * b.fourth);
            }
        }
    }
}
