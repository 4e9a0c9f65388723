//! Statistics of the 8×8 block DCT, frequency by frequency.

use multiversion::multiversion;

use super::{About, Feature, Set};
use crate::image::{Plane, Planes};
use crate::transform::dct::{self, Blocks, LANES};
use crate::transform::lanes;

/// Sums over the 8×8 blocks of a plane, counted from its origin; trailing partial blocks are dropped.
///
/// Index `8 * v + u` everywhere, `v` the vertical frequency; 0, the mean of a block, is left out of the sums. Shared by
/// `block_dct` and `benford`.
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
    pub(super) magnitudes: [Box<[u32; MAGNITUDES]>; 2],
}

/// Bins of [`BlockDct::magnitudes`].
pub(super) const MAGNITUDES: usize = 2048;

const LOG_OFFSET: f32 = 0.1;
const SMALL: f32 = 0.6;

/// Zigzag order of JPEG: `8 * v + u` of coefficients 1 to 9.
const LOW: [usize; 9] = [1, 8, 16, 9, 2, 3, 10, 17, 24];

/// The same of coefficients 10 to 35.
const MIDDLE: [usize; 26] =
    [32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56];

/// Groups of [`LANES`] blocks that are transformed before they are summed: their coefficients stay in the first cache,
/// and each sum is loaded and stored once for all of them.
const GROUPS: usize = 4;

/// Batches whose sums are kept in single precision before they join the double-precision sums; [`DIGITS`] binary
/// digits hold as many of the middle band.
const FLUSH: usize = 32;
const _: () = assert!(FLUSH * GROUPS * MIDDLE.len() < 1 << DIGITS);

/// Per frequency and lane, of outputs of [`dct::forward_bytes`], not yet scaled.
struct Lanes {
    absolute: Blocks,
    square: Blocks,
    fourth: Blocks,
    small: Blocks,
    /// Product of |c| + 0.1, as mantissa and exponent: one logarithm per lane at the end in place of one per value.
    mantissa: Blocks,
    exponent: [[i32; LANES]; 64],
}

impl Lanes {
    fn new() -> Box<Self> {
        let zeros = [[0.0; LANES]; 64];
        Box::new(Self {
            absolute: zeros,
            square: zeros,
            fourth: zeros,
            small: zeros,
            mantissa: [[1.0; LANES]; 64],
            exponent: [[0; LANES]; 64],
        })
    }
}

/// Binary digits of the counters of [`Tally`].
const DIGITS: usize = 12;

/// Counts of magnitudes. Adding to a table in memory, one value after the other, stalls on values that have just been
/// counted, and most are small; so a magnitude n below 32 `RANGES` becomes a word with bit n set, and every bit of a
/// word has a counter of its own, digit by digit: logic on whole vectors counts 32 bins in 16 lanes at once.
struct Tally<const RANGES: usize> {
    digits: [[[u32; LANES]; DIGITS]; RANGES],
    counts: Box<[u32; MAGNITUDES]>,
}

impl<const RANGES: usize> Tally<RANGES> {
    fn new() -> Self {
        Self { digits: [[[0; LANES]; DIGITS]; RANGES], counts: Box::new([0; MAGNITUDES]) }
    }

    /// Counts floor(|c| + 0.47) of frequency `k`.
    #[inline(always)]
    fn add(&mut self, coefficients: &[Blocks; GROUPS], k: usize) {
        let [a, b, c, d] = coefficients;
        let scale = dct::SCALE[k];
        let n = [nearest(&a[k], scale), nearest(&b[k], scale), nearest(&c[k], scale), nearest(&d[k], scale)];
        let mut largest = 0;
        for l in 0..LANES {
            largest = largest.max(n[0][l] | n[1][l] | n[2][l] | n[3][l]);
        }
        for (range, digits) in self.digits.iter_mut().enumerate() {
            count_bits(&n, 32 * range as u32, digits);
        }
        if largest >= 32 * RANGES as u32 {
            for &n in n.as_flattened() {
                if n >= 32 * RANGES as u32 {
                    self.counts[(n as usize).min(MAGNITUDES - 1)] += 1;
                }
            }
        }
    }
}

