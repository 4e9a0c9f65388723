//! Radial and angular power spectra of luma and of its residual.

use super::{About, Feature, Set};
use crate::image::Planes;
use crate::transform::fft::{Power, SIDE};

/// Added to power before logarithms, in squared grey levels: an eighth of what rounding to integers adds.
const FLOOR: f64 = 0.01;
const RINGS: usize = 32;
const ANGLES: usize = 16;

/// Signed frequency of index `k`, in cycles per 64 px.
fn signed(k: usize) -> f64 {
    if k < SIDE / 2 { k as f64 } else { k as f64 - SIDE as f64 }
}

/// Ring (0 to 33, 33 for the corners) and angle bin (16 below 0.1 cycles per pixel) of each frequency.
struct Tables {
    ring: [u8; SIDE * SIDE],
    angle: [u8; SIDE * SIDE],
    /// How many frequencies each bin has.
    ring_size: [u16; SIDE],
    angle_size: [u16; SIDE],
}

fn tables() -> &'static Tables {
    static TABLES: std::sync::LazyLock<Tables> = std::sync::LazyLock::new(|| {
        let frequency = |k: usize| (signed(k / SIDE), signed(k % SIDE));
        let ring = |k| {
            let (fy, fx) = frequency(k);
            fy.hypot(fx).round().min(RINGS as f64 + 1.0) as u8
        };
        let angle = |k| {
            let (fy, fx) = frequency(k);
            let bin = (ANGLES as f64 * fy.atan2(fx) / std::f64::consts::PI).round() as isize;
            let below = fy.hypot(fx) <= 0.1 * SIDE as f64;
            if below { ANGLES as u8 } else { bin.rem_euclid(ANGLES as isize) as u8 }
        };
        let (ring, angle) = (std::array::from_fn(ring), std::array::from_fn(angle));
        let sizes = |bins: &[u8; SIDE * SIDE]| {
            let mut sizes = [0; SIDE];
            for &bin in bins {
                sizes[usize::from(bin)] += 1;
            }
            sizes
        };
        Tables { ring_size: sizes(&ring), angle_size: sizes(&angle), ring, angle }
    });
    &TABLES
}

/// The family `radial`.
pub(super) struct Radial;

impl Feature for Radial {
    fn about(&self) -> About {
        About {
            name: "radial",
            set: Set::Default,
            unit: "ln squared grey levels",
            formula: "P: mean power over Hann-windowed 64x64 tiles that cover the plane, of luma and of luma minus its 3x3 \
                      median; L(r) = ln(mean of P over the ring round(64 f) = r + 0.01), r = 1..32, and the corners \
                      round(64 f) > 32; level = mean of L(1..32); columns: level, L(r) - level. Invariants: size of the \
                      image, its mean, mirroring and quarter turns where 64 divides both sides; contrast moves level only",
            source: "Corvi et al., Intriguing properties of synthetic images, 2023 (ring sums); Welch 1967 (tiles); \
                     Durall et al. 2019 (azimuthal average)",
        }
    }

    fn columns(&self) -> Vec<String> {
        ["luma", "residual"]
            .iter()
            .flat_map(|plane| {
                let rings = (1..=RINGS).map(move |r| format!("{plane}_r{r:02}"));
                std::iter::once(format!("{plane}_level"))
                    .chain(rings)
                    .chain(std::iter::once(format!("{plane}_corners")))
            })
            .collect()
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let half = out.len() / 2;
        radial(planes.luma_power(), &mut out[..half]);
        radial(planes.residual_power(), &mut out[half..]);
    }
}

/// Power summed by bin, bins below 64. Neighbours mostly share a bin: four sums take turns, so that none waits for the
/// addition before it.
fn sum_by_bin(power: &Power, bins: &[u8; SIDE * SIDE]) -> [f64; SIDE] {
    let mut sums = [[0.0; SIDE]; 4];
    for (power, bins) in power.as_chunks::<4>().0.iter().zip(bins.as_chunks::<4>().0) {
        for i in 0..4 {
            sums[i][usize::from(bins[i]) % SIDE] += power[i];
        }
    }
    std::array::from_fn(|bin| (sums[0][bin] + sums[1][bin]) + (sums[2][bin] + sums[3][bin]))
}

fn radial(power: &Power, out: &mut [f32]) {
    let Tables { ring, ring_size, .. } = tables();
    let sums = sum_by_bin(power, ring);
    let logs: Vec<f64> = (1..RINGS + 2).map(|r| (sums[r] / f64::from(ring_size[r]) + FLOOR).ln()).collect();
    let level = logs[..RINGS].iter().sum::<f64>() / RINGS as f64;
    out[0] = level as f32;
    for (out, log) in out[1..].iter_mut().zip(logs) {
        *out = (log - level) as f32;
    }
}

/// The family `angular`.
pub(super) struct Angular;

impl Feature for Angular {
    fn about(&self) -> About {
        About {
            name: "angular",
            set: Set::Default,
            unit: "share",
            formula: "P as in `radial`, frequencies with f > 0.1 cycles per px; bin round(16 atan2(fy, fx) / π) mod 16; \
                      columns: (sum of P + 0.01 n over the bin) over the same of all bins, n frequencies in it",
            source: "Corvi et al., Intriguing properties of synthetic images, 2023 (angular spectrum)",
        }
    }

    fn columns(&self) -> Vec<String> {
        ["luma", "residual"].iter().flat_map(|plane| (0..ANGLES).map(move |bin| format!("{plane}_a{bin:02}"))).collect()
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        angular(planes.luma_power(), &mut out[..ANGLES]);
        angular(planes.residual_power(), &mut out[ANGLES..]);
    }
}

fn angular(power: &Power, out: &mut [f32]) {
    let Tables { angle, angle_size, .. } = tables();
    let mut sums = sum_by_bin(power, angle);
    for (sum, &size) in sums.iter_mut().zip(angle_size) {
        *sum += f64::from(size) * FLOOR;
    }
    // The bin after the last holds what lies below 0.1 cycles per pixel.
    let total: f64 = sums[..ANGLES].iter().sum();
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = (sum / total) as f32;
    }
}
