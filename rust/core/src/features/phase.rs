//! What the phase alone holds: the phase-only reconstruction, and how well phases agree over scales.

#![allow(clippy::needless_range_loop)] // a loop over lanes indexes several arrays at once

use std::sync::OnceLock;

use multiversion::multiversion;
use rustfft::num_complex::Complex32;

use super::{About, Feature, Set};
use crate::image::{Plane, Planes};
use crate::transform::plane_fft::{self, Spectrum};

/// Moments of the phase-only image and of a phase congruency.
pub(super) struct Family;

/// Largest side, in pixels, of the central region that is whitened.
const REGION: usize = 256;
/// Frequencies below this share of the strongest have no phase to speak of.
const WEAKEST: f32 = 1e-5;
/// Side of the blocks whose energies are compared.
const BLOCK: usize = 16;

/// Keeps correlations defined where |s| is constant; |s| of white Gaussian noise has variance 0.36.
const VARIANCE_FLOOR: f64 = 0.01;

/// Side of the central square that phase congruency is measured on; every image has one of the smaller size.
const SQUARES: [usize; 2] = [128, 64];
/// Wavelengths of the log-Gabor filters, in pixels: each 2.1 times the one before it.
const WAVELENGTHS: [f32; 3] = [3.0, 6.3, 13.23];
/// Width of the log-Gabor filters: ratio of the deviation to the centre frequency.
const BANDWIDTH: f32 = 0.55;
/// Amplitude, in grey levels, below which there is no structure.
const NOISE: f32 = 0.5;

const COLUMNS: [&str; 11] = [
    "mean_abs",
    "skewness",
    "kurtosis",
    "block_deviation",
    "neighbour_right",
    "neighbour_down",
    "congruency_mean",
    "congruency_deviation",
    "congruency_weighted",
    "symmetry",
    "anisotropy",
];

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "phase",
            set: Set::Costly,
            unit: "1; ln ratio (block_deviation)",
            formula: "s = sqrt(n) Re F^-1(exp(i arg F)) of luma minus its mean on the central region of at most \
                      256x256, frequencies with |F| <= 1e-5 max|F| left out; E|s|, E s³ / (E s²)^1.5, E s⁴ / (E s²)², \
                      deviation of ln(E s² + 0.01) over 16x16 blocks, (E|s s'| - (E|s|)²) / (Var|s| + 0.01), s' \
                      the right and the lower neighbour; on the central 128x128 (64x64 where a side is under 128), log-Gabor filters at 3, \
                      6.3, 13.23 px, sigma/f 0.55, and their Riesz transforms give (e, h1, h2) per scale: congruency \
                      = |sum (e, h1, h2)| / (sum |(e, h1, h2)| + 0.5), its mean and deviation, the ratio of the sums \
                      over pixels (+ 0.5 per pixel), symmetry = sum |sum e| over the sum of |sum (e, h1, h2)| (+ 0.5), \
                      anisotropy = (H1 - H2) / (H1 + H2 + 0.25), H the mean square of sum h",
            source: "Liu et al., Spatial-phase shallow learning, CVPR 2021; Kovesi, Image features from phase congruency, \
                     1999, and Felsberg & Sommer, The monogenic signal, 2001 (no noise threshold, no spread weight)",
        }
    }

    fn columns(&self) -> Vec<String> {
        COLUMNS.map(String::from).to_vec()
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let luma = planes.luma8();
        let (width, height) = (luma.width.min(REGION), luma.height.min(REGION));
        let region = centre(luma, width, height);
        out[..6].copy_from_slice(&whitened_moments(&phase_only(&region, width), width));
        let shortest = luma.width.min(luma.height);
        let side = if shortest >= SQUARES[0] { SQUARES[0] } else { SQUARES[1] };
        let spectrum = plane_fft::forward(&centre(luma, side, side), side);
        out[6..].copy_from_slice(&congruency(&spectrum));
    }
}

/// The central `height` rows of `width` pixels, less their mean.
fn centre(luma: &Plane<u8>, width: usize, height: usize) -> Vec<f32> {
    let (top, left) = ((luma.height - height) / 2, (luma.width - width) / 2);
    let rows = (top..top + height).map(|y| &luma.row(y)[left..left + width]);
    let sum: u64 = rows.clone().flatten().map(|&v| u64::from(v)).sum();
    let mean = sum as f64 / (width * height) as f64;
    rows.flatten().map(|&v| (f64::from(v) - mean) as f32).collect()
}

