//! AIDE's patch ranking: the windows of least and of most texture, and what is left of each in a high-pass filter.

#![allow(clippy::needless_range_loop)] // a loop over lanes indexes several arrays at once

use std::sync::OnceLock;

use multiversion::multiversion;

use super::sums::POWER_FLOOR;
use super::{About, Feature, Set};
use crate::image::{Plane, Planes};
use crate::transform::elementary::ln;

/// Grades of windows by their DCT, and the residual of the richest against the poorest.
pub(super) struct Family;

/// Side of a window, in pixels, and the step between windows.
const SIDE: usize = 32;
const HALF: usize = SIDE / 2;
const BANDS: usize = 6;

/// Windows at each end of the ranking.
const ENDS: usize = 2;

const COLUMNS: [&str; 10] = [
    "lowest",
    "second_lowest",
    "second_highest",
    "highest",
    "mean",
    "deviation",
    "spread",
    "residual_mean_abs",
    "residual_log_power",
    "residual_kurtosis",
];

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "aide",
            set: Set::Costly,
            unit: "grade; grey levels (residual_mean_abs); ln ratio (residual_log_power); 1 (residual_kurtosis)",
            formula: "windows of 32x32 at stride 32 from the origin, X the orthonormal DCT of luma / 255, grade = sum \
                      over k = 0..5 of 2^k times the mean of ln(1 + |X(i, j)|) where 64k/6 <= i + j <= 64(k+1)/6; the \
                      2 lowest and 2 highest grades (ties in reading order), mean and deviation over windows, spread = \
                      highest - lowest; residual r = SRM square 3x3 / 4 on the inner 30x30 of those windows: E|r|, \
                      ln(E r² + 0.01), E r⁴ / (E r² + 0.01)², of the 2 highest minus the same of the 2 lowest",
            source: "Yan et al., A sanity check for AI-generated image detection (AIDE), 2025, section 4.1; luma in place \
                     of the sum over channels, stride 32 in place of 16",
        }
    }

    fn columns(&self) -> Vec<String> {
        COLUMNS.map(String::from).to_vec()
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let luma = planes.luma8();
        let transform = TRANSFORM.get_or_init(Transform::new);
        let mut ranking = Vec::with_capacity((luma.height / SIDE) * (luma.width / SIDE));
        for top in (0..=luma.height - SIDE).step_by(SIDE) {
            for left in (0..=luma.width - SIDE).step_by(SIDE) {
                ranking.push((grade(luma, top, left, transform), (top, left)));
            }
        }
        let n = ranking.len() as f64;
        let mean = ranking.iter().map(|(grade, _)| f64::from(*grade)).sum::<f64>() / n;
        let square = ranking.iter().map(|(grade, _)| (f64::from(*grade) - mean).powi(2)).sum::<f64>() / n;
        ranking.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (lowest, highest) = (&ranking[..ENDS], &ranking[ranking.len() - ENDS..]);
        out[0] = lowest[0].0;
        out[1] = lowest[1].0;
        out[2] = highest[0].0;
        out[3] = highest[1].0;
        out[4] = mean as f32;
        out[5] = square.sqrt() as f32;
        out[6] = highest[1].0 - lowest[0].0;
        let (rich, poor) = (residual_moments(luma, highest), residual_moments(luma, lowest));
        for ((out, rich), poor) in out[7..].iter_mut().zip(rich).zip(poor) {
            *out = (rich - poor) as f32;
        }
    }
}

/// A grade and the window's (top, left).
type Ranked = (f32, (usize, usize));

/// The DCT in halves: even coefficients see sums of samples that mirror each other, odd ones their differences.
struct Transform {
    /// `[k][n]`: coefficient k of sample n, n below [`HALF`].
    vertical: [[f32; HALF]; SIDE],
    /// `[n]`: even coefficients, then odd ones, of sample n.
    horizontal: [[[f32; HALF]; 2]; HALF],
    /// Weight of ln(1 + |X|) in the grade, laid out as coefficients come: row, parity, half of the column.
    weights: [[[f32; HALF]; 2]; SIDE],
}

static TRANSFORM: OnceLock<Transform> = OnceLock::new();

