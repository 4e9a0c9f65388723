//! JPEG ghosts: at which quality a second compression would cost least, which tells of a first one.

use super::sums::POWER_FLOOR;
use super::{About, Feature, Set};
use crate::image::Planes;
use crate::transform::quantisation::{block_errors, ijg_luma_table};

/// Errors of quantising at a range of qualities, and their local minima.
pub(super) struct Family;

const QUALITIES: [u8; 24] =
    [30, 40, 50, 60, 65, 70, 75, 78, 80, 82, 84, 85, 86, 88, 90, 91, 92, 93, 94, 95, 96, 97, 98, 100];

/// Every second row of blocks is looked at: the mean of so many blocks changes little.
const STRIP_STEP: usize = 2;

/// A dip of the logarithm that is not noise.
const DIP: f64 = 0.05;

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "ghost",
            set: Set::Costly,
            unit: "share of the sum; ln squared grey levels; IJG quality; ln ratio; count",
            formula: "D(q) = mean over the 8x8 blocks of every second row of blocks, from the first, of the squared \
                      error of quantising the orthonormal DCT of luma - 128 with libjpeg's luma table at quality q (by Parseval E(y - JPEG_q(y))² before rounding and \
                      clipping; no chroma); share_q = D(q) / sum D; level = ln(mean D + 0.01); depth at an inner q = \
                      the line through its two neighbours minus ln(D(q) + 0.01); dip_depth the largest depth, \
                      dip_quality its q (0 where no depth is over 0.05), dips the number over 0.05",
            source: "Farid, Exposing digital forgeries from JPEG ghosts, IEEE TIFS 2009, eq. 2",
        }
    }

    fn columns(&self) -> Vec<String> {
        let shares = QUALITIES.iter().map(|q| format!("share_{q}"));
        shares.chain(["level", "dip_quality", "dip_depth", "dips"].map(String::from)).collect()
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let tables = QUALITIES.map(ijg_luma_table);
        let errors = block_errors(planes.luma8(), &tables, STRIP_STEP);
        let mut mean = [0.0; QUALITIES.len()];
        for (mean, errors) in mean.iter_mut().zip(&errors) {
            *mean = errors.iter().map(|&e| f64::from(e)).sum::<f64>() / errors.len() as f64;
        }
        let total = mean.iter().sum::<f64>();
        for (share, mean) in out.iter_mut().zip(mean) {
            *share = if total > 0.0 { (mean / total) as f32 } else { 0.0 };
        }
        let [quality, depth, count] = dips(&mean);
        let level = (total / mean.len() as f64 + POWER_FLOOR).ln();
        out[QUALITIES.len()..].copy_from_slice(&[level as f32, quality, depth, count]);
    }
}

/// Quality and depth of the deepest dip, and how many dips there are.
fn dips(mean: &[f64; QUALITIES.len()]) -> [f32; 3] {
    let log = mean.map(|d| (d + POWER_FLOOR).ln());
    let (mut quality, mut deepest, mut count) = (0.0, f64::NEG_INFINITY, 0.0);
    for i in 1..QUALITIES.len() - 1 {
        let [below, here, above] = [i - 1, i, i + 1].map(|j| f64::from(QUALITIES[j]));
        let line = log[i - 1] + (log[i + 1] - log[i - 1]) * (here - below) / (above - below);
        let depth = line - log[i];
        if depth > DIP {
            count += 1.0;
            if depth > deepest {
                quality = here;
            }
        }
        deepest = deepest.max(depth);
    }
    [quality as f32, deepest as f32, count]
}
