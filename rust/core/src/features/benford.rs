//! First digits of block-DCT coefficients against Benford's law.

use std::sync::LazyLock;

use super::block_dct::MAGNITUDES;
use super::{About, Feature, Set};
use crate::image::Planes;

/// The family `benford`.
pub(super) struct Family;

const BASES: [usize; 4] = [10, 20, 40, 60];
const BANDS: [&str; 2] = ["low", "mid"];
const DIVERGENCES: [&str; 3] = ["js", "renyi", "tsallis"];
const ALPHA: f64 = 0.3;
/// Added to each digit's count, so that no digit has probability 0.
const PSEUDOCOUNT: f64 = 0.5;

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "benford",
            set: Set::Default,
            unit: "nats; share",
            formula: "n = floor(|c| + 0.47) of the 8x8 DCT of luma, n >= 1, zigzag 1-9 (low) and 10-35 (mid); p(d): share \
                      of first digit d in base b, each count + 0.5; q(d) = ln(1 + 1/d) / ln b; js = Jensen-Shannon \
                      divergence, renyi = ln Σ p^a q^(1-a) / (a - 1), tsallis = (Σ p^a q^(1-a) - 1) / (a - 1), a = 0.3, \
                      for b = 10, 20, 40, 60; p(1) … p(9) for b = 10; empty = share of n = 0",
            source: "Bonettini et al., On the use of Benford's law to detect GAN-generated images, 2020 \
                     (arXiv 2004.07682), without its fit: q is the plain law",
        }
    }

    fn columns(&self) -> Vec<String> {
        let mut columns = Vec::new();
        for band in BANDS {
            for base in BASES {
                columns.extend(DIVERGENCES.map(|name| format!("{band}_{name}{base}")));
            }
            columns.extend((1..10).map(|digit| format!("{band}_p{digit}")));
            columns.push(format!("{band}_empty"));
        }
        columns
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let magnitudes = &planes.block_dct().magnitudes;
        let mut values = Vec::with_capacity(out.len());
        for counts in magnitudes {
            let mut below = vec![0.0; MAGNITUDES + 1];
            for (magnitude, &count) in counts.iter().enumerate().skip(1) {
                below[magnitude + 1] = below[magnitude] + f64::from(count);
            }
            for (base, law) in BASES.into_iter().zip(LAWS.iter()) {
                values.extend(divergences(&digit_shares(&below, base), law));
            }
            values.extend(digit_shares(&below, 10));
            let empty = f64::from(counts[0]);
            values.push(empty / (empty + below[MAGNITUDES]));
        }
        for (out, value) in out.iter_mut().zip(values) {
            *out = value as f32;
        }
    }
}

/// Shares of the first digits 1 … base - 1; `below[n]` counts the magnitudes from 1 to n - 1.
fn digit_shares(below: &[f64], base: usize) -> Vec<f64> {
    let mut shares = vec![PSEUDOCOUNT; base - 1];
    let mut unit = 1;
    while unit < MAGNITUDES {
        for (i, share) in shares.iter_mut().enumerate() {
            let (from, to) = ((i + 1) * unit, (i + 2) * unit);
            *share += below[to.min(MAGNITUDES)] - below[from.min(MAGNITUDES)];
        }
        unit *= base;
    }
    let total: f64 = shares.iter().sum();
    for share in &mut shares {
        *share /= total;
    }
    shares
}

/// What the law has for one first digit.
struct Law {
    share: f64,
    /// q ln q.
    entropy: f64,
    /// q^(1 - a).
    power: f64,
}

/// The law of each of [`BASES`], digits 1 to base - 1.
static LAWS: LazyLock<[Vec<Law>; BASES.len()]> = LazyLock::new(|| {
    BASES.map(|base| {
        let law = |digit: usize| {
            let share = (1.0 / digit as f64).ln_1p() / (base as f64).ln();
            Law { share, entropy: share * share.ln(), power: share.powf(1.0 - ALPHA) }
        };
        (1..base).map(law).collect()
    })
});

/// Jensen-Shannon, Rényi and Tsallis divergence of `shares` from the law.
fn divergences(shares: &[f64], law: &[Law]) -> [f64; 3] {
    let (mut js, mut power) = (0.0, 0.0);
    for (&p, q) in shares.iter().zip(law) {
        let (ln_p, middle) = (p.ln(), f64::midpoint(p, q.share));
        js += 0.5 * (p * ln_p + q.entropy) - middle * middle.ln();
        power += (ALPHA * ln_p).exp() * q.power;
    }
    [js, power.ln() / (ALPHA - 1.0), (power - 1.0) / (ALPHA - 1.0)]
}
