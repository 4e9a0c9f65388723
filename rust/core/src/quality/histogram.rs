//! Counts over pixels: levels of luma, colours, clipped samples.

use multiversion::multiversion;

use crate::image::Plane;

/// Pixels per level.
pub(super) type Levels = [u64; 256];

/// Histograms that are filled in turn: neighbours are often alike, and a counter must be written before it is read.
const TURNS: usize = 4;

/// How many pixels have each level.
pub(super) fn levels(luma: &[u8]) -> Levels {
    let mut counts = [[0_u32; 256]; TURNS];
    let (chunks, rest) = luma.as_chunks::<TURNS>();
    for chunk in chunks {
        for (counts, &level) in counts.iter_mut().zip(chunk) {
            counts[usize::from(level)] += 1;
        }
    }
    for &level in rest {
        counts[0][usize::from(level)] += 1;
    }
    std::array::from_fn(|level| counts.iter().map(|counts| u64::from(counts[level])).sum())
}

/// Mean and variance.
pub(super) struct Moments {
    pub(super) mean: f64,
    pub(super) variance: f64,
}

/// Mean and variance of the levels, exact sums before the division.
pub(super) fn moments(levels: &Levels) -> Moments {
    let (mut count, mut sum, mut square) = (0_u64, 0_u64, 0_u64);
    for (level, &n) in (0_u64..).zip(levels) {
        count += n;
        sum += n * level;
        square += n * level * level;
    }
    let spread = u128::from(count) * u128::from(square) - u128::from(sum) * u128::from(sum);
    Moments { mean: sum as f64 / count as f64, variance: spread as f64 / (count as f64).powi(2) }
}

/// Entropy of the levels in bits.
pub(super) fn entropy(levels: &Levels) -> f64 {
    let count = levels.iter().sum::<u64>() as f64;
    let term = |&n: &u64| if n == 0 { 0.0 } else { -(n as f64 / count) * (n as f64 / count).log2() };
    levels.iter().map(term).sum()
}

/// Share of the fullest bin of 5 bits a channel, among every other pixel of every other row.
pub(super) fn commonest(channels: &[Plane<u8>; 3]) -> f64 {
    let [red, green, blue] = channels;
    // Two tables in turn: neighbours are often alike, and a counter must be written before it is read.
    let mut bins = vec![[0_u32; 2]; 1 << 15];
    let mut indices = vec![0_u16; red.width];
    for y in (0..red.height).step_by(2) {
        index(red.row(y), green.row(y), blue.row(y), &mut indices);
        for four in indices.chunks(4) {
            bins[usize::from(four[0])][0] += 1;
            if let Some(&third) = four.get(2) {
                bins[usize::from(third)][1] += 1;
            }
        }
    }
    let fullest = bins.iter().map(|bin| bin[0] + bin[1]).max().unwrap_or(0);
    f64::from(fullest) / (red.width.div_ceil(2) * red.height.div_ceil(2)) as f64
}

#[multiversion(targets = "simd")]
fn index(red: &[u8], green: &[u8], blue: &[u8], out: &mut [u16]) {
    for (((r, g), b), out) in red.iter().zip(green).zip(blue).zip(out) {
        *out = u16::from(r >> 3) << 10 | u16::from(g >> 3) << 5 | u16::from(b >> 3);
    }
}

/// Samples that are 0 or 255.
#[multiversion(targets = "simd")]
pub(super) fn clipped(samples: &[u8]) -> u64 {
    const LANES: usize = 64;
    let (chunks, rest) = samples.as_chunks::<LANES>();
    let mut total = 0;
    for part in chunks.chunks(255) {
        let mut lanes = [0_u8; LANES];
        for chunk in part {
            for l in 0..LANES {
                lanes[l] += u8::from(chunk[l].wrapping_add(1) < 2);
            }
        }
        total += lanes.iter().map(|&lane| u64::from(lane)).sum::<u64>();
    }
    total + rest.iter().filter(|sample| sample.wrapping_add(1) < 2).count() as u64
}
