//! Neighbouring-pixel relationships: pixels of a 2×2 block against its top-left pixel.

use multiversion::multiversion;

use super::sums::{MOMENTS, Moments};
use super::{About, Feature, Set};
use crate::image::Planes;

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
        let mut sums = [Moments::default(); 3];
        let mut rows = [0; 3].map(|_: i32| vec![0; luma.width / 2]);
        for pair in luma.data.chunks_exact(2 * luma.width) {
            let (top, bottom) = pair.split_at(luma.width);
            let [right, down, across] = &mut rows;
            offsets(top, bottom, right, down, across);
            for (sums, row) in sums.iter_mut().zip(&rows) {
                sums.add(row);
            }
        }
        for (moments, out) in sums.iter().zip(out.chunks_exact_mut(MOMENTS.len())) {
            moments.fill(1.0, out);
        }
    }
}

#[multiversion(targets = "simd")]
fn offsets(top: &[u8], bottom: &[u8], right: &mut [i16], down: &mut [i16], across: &mut [i16]) {
    let blocks = top.as_chunks::<2>().0.iter().zip(bottom.as_chunks::<2>().0);
    for (((t, b), right), (down, across)) in blocks.zip(right).zip(down.iter_mut().zip(across)) {
        let origin = i16::from(t[0]);
        *right = i16::from(t[1]) - origin;
        *down = i16::from(b[0]) - origin;
        *across = i16::from(b[1]) - origin;
    }
}