/// AIDE's grade of a window of one channel: high where high frequencies are strong. The formula stands in the family's
/// description.
pub(crate) struct WindowGrades(&'static Transform);

impl WindowGrades {
    /// Side of a window, in pixels.
    pub(crate) const SIDE: usize = SIDE;

    pub(crate) fn new() -> Self {
        Self(TRANSFORM.get_or_init(Transform::new))
    }

    /// The grade of the window at (`top`, `left`), which must lie inside.
    pub(crate) fn of(&self, channel: &Plane<u8>, top: usize, left: usize) -> f32 {
        grade(channel, top, left, self.0)
    }
}

impl Transform {
    fn new() -> Self {
        let basis = |k: usize, n: usize| {
            let scale = if k == 0 { 1.0 } else { 2.0_f64.sqrt() } / (SIDE as f64).sqrt();
            (scale * ((n as f64 + 0.5) * k as f64 * std::f64::consts::PI / SIDE as f64).cos()) as f32
        };
        let mut transform = Self {
            vertical: [[0.0; HALF]; SIDE],
            horizontal: [[[0.0; HALF]; 2]; HALF],
            weights: [[[0.0; HALF]; 2]; SIDE],
        };
        let weights = weights();
        for k in 0..SIDE {
            for n in 0..HALF {
                transform.vertical[k][n] = basis(k, n);
                transform.horizontal[n][k % 2][k / 2] = basis(k, n);
            }
            for other in 0..SIDE {
                transform.weights[k][other % 2][other / 2] = weights[k + other];
            }
        }
        transform
    }
}

/// Weight of a coefficient in the grade, by i + j; on the border of two bands it counts in both.
fn weights() -> [f32; 2 * SIDE - 1] {
    let mut weights = [0.0; 2 * SIDE - 1];
    for band in 0..BANDS {
        // 64 k / 6 <= i + j in integers.
        let inside = |sum: usize| sum * BANDS >= 2 * SIDE * band && sum * BANDS <= 2 * SIDE * (band + 1);
        let coefficients = |sum: usize| if sum < SIDE { sum + 1 } else { 2 * SIDE - 1 - sum };
        let size: usize = (0..2 * SIDE - 1).filter(|&sum| inside(sum)).map(coefficients).sum();
        for (sum, weight) in weights.iter_mut().enumerate() {
            if inside(sum) {
                *weight += f32::from(1_u8 << band) / size as f32;
            }
        }
    }
    weights
}

#[multiversion(targets = "simd")]
fn grade(luma: &Plane<u8>, top: usize, left: usize, transform: &Transform) -> f32 {
    // Sums and differences of rows that mirror each other.
    let mut folded = [[[0.0_f32; SIDE]; HALF]; 2];
    for n in 0..HALF {
        let upper = &luma.row(top + n)[left..left + SIDE];
        let lower = &luma.row(top + SIDE - 1 - n)[left..left + SIDE];
        for x in 0..SIDE {
            let (a, b) = (f32::from(upper[x]) / 255.0, f32::from(lower[x]) / 255.0);
            folded[0][n][x] = a + b;
            folded[1][n][x] = a - b;
        }
    }
    let mut sum = [0.0_f32; HALF];
    for k in 0..SIDE {
        let mut row = [0.0_f32; SIDE];
        for n in 0..HALF {
            let (c, samples) = (transform.vertical[k][n], &folded[k % 2][n]);
            for x in 0..SIDE {
                row[x] += c * samples[x];
            }
        }
        let mut coefficients = [[0.0_f32; HALF]; 2];
        for n in 0..HALF {
            let mirrored = [row[n] + row[SIDE - 1 - n], row[n] - row[SIDE - 1 - n]];
            for parity in 0..2 {
                for x in 0..HALF {
                    coefficients[parity][x] += mirrored[parity] * transform.horizontal[n][parity][x];
                }
            }
        }
        for parity in 0..2 {
            for x in 0..HALF {
                sum[x] += transform.weights[k][parity][x] * ln(1.0 + coefficients[parity][x].abs());
            }
        }
    }
    sum.iter().sum()
}

/// E|r|, ln(E r² + 0.01) and E r⁴ / (E r² + 0.01)² over the inner pixels of `windows`.
fn residual_moments(luma: &Plane<u8>, windows: &[Ranked]) -> [f64; 3] {
    let (mut n, mut absolute, mut square, mut fourth) = (0.0, 0.0, 0.0, 0.0);
    for &(_, (top, left)) in windows {
        for y in top + 1..top + SIDE - 1 {
            let rows = [y - 1, y, y + 1].map(|y| luma.row(y));
            // Minus the second difference of second differences: the square 3×3 kernel is their product.
            let across = |x: usize| {
                let [a, b, c] = rows.map(|row| i32::from(row[x]));
                a - 2 * b + c
            };
            for x in left + 1..left + SIDE - 1 {
                let r = f64::from(across(x - 1) - 2 * across(x) + across(x + 1)) / -4.0;
                n += 1.0;
                absolute += r.abs();
                square += r * r;
                fourth += r.powi(4);
            }
        }
    }
    let power = square / n + POWER_FLOOR;
    [absolute / n, power.ln(), fourth / n / (power * power)]
}