/// The image of unit magnitudes and the phases of `region`, scaled to a mean square near one.
fn phase_only(region: &[f32], width: usize) -> Vec<f32> {
    let mut spectrum = plane_fft::forward(region, width);
    let strongest = spectrum.data.iter().map(Complex32::norm_sqr).fold(0.0, f32::max);
    let least = strongest * WEAKEST * WEAKEST;
    let scale = ((width * spectrum.height) as f32).sqrt();
    for c in &mut spectrum.data {
        let square = c.norm_sqr();
        *c = if square > least { *c * (scale / square.sqrt()) } else { Complex32::default() };
    }
    plane_fft::inverse(spectrum)
}

/// The first six of [`COLUMNS`].
fn whitened_moments(s: &[f32], width: usize) -> [f32; 6] {
    let n = s.len() as f64;
    let [mut absolute, mut square, mut cube, mut fourth] = [0.0_f64; 4];
    for row in s.chunks_exact(width) {
        let sums = row_moments(row);
        absolute += sums[0];
        square += sums[1];
        cube += sums[2];
        fourth += sums[3];
    }
    if square == 0.0 {
        return [0.0; 6];
    }
    let (mean, power) = (absolute / n, square / n);
    let variance = power - mean * mean;
    let height = s.len() / width;
    let correlation = |right: usize, down: usize| {
        let mut product = 0.0_f64;
        for y in 0..height - down {
            let (a, b) = (&s[y * width..(y + 1) * width - right], &s[(y + down) * width + right..]);
            product += absolute_product(a, b);
        }
        let pairs = ((width - right) * (height - down)) as f64;
        (product / pairs - mean * mean) / (variance + VARIANCE_FLOOR)
    };
    [
        mean as f32,
        (cube / n / power.powf(1.5)) as f32,
        (fourth / n / (power * power)) as f32,
        block_deviation(s, width) as f32,
        correlation(1, 0) as f32,
        correlation(0, 1) as f32,
    ]
}

const LANES: usize = 16;

/// Sums of |v|, v², v³, v⁴.
#[multiversion(targets = "simd")]
fn row_moments(row: &[f32]) -> [f64; 4] {
    let mut sums = [[0.0_f32; LANES]; 4];
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut last = [0.0; LANES];
    last[..rest.len()].copy_from_slice(rest);
    for chunk in chunks.iter().chain([&last]) {
        for lane in 0..LANES {
            let (v, square) = (chunk[lane], chunk[lane] * chunk[lane]);
            sums[0][lane] += v.abs();
            sums[1][lane] += square;
            sums[2][lane] += square * v;
            sums[3][lane] += square * square;
        }
    }
    sums.map(|lanes| lanes.iter().map(|&v| f64::from(v)).sum())
}

/// Sum of |a b| over the shorter of both.
#[multiversion(targets = "simd")]
fn absolute_product(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0_f32; LANES];
    let length = a.len().min(b.len());
    let ((a, a_rest), (b, b_rest)) = (a[..length].as_chunks::<LANES>(), b[..length].as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += (a[lane] * b[lane]).abs();
        }
    }
    let mut total = 0.0;
    for sum in sums {
        total += f64::from(sum);
    }
    for (a, b) in a_rest.iter().zip(b_rest) {
        total += f64::from((a * b).abs());
    }
    total
}

fn block_deviation(s: &[f32], width: usize) -> f64 {
    let mut logs = Vec::new();
    for strip in s.chunks_exact(BLOCK * width) {
        for left in (0..=width - BLOCK).step_by(BLOCK) {
            let rows = strip.chunks_exact(width).map(|row| &row[left..left + BLOCK]);
            let energy = rows.flatten().map(|&v| f64::from(v * v)).sum::<f64>();
            logs.push((energy / (BLOCK * BLOCK) as f64 + 0.01).ln());
        }
    }
    let mean = logs.iter().sum::<f64>() / logs.len() as f64;
    (logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / logs.len() as f64).sqrt()
}