/// floor(|c| + 0.47).
#[inline(always)]
fn nearest(c: &[f32; LANES], scale: f32) -> [u32; LANES] {
    let mut n = [0; LANES];
    for l in 0..LANES {
        // Adding 2^23 leaves the nearest integer in the low bits: a cast without the checks of `as`.
        n[l] = (c[l].abs() * scale - 0.03 + 8_388_608.0).to_bits() & 0xFFFF;
    }
    n
}

/// Adds bit n - `first` of every magnitude n from `first` to `first + 31`.
#[inline(always)]
fn count_bits(n: &[[u32; LANES]; GROUPS], first: u32, digits: &mut [[u32; LANES]; DIGITS]) {
    for l in 0..LANES {
        let bit = |group: usize| {
            let n = n[group][l].wrapping_sub(first);
            if n < 32 { 1 << n } else { 0 }
        };
        let (ones, a) = add_bits(digits[0][l], bit(0), bit(1));
        let (ones, b) = add_bits(ones, bit(2), bit(3));
        let (twos, mut carry) = add_bits(digits[1][l], a, b);
        digits[0][l] = ones;
        digits[1][l] = twos;
        for digit in &mut digits[2..] {
            (digit[l], carry) = (digit[l] ^ carry, digit[l] & carry);
        }
    }
}

/// Sum and carry of three bits, 32 times.
#[inline(always)]
fn add_bits(a: u32, b: u32, c: u32) -> (u32, u32) {
    let either = a ^ b;
    (either ^ c, (a & b) | (either & c))
}

/// Moves what the digits have counted to `counts`, 32 bins.
#[multiversion(targets = "simd")]
fn read_digits(digits: &mut [[u32; LANES]; DIGITS], counts: &mut [u32]) {
    for (weight, digit) in digits.iter().enumerate() {
        let mut ones = [0_u32; 32];
        for &word in digit {
            for bit in 0..32 {
                ones[bit] += (word >> bit) & 1;
            }
        }
        for (count, ones) in counts.iter_mut().zip(ones) {
            *count += ones << weight;
        }
    }
    *digits = [[0; LANES]; DIGITS];
}

impl<const RANGES: usize> Tally<RANGES> {
    fn read(&mut self) {
        for (digits, counts) in self.digits.iter_mut().zip(self.counts.chunks_exact_mut(32)) {
            read_digits(digits, counts);
        }
    }
}

/// The low band, whose magnitudes are wide, and the middle one.
struct Counts {
    low: Tally<4>,
    middle: Tally<1>,
}

impl Counts {
    fn new() -> Self {
        Self { low: Tally::new(), middle: Tally::new() }
    }

    fn read(&mut self) {
        self.low.read();
        self.middle.read();
    }

    /// Counts per band and magnitude, without the `absent` zeros that stand for no block, per frequency.
    fn bands(mut self, absent: u32) -> [Box<[u32; MAGNITUDES]>; 2] {
        self.read();
        self.low.counts[0] -= absent * LOW.len() as u32;
        self.middle.counts[0] -= absent * MIDDLE.len() as u32;
        [self.low.counts, self.middle.counts]
    }
}

