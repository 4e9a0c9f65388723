//! Neighbouring-pixel relationships: pixels of a 2×2 block against its top-left pixel.

use multiversion::multiversion;

use super::sums::{MOMENTS, Moments};
use super::{About, Feature, Set};
use crate::image::Planes;
use crate::transform::lanes::{LANES, blocks, padded, start, window, window_mut};

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
        let luma = planes.luma8();
        let n = luma.width / 2;
        let mut sums: [Moments; 3] = Default::default();
        let mut rows: [Vec<i16>; 3] = std::array::from_fn(|_| padded(n));
        for pair in luma.data.chunks_exact(2 * luma.width) {
            let (top, bottom) = pair.split_at(luma.width);
            let [right, down, across] = &mut rows;
            offsets(top, bottom, n, right, down, across);
            for (sums, row) in sums.iter_mut().zip(&rows) {
                sums.add(row, n);
            }
        }
        for (moments, out) in sums.iter_mut().zip(out.chunks_exact_mut(MOMENTS.len())) {
            moments.finish();
            moments.fill(1.0, out);
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
