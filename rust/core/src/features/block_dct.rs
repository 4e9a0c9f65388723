//! Statistics of the 8×8 block DCT, frequency by frequency.

use multiversion::multiversion;

use super::{About, Feature, Set};
use crate::image::{Plane, Planes};
use crate::transform::dct::{self, Blocks, LANES};
use crate::transform::lanes::window_mut;

/// Sums over the 8×8 blocks of a plane, counted from its origin; trailing partial blocks are dropped.
///
/// Index `8 * v + u` everywhere, `v` the vertical frequency. Shared by `block_dct` and `benford`.
pub struct BlockDct {
    /// Number of blocks.
    pub blocks: f64,
    absolute: [f64; 64],
    logarithm: [f64; 64],
    square: [f64; 64],
    fourth: [f64; 64],
    small: [f64; 64],
    /// How many coefficients of the low band (zigzag 1 to 9) and of the middle band (10 to 35) have each magnitude
    /// floor(|c| + 0.47); the last bin holds the larger ones.
    pub(super) magnitudes: Box<[[u32; MAGNITUDES]; 2]>,
}

/// Bins of [`BlockDct::magnitudes`].
pub(super) const MAGNITUDES: usize = 2048;

const LOG_OFFSET: f32 = 0.1;
const SMALL: f32 = 0.6;

/// Zigzag order of JPEG: `8 * v + u` of the first 36 coefficients.
const ZIGZAG: [usize; 36] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56,
];

/// Per frequency and lane, in single precision; emptied into [`BlockDct`] every few strips.
struct Lanes {
    absolute: Blocks,
    square: Blocks,
    fourth: Blocks,
    small: Blocks,
    /// Product of |c| + 0.1, as mantissa and exponent: one logarithm per lane at the end in place of one per value.
    mantissa: Blocks,
    exponent: [[i32; LANES]; 64],
}

impl BlockDct {
    /// Transforms every whole block of `plane`.
    pub fn of(plane: &Plane<u8>) -> Self {
        let mut sums = Self {
            blocks: ((plane.width / 8) * (plane.height / 8)) as f64,
            absolute: [0.0; 64],
            logarithm: [0.0; 64],
            square: [0.0; 64],
            fourth: [0.0; 64],
            small: [0.0; 64],
            magnitudes: Box::new([[0; MAGNITUDES]; 2]),
        };
        let mut lanes = Lanes {
            absolute: [[0.0; LANES]; 64],
            square: [[0.0; LANES]; 64],
            fourth: [[0.0; LANES]; 64],
            small: [[0.0; LANES]; 64],
            mantissa: [[1.0; LANES]; 64],
            exponent: [[0; LANES]; 64],
        };
        for strip in plane.data.chunks_exact(8 * plane.width) {
            add_strip(strip, plane.width, &mut lanes, &mut sums.magnitudes);
            sums.empty(&mut lanes);
        }
        for k in 0..64 {
            for l in 0..LANES {
                sums.logarithm[k] +=
                    f64::from(lanes.exponent[k][l]) * std::f64::consts::LN_2 + f64::from(lanes.mantissa[k][l]).ln();
            }
        }
        sums
    }

    fn empty(&mut self, lanes: &mut Lanes) {
        for k in 0..64 {
            self.absolute[k] += total(&mut lanes.absolute[k]);
            self.square[k] += total(&mut lanes.square[k]);
            self.fourth[k] += total(&mut lanes.fourth[k]);
            self.small[k] += total(&mut lanes.small[k]);
        }
    }
}

fn total(lanes: &mut [f32; LANES]) -> f64 {
    let sum = lanes.iter().map(|&v| f64::from(v)).sum();
    *lanes = [0.0; LANES];
    sum
}

/// One strip of 8 rows, [`LANES`] blocks at a time.
#[multiversion(targets = "simd")]
fn add_strip(strip: &[u8], width: usize, sums: &mut Lanes, magnitudes: &mut [[u32; MAGNITUDES]; 2]) {
    let count = width / 8;
    let mut blocks: Blocks = [[0.0; LANES]; 64];
    let mut first = 0;
    while first < count {
        let used = LANES.min(count - first);
        for y in 0..8 {
            let row = &strip[y * width + 8 * first..][..8 * used];
            let mut samples = [0.0; 8 * LANES];
            for x in 0..row.len() {
                samples[x] = f32::from(row[x]);
            }
            spread(&samples, window_mut(&mut blocks, 8 * y));
        }
        dct::forward(&mut blocks);
        add_moments(&mut blocks, used, sums);
        for (band, range) in [1..10, 10..36].into_iter().enumerate() {
            for &k in &ZIGZAG[range] {
                count_magnitudes(&blocks[k], used, &mut magnitudes[band]);
            }
        }
        first += LANES;
    }
}