impl BlockDct {
    /// Transforms every whole block of `plane`.
    pub fn of(plane: &Plane<u8>) -> Self {
        let across = plane.width / 8;
        let mut sums = Self {
            blocks: (across * (plane.height / 8)) as f64,
            absolute: [0.0; 64],
            logarithm: [0.0; 64],
            square: [0.0; 64],
            fourth: [0.0; 64],
            small: [0.0; 64],
            magnitudes: [Box::new([0; MAGNITUDES]), Box::new([0; MAGNITUDES])],
        };
        let (mut lanes, mut counts) = (Lanes::new(), Counts::new());
        let mut coefficients = Box::new([[[0.0; LANES]; 64]; GROUPS]);
        let mut batches = 0;
        for strip in plane.data.chunks_exact(8 * plane.width) {
            for first in (0..across).step_by(GROUPS * LANES) {
                add_batch(strip, plane.width, first, &mut coefficients, &mut lanes, &mut counts);
                batches += 1;
                if batches % FLUSH == 0 {
                    sums.empty(&mut lanes);
                    counts.read();
                }
            }
        }
        let absent = (batches * GROUPS * LANES) as f64 - sums.blocks;
        sums.empty(&mut lanes);
        sums.finish(&lanes, absent);
        sums.magnitudes = counts.bands(absent as u32);
        sums
    }

    /// Moves what `lanes` hold, scaled, to the sums; products stay.
    fn empty(&mut self, lanes: &mut Lanes) {
        for k in 1..64 {
            let scale = f64::from(dct::SCALE[k]);
            self.absolute[k] += total(&mut lanes.absolute[k]) * scale;
            self.square[k] += total(&mut lanes.square[k]) * scale.powi(2);
            self.fourth[k] += total(&mut lanes.fourth[k]) * scale.powi(4);
            self.small[k] += total(&mut lanes.small[k]);
        }
    }

    /// Takes logarithms of the products, and takes away what `absent` blocks of zeros have added.
    fn finish(&mut self, lanes: &Lanes, absent: f64) {
        for k in 1..64 {
            let exponents: i64 = lanes.exponent[k].iter().map(|&e| i64::from(e)).sum();
            // The product of 16 mantissas below 2 fits where a 17th number would, too.
            let mantissas: f64 = lanes.mantissa[k].iter().map(|&m| f64::from(m)).product();
            let offset = f64::from(LOG_OFFSET / dct::SCALE[k]);
            self.logarithm[k] = exponents as f64 * std::f64::consts::LN_2 + mantissas.ln() - absent * offset.ln()
                + self.blocks * f64::from(dct::SCALE[k]).ln();
            self.small[k] -= absent;
        }
    }
}

fn total(lanes: &mut [f32; LANES]) -> f64 {
    let sum = lanes.iter().map(|&v| f64::from(v)).sum();
    *lanes = [0.0; LANES];
    sum
}

/// The blocks of a strip of 8 rows from `first` on, as many as `coefficients` have lanes; blocks beyond the strip's
/// last one are zeros.
#[multiversion(targets = "simd")]
fn add_batch(
    strip: &[u8],
    width: usize,
    first: usize,
    coefficients: &mut [Blocks; GROUPS],
    sums: &mut Lanes,
    counts: &mut Counts,
) {
    let across = width / 8;
    for (group, blocks) in coefficients.iter_mut().enumerate() {
        let start = first + group * LANES;
        if start + LANES <= across {
            dct::forward_bytes(|y| lanes::window(strip, y * width + 8 * start), blocks);
        } else {
            let used = across.saturating_sub(start);
            let mut rows = [[0; 8 * LANES]; 8];
            for (y, row) in rows.iter_mut().enumerate() {
                row[..8 * used].copy_from_slice(&strip[y * width + 8 * start.min(across)..][..8 * used]);
            }
            dct::forward_bytes(|y| &rows[y], blocks);
        }
    }
    for k in 1..64 {
        add_moments(coefficients, k, sums);
    }
    for k in LOW {
        counts.low.add(coefficients, k);
    }
    for k in MIDDLE {
        counts.middle.add(coefficients, k);
    }
}

