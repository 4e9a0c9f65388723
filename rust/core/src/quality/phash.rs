//! A perceptual hash: 64 bits that stay when a picture is resized or compressed again.
//!
//! DCT hash (Zauner, Implementation and benchmarking of perceptual image hash functions, 2010; the variant of the Python
//! package `ImageHash`): orthonormal DCT-II of the 32×32 means of luma, its 8×8 lowest frequencies, bit 1 where a
//! coefficient is over their median. Coefficients under a tenth of a grey level count as 0, so that a flat picture has
//! one hash and not that of its rounding errors. The first bit (DC) is the highest.

use std::sync::LazyLock;

use super::small::{HALF, Halved};

const KEPT: usize = 8;
/// A coefficient of the orthonormal transform that a tenth of a grey level all over the picture would give.
const NOTHING: f64 = 0.1 * HALF as f64;

/// The hash of a little picture.
pub(super) fn hash(half: &Halved) -> u64 {
    let coefficients = lowest(half);
    let mut sorted = coefficients;
    sorted.sort_unstable_by(f64::total_cmp);
    let median = f64::midpoint(sorted[31], sorted[32]);
    coefficients.iter().fold(0, |bits, &c| bits << 1 | u64::from(c > median))
}

/// In how many of 64 bits two hashes differ: a few for one picture, about 32 for two that have nothing in common.
pub fn distance(a: u64, b: u64) -> u32 {
    (a ^ b).count_ones()
}

/// The 8×8 lowest frequencies of the orthonormal DCT-II, `[v * 8 + u]`.
fn lowest(half: &Halved) -> [f64; KEPT * KEPT] {
    static BASIS: LazyLock<[[f64; HALF]; KEPT]> = LazyLock::new(|| {
        std::array::from_fn(|k| {
            let scale = (if k == 0 { 1.0 } else { 2.0 } / HALF as f64).sqrt();
            std::array::from_fn(|i| {
                scale * ((2 * i + 1) as f64 * k as f64 * std::f64::consts::PI / (2 * HALF) as f64).cos()
            })
        })
    });
    let mut rows = [[0.0; KEPT]; HALF];
    for (row, out) in half.as_chunks::<HALF>().0.iter().zip(&mut rows) {
        *out = std::array::from_fn(|u| row.iter().zip(&BASIS[u]).map(|(&v, b)| f64::from(v) * b).sum());
    }
    std::array::from_fn(|k| {
        let (v, u) = (k / KEPT, k % KEPT);
        let value: f64 = rows.iter().zip(&BASIS[v]).map(|(row, b)| row[u] * b).sum();
        if value.abs() < NOTHING { 0.0 } else { value }
    })
}
