//! Synthbuster: harmonics of the cross-difference at the periods of latent decoders and of JPEG.

use std::sync::LazyLock;

use multiversion::multiversion;

use super::cross_difference::PERIOD;
use super::{About, Feature, Set};
use crate::image::Planes;

/// Added to ratios before logarithms and to the mean below them, in grey levels.
const FLOOR: f64 = 1e-3;

const SOURCE: &str = "Bammey, Synthbuster: towards detection of diffusion model generated images, 2023; code \
                      qbammey/synthbuster:preprocess.py, without its duplicates (an even spectrum has half of them)";

const CHANNELS: [&str; 3] = ["r", "g", "b"];

/// Frequencies (m, n) of the half-plane that a real signal's transform does not repeat, without (0, 0): n from 0 to
/// period / 2, m signed.
fn half_plane(period: i32) -> Vec<(i32, i32)> {
    let half = period / 2;
    let mut frequencies = Vec::new();
    for n in 0..=half {
        let own_mirror = n == 0 || n == half;
        for m in (if own_mirror { 0 } else { 1 - half })..=half {
            if (m, n) != (0, 0) {
                frequencies.push((m, n));
            }
        }
    }
    frequencies
}

/// cos and sin of 2πk / 16 at `[a][b]`, k = a b.
type Turns = ([[f64; PERIOD]; PERIOD], [[f64; PERIOD]; PERIOD]);

static TURNS: LazyLock<Turns> = LazyLock::new(|| {
    let table = |f: fn(f64) -> f64| {
        std::array::from_fn(|a| {
            std::array::from_fn(|b| f(std::f64::consts::TAU * (a * b % PERIOD) as f64 / PERIOD as f64))
        })
    };
    (table(f64::cos), table(f64::sin))
});

/// Magnitudes of the harmonics of period 16, `[m mod 16][n]`.
pub(super) type Magnitudes = [[f64; PERIOD]; PERIOD];

/// `|Σ folded(y,x) exp(-2πi (m y + n x) / 16)| / 256`: rows, then columns, all n of a row side by side.
#[multiversion(targets = "simd")]
pub(super) fn magnitudes(folded: &[[f64; PERIOD]; PERIOD], (cos, sin): &Turns, out: &mut Magnitudes) {
    let mut rows = [[[0.0; PERIOD]; 2]; PERIOD];
    for y in 0..PERIOD {
        for x in 0..PERIOD {
            for n in 0..PERIOD {
                rows[y][0][n] += folded[y][x] * cos[x][n];
                rows[y][1][n] -= folded[y][x] * sin[x][n];
            }
        }
    }
    for m in 0..PERIOD {
        let (mut re, mut im) = ([0.0; PERIOD], [0.0; PERIOD]);
        for y in 0..PERIOD {
            for n in 0..PERIOD {
                re[n] += rows[y][0][n] * cos[m][y] + rows[y][1][n] * sin[m][y];
                im[n] += rows[y][1][n] * cos[m][y] - rows[y][0][n] * sin[m][y];
            }
        }
        for n in 0..PERIOD {
            out[m][n] = (re[n] * re[n] + im[n] * im[n]).sqrt() / (PERIOD * PERIOD) as f64;
        }
    }
}

/// [`magnitudes`] of the three channels.
pub(super) fn harmonics(folded: &[[[f64; PERIOD]; PERIOD]; 3]) -> [Magnitudes; 3] {
    let mut out = [[[0.0; PERIOD]; PERIOD]; 3];
    for (folded, out) in folded.iter().zip(&mut out) {
        magnitudes(folded, &TURNS, out);
    }
    out
}

/// Frequency (m, n) of the period 16 in [`Magnitudes`].
fn at(magnitudes: &Magnitudes, (m, n): (i32, i32)) -> f64 {
    magnitudes[m.rem_euclid(PERIOD as i32) as usize][n as usize]
}

/// The family `synthbuster8`.
pub(super) struct Period8;

impl Feature for Period8 {
    fn about(&self) -> About {
        About {
            name: "synthbuster8",
            set: Set::Default,
            unit: "ln ratio; ln grey levels",
            formula: "a = |x(y,x) + x(y+1,x+1) - x(y,x+1) - x(y+1,x)| per channel, last row and column dropped, cropped \
                      to H, W multiples of 16; A(m,n): mean of a times the harmonic (mH/8, nW/8); columns: \
                      ln(A(0,0) + 0.001) and ln(|A(m,n)| / (A(0,0) + 0.001) + 0.001) on the half-plane n = 0..4",
            source: SOURCE,
        }
    }

    fn columns(&self) -> Vec<String> {
        let mut columns = Vec::new();
        for channel in CHANNELS {
            columns.push(format!("{channel}_mean"));
            columns.extend(half_plane(8).iter().map(|(m, n)| format!("{channel}_m{m}_n{n}")));
        }
        columns
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let frequencies = half_plane(8);
        let channels = &planes.cross_difference().harmonics;
        for (magnitudes, out) in channels.iter().zip(out.chunks_exact_mut(frequencies.len() + 1)) {
            let mean = at(magnitudes, (0, 0)) + FLOOR;
            out[0] = mean.ln() as f32;
            for (out, &(m, n)) in out[1..].iter_mut().zip(&frequencies) {
                *out = (at(magnitudes, (2 * m, 2 * n)) / mean + FLOOR).ln() as f32;
            }
        }
    }
}

/// The family `synthbuster16`.
pub(super) struct Period16;

/// The harmonics of period 16 that are none of period 8.
fn odd_half_plane() -> Vec<(i32, i32)> {
    half_plane(16).into_iter().filter(|(m, n)| m % 2 != 0 || n % 2 != 0).collect()
}

impl Feature for Period16 {
    fn about(&self) -> About {
        About {
            name: "synthbuster16",
            set: Set::Default,
            unit: "ln ratio",
            formula: "as `synthbuster8` with (mH/16, nW/16), the harmonics that it lacks (m or n odd, n = 0..8), \
                      ln(Σ_c |A_c(m,n)| / (Σ_c A_c(0,0) + 0.003) + 0.001), c over R, G, B",
            source: SOURCE,
        }
    }

    fn columns(&self) -> Vec<String> {
        odd_half_plane().iter().map(|(m, n)| format!("m{m}_n{n}")).collect()
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let channels = &planes.cross_difference().harmonics;
        let sum = |frequency| channels.iter().map(|channel| at(channel, frequency)).sum::<f64>();
        let mean = sum((0, 0)) + 3.0 * FLOOR;
        for (out, frequency) in out.iter_mut().zip(odd_half_plane()) {
            *out = (sum(frequency) / mean + FLOOR).ln() as f32;
        }
    }
}
