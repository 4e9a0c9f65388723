//! Traces of demosaicing: which pixels of green are a weighted sum of their neighbours, and whether they alternate.

#![allow(clippy::needless_range_loop)] // a loop over lanes indexes several arrays at once
#![allow(clippy::inline_always)] // meant to be inlined into functions that are compiled per instruction set

use multiversion::multiversion;
use rustfft::num_complex::Complex32;

use super::{About, Feature, Set};
use crate::image::{Plane, Planes};
use crate::transform::elementary::exp;
use crate::transform::plane_fft::{self, Spectrum};

/// Expectation maximisation over the eight neighbours, and the peaks of its map of probabilities.
pub(super) struct Family;

/// Largest side of the central region that is looked at, in pixels; even, so that it has the frequencies of a CFA.
const REGION: usize = 256;
const ITERATIONS: usize = 5;

/// Probability of a value under the other hypothesis, uniform over 256 levels.
const UNIFORM: f32 = 1.0 / 256.0;
/// Standard deviation to begin with, in grey levels.
const SIGMA: f64 = 2.0;
/// Variance of rounding to integers: the fit can do no better.
const LEAST_VARIANCE: f64 = 1.0 / 12.0;
/// Added to the mean square of each difference, so that the fit is defined on a constant image.
const RIDGE: f64 = 0.01;
/// Magnitude, over the root of the number of pixels, that counts as no spectrum.
const FLOOR: f32 = 1e-3;

/// Neighbours (down, right): first those that bilinear demosaicing of green uses.
const NEIGHBOURS: [(isize, isize, &str); 8] = [
    (-1, 0, "weight_n"),
    (1, 0, "weight_s"),
    (0, -1, "weight_w"),
    (0, 1, "weight_e"),
    (-1, -1, "weight_nw"),
    (-1, 1, "weight_ne"),
    (1, -1, "weight_sw"),
    (1, 1, "weight_se"),
];
const FIRST_WEIGHTS: [f64; 8] = [0.25, 0.25, 0.25, 0.25, 0.0, 0.0, 0.0, 0.0];
const COLUMNS: [&str; 6] = ["peak_diagonal", "peak_horizontal", "peak_vertical", "sigma", "mean", "deviation"];

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "cfa_em",
            set: Set::Costly,
            unit: "ratio to the median magnitude (peak_*); grey levels (sigma); probability (mean, deviation); weight",
            formula: "central region of green, largest even sides up to 256 that leave a margin of 1; d_i = neighbour \
                      i - pixel (8 neighbours), r = sum a_i d_i with sum a_i = 1, p = G / (G + 1/256), G the normal \
                      density of r; 5 times: a minimises sum p r² + 0.01 sum p |a|², sigma² = max(sum p r² / sum p, \
                      1/12), both over rows y with y mod 4 < 2 of the region; from a = 1/4 for N, S, W, E and sigma = \
                      2; then p on all rows; peaks = |F| at (1/2, 1/2), (1/2, 0) horizontal, (0, 1/2) vertical cycles \
                      per px over m + 0.001 sqrt(n), F the transform of p - mean p, m the upper median of |F| over \
                      frequencies u = 0 to 1/2 without (0, 0); weights as fitted",
            source: "Popescu & Farid, Exposing digital forgeries in color filter array interpolated images, IEEE TSP \
                     2005, section III; weights bound to sum to one",
        }
    }

    fn columns(&self) -> Vec<String> {
        COLUMNS.iter().copied().chain(NEIGHBOURS.iter().map(|n| n.2)).map(String::from).collect()
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let region = Region::centre_of(&planes.bytes()[1]);
        let mut fit = Fit { weights: FIRST_WEIGHTS, sigma: SIGMA };
        for _ in 0..ITERATIONS {
            fit = region.refit(&fit);
        }
        let mut map = region.probabilities(&fit);
        let n = map.len() as f64;
        let mean = map.iter().map(|&p| f64::from(p)).sum::<f64>() / n;
        let mut square = 0.0;
        for p in &mut map {
            let centred = f64::from(*p) - mean;
            square += centred * centred;
            *p = centred as f32;
        }
        out[..3].copy_from_slice(&peaks(&plane_fft::forward(&map, region.width)));
        out[3] = fit.sigma as f32;
        out[4] = mean as f32;
        out[5] = (square / n).sqrt() as f32;
        for (out, weight) in out[6..].iter_mut().zip(fit.weights) {
            *out = weight as f32;
        }
    }
}

/// A model of the interpolated pixels.
struct Fit {
    weights: [f64; 8],
    sigma: f64,
}

/// The central region of a plane.
struct Region<'a> {
    plane: &'a Plane<u8>,
    top: usize,
    left: usize,
    width: usize,
    height: usize,
}

/// One row of differences to each neighbour, and the probabilities of the row; zero beyond the region.
struct Row {
    differences: [[f32; REGION]; 8],
    probability: [f32; REGION],
}

impl<'a> Region<'a> {
    fn centre_of(plane: &'a Plane<u8>) -> Self {
        let side = |n: usize| (n - 2).min(REGION) & !1;
        let (width, height) = (side(plane.width), side(plane.height));
        Self { plane, top: (plane.height - height) / 2, left: (plane.width - width) / 2, width, height }
    }

    /// Fills `row` for row `y` of the region under `fit`.
    fn fill(&self, y: usize, fit: &Fit, row: &mut Row) {
        let around: [&[u8]; 3] =
            [0, 1, 2].map(|down| &self.plane.row(self.top + y + down - 1)[self.left - 1..=self.left + self.width]);
        fill_row(&around, &fit.weights.map(|w| w as f32), fit.sigma as f32, row);
    }