/// The last five of [`COLUMNS`], of a square plane.
fn congruency(spectrum: &Spectrum) -> [f32; 5] {
    let side = spectrum.width;
    let filters = FILTERS[usize::from(side != SQUARES[0])].get_or_init(|| Filters::new(side));
    let whole = whole(spectrum);
    // Per scale the Riesz pair h1 + i h2; the even parts two in one, e1 + i e2, then e3.
    let pairs = [0, 1, 2].map(|scale| filtered(&whole, side, |k| filters.riesz[k] * filters.gains[k][scale]));
    let even = filtered(&whole, side, |k| Complex32::new(filters.gains[k][0], filters.gains[k][1]));
    let coarse = filtered(&whole, side, |k| Complex32::new(filters.gains[k][2], 0.0));
    let [mut sum, mut squares, mut energies, mut amplitudes] = [0.0_f64; 4];
    let [mut evens, mut across, mut down] = [0.0_f64; 3];
    for i in 0..side * side {
        let e = [even[i].re, even[i].im, coarse[i].re];
        let riesz = [pairs[0][i], pairs[1][i], pairs[2][i]];
        let amplitude: f32 = e.iter().zip(&riesz).map(|(e, h)| (e * e + h.norm_sqr()).sqrt()).sum();
        let (e, h) = (e[0] + e[1] + e[2], riesz[0] + riesz[1] + riesz[2]);
        let energy = (e * e + h.norm_sqr()).sqrt();
        let ratio = f64::from(energy / (amplitude + NOISE));
        sum += ratio;
        squares += ratio * ratio;
        energies += f64::from(energy);
        amplitudes += f64::from(amplitude);
        evens += f64::from(e.abs());
        across += f64::from(h.re * h.re);
        down += f64::from(h.im * h.im);
    }
    let n = (side * side) as f64;
    let (mean, noise) = (sum / n, f64::from(NOISE));
    [
        mean as f32,
        (squares / n - mean * mean).max(0.0).sqrt() as f32,
        (energies / n / (amplitudes / n + noise)) as f32,
        (evens / n / (energies / n + noise)) as f32,
        ((across - down) / n / ((across + down) / n + noise * noise)) as f32,
    ]
}

/// The complex plane of `spectrum` times `factor`, columns of `side` pixels.
fn filtered(spectrum: &[Complex32], side: usize, factor: impl Fn(usize) -> Complex32) -> Vec<Complex32> {
    let mut data: Vec<Complex32> = spectrum.iter().enumerate().map(|(k, c)| c * factor(k)).collect();
    plane_fft::inverse_square(&mut data, side);
    data
}

/// Log-Gabor gains and Riesz factors of a square, `[v * side + u]`.
struct Filters {
    /// Per scale, with the 1 / n of the inverse transform; 0 at DC.
    gains: Vec<[f32; 3]>,
    /// (-i fu + fv) / |f|: what makes h1 + i h2. A component at its Nyquist frequency, which has no sign, counts as 0.
    riesz: Vec<Complex32>,
}

/// Of the sides [`SQUARES`].
static FILTERS: [OnceLock<Filters>; 2] = [OnceLock::new(), OnceLock::new()];

impl Filters {
    fn new(side: usize) -> Self {
        let frequency = |k: usize| if k <= side / 2 { k as f64 } else { k as f64 - side as f64 } / side as f64;
        let odd = |k: usize| if k == side / 2 { 0.0 } else { frequency(k) };
        let n = (side * side) as f64;
        let (mut gains, mut riesz) = (Vec::with_capacity(side * side), Vec::with_capacity(side * side));
        for v in 0..side {
            for u in 0..side {
                let radius = frequency(u).hypot(frequency(v));
                if radius == 0.0 {
                    gains.push([0.0; 3]);
                    riesz.push(Complex32::default());
                    continue;
                }
                gains.push(WAVELENGTHS.map(|wavelength| {
                    let octaves = (radius * f64::from(wavelength)).ln() / f64::from(BANDWIDTH).ln();
                    ((-0.5 * octaves * octaves).exp() / n) as f32
                }));
                riesz.push(Complex32::new((odd(v) / radius) as f32, (-odd(u) / radius) as f32));
            }
        }
        Self { gains, riesz }
    }
}

/// Both halves of the spectrum of a square, `[v * side + u]`.
fn whole(spectrum: &Spectrum) -> Vec<Complex32> {
    let side = spectrum.width;
    let across = side / 2 + 1;
    let row = |v: usize| &spectrum.data[v * across..(v + 1) * across];
    let mut data = Vec::with_capacity(side * side);
    for v in 0..side {
        data.extend_from_slice(row(v));
        data.extend(row((side - v) % side)[1..=side - across].iter().rev().map(Complex32::conj));
    }
    data
}
