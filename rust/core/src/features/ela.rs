//! Error level analysis: how much each block would lose in one more compression, and how unevenly.

use super::sums::POWER_FLOOR;
use super::{About, Feature, Set};
use crate::image::Planes;
use crate::transform::quantisation::{block_errors, ijg_luma_table};

/// Error per block at two qualities, and its spread.
pub(super) struct Family;

const QUALITIES: [u8; 2] = [90, 95];
const COLUMNS: [&str; 6] = ["mean", "deviation", "log_mean", "log_deviation", "log_p10", "log_p90"];

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "ela",
            set: Set::Costly,
            unit: "squared grey levels (mean, deviation); ln squared grey levels (log_*)",
            formula: "m_b = mean squared error of 8x8 block b of luma when its orthonormal DCT, less 128, is quantised \
                      with libjpeg's luma table at quality 90 or 95 (before rounding and clipping; no chroma); mean, \
                      deviation over blocks of m_b; the same and the 10th and 90th percentile of ln(m_b + 0.01), \
                      percentile p being the floor(p (n - 1))-th smallest",
            source: "Krawetz, A picture's worth, 2007 (squared error per block in place of absolute error per pixel)",
        }
    }

    fn columns(&self) -> Vec<String> {
        QUALITIES.iter().flat_map(|q| COLUMNS.map(|column| format!("{column}_{q}"))).collect()
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let errors = block_errors(planes.luma8(), &QUALITIES.map(ijg_luma_table), 1);
        for (mut errors, out) in errors.into_iter().zip(out.chunks_exact_mut(COLUMNS.len())) {
            let (mean, deviation) = mean_and_deviation(&errors);
            out[0] = mean;
            out[1] = deviation;
            for error in &mut errors {
                *error = (*error + POWER_FLOOR as f32).ln();
            }
            let (mean, deviation) = mean_and_deviation(&errors);
            out[2] = mean;
            out[3] = deviation;
            out[4] = percentile(&mut errors, 10);
            out[5] = percentile(&mut errors, 90);
        }
    }
}

fn mean_and_deviation(values: &[f32]) -> (f32, f32) {
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let square = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    (mean as f32, square.sqrt() as f32)
}

fn percentile(values: &mut [f32], percent: usize) -> f32 {
    let rank = (values.len() - 1) * percent / 100;
    *values.select_nth_unstable_by(rank, f32::total_cmp).1
}
