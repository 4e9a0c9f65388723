//! Steps between neighbours, folded modulo 8: the 8×8 grid of JPEG, and the periods 2, 4, 8 of up-samplers.

use multiversion::multiversion;

use super::{About, Feature, Set};
use crate::image::{Plane, Planes};

/// The family `grid`.
pub(super) struct Family;

const PERIOD: usize = 8;
/// In grey levels.
const FLOOR: f64 = 0.01;

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "grid",
            set: Set::Default,
            unit: "ln ratio; ratio",
            formula: "s(p): mean |Y(x+1) - Y(x)| over x mod 8 = p, along rows (across) and along columns (down), plus 0.01; \
                      block = ln(s(7) / mean of s(0..6)); largest = ln(max s / mean s); h1 … h4 = |Σ_p s(p) exp(-2πi k p / \
                      8)| / Σ_p s(p), k = 1..4",
            source: "Fan and de Queiroz, Identification of bitmap compression history, 2003 (blockiness); harmonics: periods \
                     of up-sampling by 2, 4, 8",
        }
    }

    fn columns(&self) -> Vec<String> {
        let names = ["block", "largest", "h1", "h2", "h3", "h4"];
        ["across", "down"].iter().flat_map(|axis| names.map(|name| format!("{axis}_{name}"))).collect()
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let (across, down) = steps(planes.luma8());
        let half = out.len() / 2;
        fill(across, &mut out[..half]);
        fill(down, &mut out[half..]);
    }
}

/// Mean step at each phase, across and down.
fn steps(luma: &Plane<u8>) -> ([f64; PERIOD], [f64; PERIOD]) {
    let (width, height) = (luma.width, luma.height);
    let mut across = Across::new();
    let mut down = vec![0_u64; height - 1];
    for y in 0..height {
        let row = luma.row(y);
        across.add(row);
        if y + 1 < height {
            down[y] = distance(row, luma.row(y + 1));
        }
    }
    across.empty();
    let across = std::array::from_fn(|p| {
        let places = (width - 1 - p).div_ceil(PERIOD) * height;
        across.sums[p] as f64 / places as f64 + FLOOR
    });
    (across, fold(down.iter().map(|&sum| sum as f64 / width as f64)))
}

fn fold(values: impl Iterator<Item = f64>) -> [f64; PERIOD] {
    let mut sums = [(0.0, 0.0); PERIOD];
    for (x, value) in values.enumerate() {
        sums[x % PERIOD].0 += value;
        sums[x % PERIOD].1 += 1.0;
    }
    sums.map(|(sum, count)| sum / count + FLOOR)
}

/// Pixels that are compared at once.
const LANES: usize = 64;

/// Σ of steps along rows at each phase.
struct Across {
    sums: [u64; PERIOD],
    /// Lane l is at phase l mod 8.
    lanes: [u16; LANES],
    /// Steps added to a lane, at most, since the lanes were emptied.
    pending: usize,
}

impl Across {
    /// Steps of at most 255 that stay inside 16 bits.
    const FULL: usize = 256;

    fn new() -> Self {
        Self { sums: [0; PERIOD], lanes: [0; LANES], pending: 0 }
    }

    fn add(&mut self, row: &[u8]) {
        let n = row.len() - 1;
        for start in (0..n).step_by(Self::FULL * LANES) {
            let end = (start + Self::FULL * LANES).min(n);
            let steps = (end - start).div_ceil(LANES);
            if self.pending + steps > Self::FULL {
                self.empty();
            }
            self.pending += steps;
            add_steps(&row[start..end], &row[start + 1..=end], &mut self.lanes);
        }
    }

    fn empty(&mut self) {
        for (lane, sum) in self.lanes.iter_mut().enumerate() {
            self.sums[lane % PERIOD] += u64::from(std::mem::take(sum));
        }
        self.pending = 0;
    }
}

#[multiversion(targets = "simd")]
fn add_steps(here: &[u8], right: &[u8], lanes: &mut [u16; LANES]) {
    let ((chunks, rest), (right, right_rest)) = (here.as_chunks::<LANES>(), right.as_chunks::<LANES>());
    for (a, b) in chunks.iter().zip(right) {
        for l in 0..LANES {
            lanes[l] += u16::from(a[l].abs_diff(b[l]));
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(rest).zip(right_rest) {
        *lane += u16::from(a.abs_diff(*b));
    }
}

#[multiversion(targets = "simd")]
fn distance(a: &[u8], b: &[u8]) -> u64 {
    a.chunks(4096)
        .zip(b.chunks(4096))
        .map(|(a, b)| u64::from(a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>()))
        .sum()
}

fn fill(s: [f64; PERIOD], out: &mut [f32]) {
    let total: f64 = s.iter().sum();
    let others = s[..PERIOD - 1].iter().sum::<f64>() / (PERIOD - 1) as f64;
    out[0] = (s[PERIOD - 1] / others).ln() as f32;
    out[1] = (s.into_iter().fold(0.0, f64::max) * PERIOD as f64 / total).ln() as f32;
    for (k, out) in (1..=4).zip(&mut out[2..]) {
        let (mut re, mut im) = (0.0, 0.0);
        for (p, value) in s.iter().enumerate() {
            let (sin, cos) = (std::f64::consts::TAU * ((k * p) % PERIOD) as f64 / PERIOD as f64).sin_cos();
            re += value * cos;
            im += value * sin;
        }
        *out = (re.hypot(im) / total) as f32;
    }
}