    fn refit(&self, fit: &Fit) -> Fit {
        let mut row = Row { differences: [[0.0; REGION]; 8], probability: [0.0; REGION] };
        let mut products = [[0.0; 8]; 8];
        let mut probability = 0.0;
        let rows: Vec<usize> = (0..self.height).filter(|y| y % 4 < 2).collect();
        for rows in rows.chunks(FLUSH) {
            let mut sums = Products { pairs: [[[0.0; LANES]; 8]; 8], probability: [0.0; LANES] };
            for &y in rows {
                self.fill(y, fit, &mut row);
                add_products(&row, &mut sums);
            }
            probability += total(&sums.probability);
            for i in 0..8 {
                for j in 0..8 {
                    products[i][j] += total(&sums.pairs[i.min(j)][i.max(j)]);
                }
            }
        }
        let mut normal = products;
        for (i, line) in normal.iter_mut().enumerate() {
            line[i] += RIDGE * probability;
        }
        let solution = solve_for_ones(&normal);
        let sum = solution.iter().sum::<f64>();
        let weights = solution.map(|a| a / sum);
        let mut square = 0.0;
        for i in 0..8 {
            for j in 0..8 {
                square += weights[i] * products[i][j] * weights[j];
            }
        }
        Fit { weights, sigma: (square / probability).max(LEAST_VARIANCE).sqrt() }
    }

    fn probabilities(&self, fit: &Fit) -> Vec<f32> {
        let mut row = Row { differences: [[0.0; REGION]; 8], probability: [0.0; REGION] };
        let mut map = Vec::with_capacity(self.width * self.height);
        for y in 0..self.height {
            self.fill(y, fit, &mut row);
            map.extend_from_slice(&row.probability[..self.width]);
        }
        map
    }
}

#[multiversion(targets = "simd")]
fn fill_row(around: &[&[u8]; 3], weights: &[f32; 8], sigma: f32, row: &mut Row) {
    let width = around[0].len() - 2;
    let centre = &around[1][1..=width];
    let mut residual = [0.0_f32; REGION];
    for (i, &(down, right, _)) in NEIGHBOURS.iter().enumerate() {
        let neighbour = &around[(down + 1) as usize][(right + 1) as usize..][..width];
        let differences = &mut row.differences[i][..width];
        for x in 0..width {
            let difference = f32::from(i16::from(neighbour[x]) - i16::from(centre[x]));
            differences[x] = difference;
            residual[x] += weights[i] * difference;
        }
    }
    let density = 1.0 / (sigma * std::f32::consts::TAU.sqrt());
    let scale = -0.5 / (sigma * sigma);
    for (p, r) in row.probability[..width].iter_mut().zip(&residual) {
        let normal = density * exp(scale * r * r);
        *p = normal / (normal + UNIFORM);
    }
}

/// Sums of `p d_i d_j` over rows, upper triangle, and of p; in lanes that are added up at the end.
struct Products {
    pairs: [[[f32; LANES]; 8]; 8],
    probability: [f32; LANES],
}

const LANES: usize = 16;

/// Rows that are summed in single precision before they join the double-precision sums.
const FLUSH: usize = 8;

#[multiversion(targets = "simd")]
fn add_products(row: &Row, sums: &mut Products) {
    let mut weighted = [0.0_f32; REGION];
    for i in 0..8 {
        for x in 0..REGION {
            weighted[x] = row.probability[x] * row.differences[i][x];
        }
        for j in i..8 {
            add_lanes(&weighted, &row.differences[j], &mut sums.pairs[i][j]);
        }
    }
    add_lanes(&row.probability, &[1.0; REGION], &mut sums.probability);
}

/// Adds a · b to `sum`, lane by lane.
#[inline(always)]
fn add_lanes(a: &[f32; REGION], b: &[f32; REGION], sum: &mut [f32; LANES]) {
    let mut lanes = *sum;
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    *sum = lanes;
}

fn total(lanes: &[f32; LANES]) -> f64 {
    lanes.iter().map(|&v| f64::from(v)).sum()
}

/// Solves `matrix` x = (1, …, 1) by Cholesky; `matrix` is symmetric and positive definite.
fn solve_for_ones(matrix: &[[f64; 8]; 8]) -> [f64; 8] {
    let mut lower = [[0.0; 8]; 8];
    let mut x = [0.0; 8];
    for i in 0..8 {
        for j in 0..=i {
            let rest = matrix[i][j] - (0..j).map(|k| lower[i][k] * lower[j][k]).sum::<f64>();
            lower[i][j] = if i == j { rest.max(f64::MIN_POSITIVE).sqrt() } else { rest / lower[j][j] };
        }
        x[i] = (1.0 - (0..i).map(|k| lower[i][k] * x[k]).sum::<f64>()) / lower[i][i];
    }
    for i in (0..8).rev() {
        x[i] = (x[i] - (i + 1..8).map(|k| lower[k][i] * x[k]).sum::<f64>()) / lower[i][i];
    }
    x
}

/// At (1/2, 1/2), (1/2, 0) and (0, 1/2) cycles per pixel, horizontal first.
fn peaks(spectrum: &Spectrum) -> [f32; 3] {
    let mut magnitudes: Vec<f32> = spectrum.data.iter().map(Complex32::norm_sqr).collect();
    let (u, v) = (spectrum.width / 2, spectrum.height / 2);
    let at = |u: usize, v: usize| -> Complex32 { spectrum.data[v * (spectrum.width / 2 + 1) + u] };
    let others = &mut magnitudes[1..];
    let middle = others.len() / 2;
    let median = others.select_nth_unstable_by(middle, f32::total_cmp).1.sqrt();
    let floor = FLOOR * ((spectrum.width * spectrum.height) as f32).sqrt();
    [at(u, v), at(u, 0), at(0, v)].map(|peak| peak.norm() / (median + floor))
}
