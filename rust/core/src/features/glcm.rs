//! Grey-level co-occurrence: Haralick's scalars of luma at 256 levels and of a residual at 16.

use std::sync::LazyLock;

use multiversion::multiversion;

use super::{About, Feature, Set};
use crate::image::{Plane, Planes};
use crate::transform::filters::{Bank, MARGIN, Taps, correlate_rows, widened};

/// Five scalars of each co-occurrence matrix.
pub(super) struct Family;

const SCALARS: [&str; 5] = ["contrast", "homogeneity", "energy", "correlation", "entropy"];

/// Where the second pixel of a pair lies, (down, right).
const OFFSETS: [(usize, usize, &str); 4] = [(0, 1, "d1_a0"), (1, 0, "d1_a90"), (0, 5, "d5_a0"), (5, 0, "d5_a90")];

/// Every second row gives the first pixels of pairs.
const ROW_STEP: usize = 2;

/// SRM's square 3×3.
struct Square3;

impl Bank<1> for Square3 {
    const KERNELS: [Taps; 1] = [[[0; 5], [0, -1, 2, -1, 0], [0, 2, -4, 2, 0], [0, -1, 2, -1, 0], [0; 5]]];
}

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "glcm",
            set: Set::Costly,
            unit: "squared levels (contrast); 1 (homogeneity, energy, correlation); nats (entropy)",
            formula: "P(i, j) symmetric and normalised, first pixels on even rows, second pixels at distance 1 or 5, \
                      angle 0 (right) or 90 (down), of luma at 256 levels and of the residual level \
                      clamp(floor((r + 2) / 4), -8, 7), r = SRM square 3x3 where the 5x5 neighbourhood lies on the \
                      image; contrast = sum (i-j)² P, homogeneity = sum P / (1 + (i-j)²), energy = sum P², \
                      correlation = sum (i-m)(j-m) P / s² (0 where s = 0), entropy = -sum P ln P",
            source: "Haralick et al. 1973; matrices as in Nataraj et al., Detecting GAN generated fake images using \
                     co-occurrence matrices, 2019",
        }
    }

    fn columns(&self) -> Vec<String> {
        let names = |plane: &str| -> Vec<String> {
            OFFSETS.iter().flat_map(|o| SCALARS.map(|scalar| format!("{plane}_{}_{scalar}", o.2))).collect()
        };
        ["luma", "residual"].iter().flat_map(|plane| names(plane)).collect()
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let (luma, residual) = out.split_at_mut(OFFSETS.len() * SCALARS.len());
        fill(planes.luma8(), 256, luma);
        fill(&residual_levels(planes.luma8()), 16, residual);
    }
}

/// The residual of `luma` at 16 levels.
fn residual_levels(luma: &Plane<u8>) -> Plane<u8> {
    let wide = widened(luma);
    let (width, height) = (luma.width - 2 * MARGIN, luma.height - 2 * MARGIN);
    let stride = wide.width - 2 * MARGIN;
    let mut residuals = [vec![0; stride * height]];
    correlate_rows::<1, Square3>(&wide, 0, height, &mut residuals);
    let mut data = vec![0; width * height];
    for (levels, residuals) in data.chunks_exact_mut(width).zip(residuals[0].chunks_exact(stride)) {
        fill_levels(residuals, levels);
    }
    Plane { width, height, data }
}

#[multiversion(targets = "simd")]
fn fill_levels(residuals: &[i16], levels: &mut [u8]) {
    for (level, &r) in levels.iter_mut().zip(residuals) {
        *level = (((r + 2) >> 2).clamp(-8, 7) + 8) as u8;
    }
}

fn fill(plane: &Plane<u8>, levels: usize, out: &mut [f32]) {
    let mut counts = Counts::new(levels);
    for (offset, out) in OFFSETS.iter().zip(out.chunks_exact_mut(SCALARS.len())) {
        counts.count_pairs(plane, offset.0, offset.1);
        out.copy_from_slice(&counts.take_scalars().map(|value| value as f32));
    }
}

