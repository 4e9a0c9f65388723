//! What JPEG's quantisation would do to an image, without an encoder: in the domain of its block DCT.

#![allow(clippy::needless_range_loop)] // a loop over lanes indexes several arrays at once
#![allow(clippy::inline_always)] // meant to be inlined into functions that are compiled per instruction set

use multiversion::multiversion;

use crate::image::Plane;
use crate::transform::dct::{self, Blocks, LANES};

/// Luma table of ITU-T T.81, Annex K.1, row after row: what libjpeg scales.
const LUMA: [u16; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
];

/// Steps of an 8×8 quantisation, index `8 * v + u`, v the vertical frequency.
pub type Table = [u16; 64];

/// The luma table that libjpeg uses at `quality`, 1 to 100.
pub fn ijg_luma_table(quality: u8) -> Table {
    let quality = u16::from(quality.clamp(1, 100));
    let scale = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
    LUMA.map(|step| ((step * scale + 50) / 100).clamp(1, 255))
}

/// Mean squared error per 8×8 block, in squared grey levels, of quantising `luma` with each of `tables`: one vector
/// per table, row of blocks after row of blocks, of which only every `every`-th is looked at, from the first; trailing
/// partial blocks are dropped.
///
/// Each block loses 128, is transformed by the orthonormal DCT-II, and each coefficient is rounded to the nearest
/// multiple of its step. By Parseval the error is that of the decoded samples before they are rounded and clipped.
pub fn block_errors(luma: &Plane<u8>, tables: &[Table], every: usize) -> Vec<Vec<f32>> {
    let steps: Vec<Steps> = tables.iter().map(Steps::of).collect();
    let across = luma.width / 8;
    let mut errors = vec![vec![0.0; across * (luma.height / 8).div_ceil(every)]; tables.len()];
    for (y, strip) in luma.data.chunks_exact(8 * luma.width).step_by(every).enumerate() {
        strip_errors(strip, luma.width, &steps, y * across, &mut errors);
    }
    errors
}

/// A table, ready to use.
struct Steps {
    step: [f32; 64],
    /// From an output of [`dct::forward`] to coefficients in steps.
    scale: [f32; 64],
}

impl Steps {
    fn of(table: &Table) -> Self {
        let step = table.map(f32::from);
        let mut scale = dct::SCALE;
        for (scale, step) in scale.iter_mut().zip(step) {
            *scale /= step;
        }
        Self { step, scale }
    }
}

#[multiversion(targets = "simd")]
fn strip_errors(strip: &[u8], width: usize, steps: &[Steps], first: usize, errors: &mut [Vec<f32>]) {
    let across = width / 8;
    let mut blocks: Blocks = [[0.0; LANES]; 64];
    for left in (0..across).step_by(LANES) {
        let used = LANES.min(across - left);
        for y in 0..8 {
            let row = strip[y * width + 8 * left..][..8 * used].as_chunks::<8>().0;
            for (lane, samples) in row.iter().enumerate() {
                for x in 0..8 {
                    blocks[8 * y + x][lane] = f32::from(samples[x]) - 128.0;
                }
            }
        }
        dct::forward(&mut blocks);
        for (steps, errors) in steps.iter().zip(errors.iter_mut()) {
            let mut sum = [0.0_f32; LANES];
            for k in 0..64 {
                for lane in 0..LANES {
                    let c = blocks[k][lane] * steps.scale[k];
                    let error = (c - nearest(c)) * steps.step[k];
                    sum[lane] += error * error;
                }
            }
            for (error, sum) in errors[first + left..][..used].iter_mut().zip(sum) {
                *error = sum / 64.0;
            }
        }
    }
}

/// The nearest integer of |x| < 2²²; a rounding instruction only where there is one.
#[inline(always)]
fn nearest(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    (x + ROUND) - ROUND
}