/// Sample x of the i-th block goes to lane i of position x.
///
/// Left to the baseline instruction set: plain moves are faster than the scatter that wider ones tempt the compiler to.
#[inline(never)]
fn spread(samples: &[f32; 8 * LANES], out: &mut [[f32; LANES]; 8]) {
    for (lane, samples) in samples.as_chunks::<8>().0.iter().enumerate() {
        for x in 0..8 {
            out[x][lane] = samples[x];
        }
    }
}

/// Turns `blocks` into magnitudes |c| and adds them; lanes from `used` on hold no block and count for nothing.
#[inline(always)]
fn add_moments(blocks: &mut Blocks, used: usize, sums: &mut Lanes) {
    let weight: [f32; LANES] = std::array::from_fn(|l| if l < used { 1.0 } else { 0.0 });
    for k in 0..64 {
        let (c, scale) = (&mut blocks[k], dct::SCALE[k]);
        for l in 0..LANES {
            let magnitude = (c[l] * scale).abs() * weight[l];
            c[l] = magnitude;
            let square = magnitude * magnitude;
            sums.absolute[k][l] += magnitude;
            sums.square[k][l] += square;
            sums.fourth[k][l] += square * square;
            sums.small[k][l] += if magnitude < SMALL { weight[l] } else { 0.0 };
            let factor = if weight[l] > 0.0 { magnitude + LOG_OFFSET } else { 1.0 };
            let product = (sums.mantissa[k][l] * factor).to_bits();
            sums.exponent[k][l] += (product >> 23) as i32 - 127;
            sums.mantissa[k][l] = f32::from_bits((product & 0x007F_FFFF) | 0x3F80_0000);
        }
    }
}

#[inline(always)]
fn count_magnitudes(c: &[f32; LANES], used: usize, bins: &mut [u32; MAGNITUDES]) {
    // Adding 2^23 leaves the nearest integer in the low bits: a cast without the checks of `as`.
    let nearest: [u32; LANES] = std::array::from_fn(|l| (c[l] - 0.03 + 8_388_608.0).to_bits() & 0xFFFF);
    for &magnitude in &nearest[..used] {
        bins[(magnitude as usize).min(MAGNITUDES - 1)] += 1;
    }
}

/// The family `block_dct`.
pub(super) struct Family;

const COLUMNS: [&str; 4] = ["scale", "log", "kurtosis", "small"];

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "block_dct",
            set: Set::Default,
            unit: "grey levels; ln grey levels; 1; share",
            formula: "c(v,u): orthonormal 8x8 DCT-II of luma, blocks from the image's origin, partial blocks dropped; \
                      per AC frequency: scale = ln(E|c| + 0.01), log = E ln(|c| + 0.1), \
                      kurtosis = E c⁴ / (E c² + 0.01)², small = share of |c| < 0.6",
            source: "Lam and Goodman, A mathematical analysis of the DCT coefficient distributions for images, 2000 \
                     (Laplace scale); Frank et al., Leveraging frequency analysis for deep fake image recognition, 2020",
        }
    }

    fn columns(&self) -> Vec<String> {
        COLUMNS.iter().flat_map(|column| (1..64).map(move |k| format!("{column}_{}{}", k / 8, k % 8))).collect()
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let sums = planes.block_dct();
        let n = sums.blocks;
        for k in 1..64 {
            let square = sums.square[k] / n + super::sums::POWER_FLOOR;
            out[k - 1] = (sums.absolute[k] / n + 0.01).ln() as f32;
            out[63 + k - 1] = (sums.logarithm[k] / n) as f32;
            out[126 + k - 1] = (sums.fourth[k] / n / (square * square)) as f32;
            out[189 + k - 1] = (sums.small[k] / n) as f32;
        }
    }
}
