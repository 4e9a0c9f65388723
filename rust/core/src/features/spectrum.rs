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

fn radial(power: &Power, out: &mut [f32]) {
    let mut sums = [(0.0, 0.0); RINGS + 2];
    for (k, &p) in power.iter().enumerate() {
        let radius = signed(k / SIDE).hypot(signed(k % SIDE)).round() as usize;
        let ring = &mut sums[radius.min(RINGS + 1)];
        ring.0 += p;
        ring.1 += 1.0;
    }
    let logs: Vec<f64> = sums.iter().skip(1).map(|(sum, count)| (sum / count + FLOOR).ln()).collect();
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
        ["luma", "residual"]
            .iter()
            .flat_map(|plane| (0..ANGLES).map(move |bin| format!("{plane}_a{bin:02}")))
            .collect()
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        angular(planes.luma_power(), &mut out[..ANGLES]);
        angular(planes.residual_power(), &mut out[ANGLES..]);
    }
}

fn angular(power: &Power, out: &mut [f32]) {
    let mut sums = [0.0; ANGLES];
    for (k, &p) in power.iter().enumerate() {
        let (fy, fx) = (signed(k / SIDE), signed(k % SIDE));
        if fy.hypot(fx) > 0.1 * SIDE as f64 {
            let bin = (ANGLES as f64 * fy.atan2(fx) / std::f64::consts::PI).round() as isize;
            sums[bin.rem_euclid(ANGLES as isize) as usize] += p + FLOOR;
        }
    }
    let total: f64 = sums.iter().sum();
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = (sum / total) as f32;
    }
}