/// Tables that are filled in turn: an increment need not wait for the one before it, which often has the same key.
const TABLES: usize = 2;

/// Unordered pairs of levels, `[lower * levels + higher]`: the upper triangle of the symmetric matrix.
struct Counts {
    levels: usize,
    tables: [Vec<u32>; TABLES],
    keys: Vec<u16>,
}

impl Counts {
    fn new(levels: usize) -> Self {
        Self { levels, tables: [vec![0; levels * levels], vec![0; levels * levels]], keys: Vec::new() }
    }

    fn count_pairs(&mut self, plane: &Plane<u8>, down: usize, right: usize) {
        self.keys.resize(plane.width - right, 0);
        for y in (0..plane.height - down).step_by(ROW_STEP) {
            let (first, second) = (plane.row(y), &plane.row(y + down)[right..]);
            pair_keys(first, second, self.levels as u16, &mut self.keys);
            let [even, odd] = &mut self.tables;
            let (pairs, last) = self.keys.as_chunks::<2>();
            for &[a, b] in pairs {
                even[usize::from(a)] += 1;
                odd[usize::from(b)] += 1;
            }
            for &key in last {
                even[usize::from(key)] += 1;
            }
        }
    }

    /// In the order of [`SCALARS`]. Leaves the tables empty for the next offset.
    fn take_scalars(&mut self) -> [f64; 5] {
        let [even, odd] = &mut self.tables;
        // Twice the symmetric matrix: an unordered pair off the diagonal stands at (i, j) and at (j, i).
        let (mut squares, mut logs) = (0.0, 0.0);
        let mut total = 0_u64;
        let mut marginal = vec![0_u64; self.levels];
        let mut differences = vec![0_u64; self.levels];
        for low in 0..self.levels {
            let row = low * self.levels..(low + 1) * self.levels;
            for (high, (a, b)) in even[row.clone()].iter_mut().zip(&mut odd[row]).enumerate().skip(low) {
                let count = *a + *b;
                if count == 0 {
                    continue;
                }
                (*a, *b) = (0, 0);
                total += u64::from(count);
                marginal[low] += u64::from(count);
                marginal[high] += u64::from(count);
                differences[high - low] += u64::from(count);
                let (copies, mass) = if low == high { (1.0, 2 * count) } else { (2.0, count) };
                squares += copies * f64::from(mass) * f64::from(mass);
                logs += copies * mass_log(mass);
            }
        }
        let pairs = total as f64;
        let mean_of = |counts: &[u64], n: f64, value: &dyn Fn(f64) -> f64| -> f64 {
            counts.iter().enumerate().map(|(level, &count)| value(level as f64) * count as f64).sum::<f64>() / n
        };
        let contrast = mean_of(&differences, pairs, &|d| d * d);
        let mean = mean_of(&marginal, 2.0 * pairs, &|level| level);
        let variance = mean_of(&marginal, 2.0 * pairs, &|level| (level - mean).powi(2));
        [
            contrast,
            mean_of(&differences, pairs, &|d| 1.0 / (1.0 + d * d)),
            squares / (4.0 * pairs * pairs),
            // E(i-j)² = 2 variance - 2 covariance.
            if variance > 0.0 { 1.0 - contrast / (2.0 * variance) } else { 0.0 },
            (2.0 * pairs).ln() - logs / (2.0 * pairs),
        ]
    }
}

/// n ln n; most cells of a matrix hold few pairs.
fn mass_log(n: u32) -> f64 {
    static FEW: LazyLock<[f64; 1024]> = LazyLock::new(|| std::array::from_fn(|n| of(n.max(1) as f64)));
    fn of(n: f64) -> f64 {
        n * n.ln()
    }
    FEW.get(n as usize).copied().unwrap_or_else(|| of(f64::from(n)))
}

#[multiversion(targets = "simd")]
fn pair_keys(first: &[u8], second: &[u8], levels: u16, keys: &mut [u16]) {
    for ((key, &a), &b) in keys.iter_mut().zip(first).zip(second) {
        *key = u16::from(a.min(b)) * levels + u16::from(a.max(b));
    }
}