/// Adds frequency `k` of every group.
#[inline(always)]
fn add_moments(coefficients: &[Blocks; GROUPS], k: usize, sums: &mut Lanes) {
    let (small, offset) = (SMALL / dct::SCALE[k], LOG_OFFSET / dct::SCALE[k]);
    let mut part = [[0.0_f32; LANES]; 4];
    let mut product = sums.mantissa[k];
    for blocks in coefficients {
        let c = &blocks[k];
        for l in 0..LANES {
            let magnitude = c[l].abs();
            let square = magnitude * magnitude;
            part[0][l] += magnitude;
            part[1][l] += square;
            part[2][l] += square * square;
            part[3][l] += if magnitude < small { 1.0 } else { 0.0 };
            // At most four factors from 2^-4 to 2^15 come between two normalisations.
            product[l] *= magnitude + offset;
        }
    }
    for l in 0..LANES {
        sums.absolute[k][l] += part[0][l];
        sums.square[k][l] += part[1][l];
        sums.fourth[k][l] += part[2][l];
        sums.small[k][l] += part[3][l];
        let bits = product[l].to_bits();
        sums.exponent[k][l] += (bits >> 23) as i32 - 127;
        sums.mantissa[k][l] = f32::from_bits((bits & 0x007F_FFFF) | 0x3F80_0000);
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

#[cfg(test)]
mod tests {
    use super::{BlockDct, LOW, MAGNITUDES, MIDDLE, Plane};

    /// Orthonormal coefficient `8 * v + u` of the block at (`top`, `left`), from the definition.
    fn coefficient(plane: &Plane<u8>, top: usize, left: usize, k: usize) -> f64 {
        let basis = |k: usize, x: usize| {
            let scale = if k == 0 { 0.125_f64.sqrt() } else { 0.5 };
            scale * (std::f64::consts::PI * k as f64 * (2 * x + 1) as f64 / 16.0).cos()
        };
        let places = (0..8).flat_map(|y| (0..8).map(move |x| (y, x)));
        places.map(|(y, x)| f64::from(plane.row(top + y)[left + x]) * basis(k / 8, y) * basis(k % 8, x)).sum()
    }

    /// Counts and sums of 25 × 12 blocks, some contrasts beyond what bits count, against the definition.
    #[test]
    fn agrees_with_the_definition() {
        let (width, height) = (203, 101);
        let sample = |i: usize| {
            let noise = (i as u32).wrapping_mul(2_654_435_761) >> 24;
            (if (i / 40).is_multiple_of(3) { noise } else { 100 + noise / 16 }) as u8
        };
        let plane = Plane { width, height, data: (0..width * height).map(sample).collect() };
        let sums = BlockDct::of(&plane);
        let blocks: Vec<_> = (0..height / 8).flat_map(|y| (0..width / 8).map(move |x| (8 * y, 8 * x))).collect();
        let mut counts = [vec![0_u32; MAGNITUDES], vec![0; MAGNITUDES]];
        for k in 1..64 {
            let values: Vec<f64> = blocks.iter().map(|&(y, x)| coefficient(&plane, y, x, k).abs()).collect();
            let logarithm: f64 = values.iter().map(|c| (c + 0.1).ln()).sum();
            let fourth: f64 = values.iter().map(|c| c.powi(4)).sum();
            let small = values.iter().filter(|&&c| c < 0.6).count();
            assert!((sums.absolute[k] / values.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{k}");
            assert!((sums.fourth[k] / fourth - 1.0).abs() < 1e-5, "{k}");
            assert!((sums.logarithm[k] - logarithm).abs() < 1e-3 * blocks.len() as f64, "{k}");
            assert!((sums.small[k] - small as f64).abs() <= 1.0, "{k}");
            for (band, frequencies) in counts.iter_mut().zip([&LOW[..], &MIDDLE[..]]) {
                if frequencies.contains(&k) {
                    for c in &values {
                        band[((c + 0.47) as usize).min(MAGNITUDES - 1)] += 1;
                    }
                }
            }
        }
        for (counted, expected) in sums.magnitudes.iter().zip(&counts) {
            let moved: u32 = counted.iter().zip(expected).map(|(&a, &b)| a.abs_diff(b)).sum();
            // A value within rounding of a border may stand on either side of it.
            assert!(moved <= 4, "{moved} of {}", expected.iter().sum::<u32>());
        }
    }
}
