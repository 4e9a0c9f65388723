//! Sums over signed samples that several families turn into moments.

use multiversion::multiversion;

use crate::transform::lanes::{LANES, blocks};

/// Sums over rows of samples: how many, Σ|v|, Σv², Σv⁴ and how many are zero.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moments {
    pub(crate) count: f64,
    pub(crate) absolute: f64,
    pub(crate) square: f64,
    pub(crate) fourth: f64,
    pub(crate) zeros: f64,
    lanes: Lanes,
    /// Blocks added to `lanes` since they were emptied.
    pending: usize,
}

#[derive(Debug, Clone)]
struct Lanes {
    absolute: [i32; LANES],
    zeros: [i32; LANES],
    square: [f32; LANES],
    fourth: [f32; LANES],
}

impl Default for Lanes {
    fn default() -> Self {
        Self { absolute: [0; LANES], zeros: [0; LANES], square: [0.0; LANES], fourth: [0.0; LANES] }
    }
}

/// The columns of [`Moments::fill`].
pub(crate) const MOMENTS: [&str; 5] = ["mean_abs", "log_power", "kurtosis", "shape", "zeros"];

/// Keeps logarithms and ratios defined on constant images, in squared grey levels: an eighth of what rounding to
/// integers adds.
pub(crate) const POWER_FLOOR: f64 = 0.01;

/// Blocks whose sums are kept in single precision before they join the double-precision sums.
const FLUSH: usize = 1024;

impl Moments {
    /// Adds `n` values that stand in `padded` among zeros; its length is a multiple of [`LANES`].
    pub(crate) fn add(&mut self, padded: &[i16], n: usize) {
        self.add_padded(padded);
        self.count += n as f64;
        self.zeros -= (padded.len() - n) as f64;
    }

    /// Adds values and the zeros around them, without their count.
    pub(crate) fn add_padded<T: Copy + Into<i32>>(&mut self, padded: &[T]) {
        add(padded, &mut self.lanes);
        self.pending += blocks(padded.len());
        if self.pending >= FLUSH {
            self.finish();
        }
    }

    /// Adds Σ|v|, Σv², Σv⁴ and the zeros of `n` values.
    pub(crate) fn add_sums(&mut self, [absolute, square, fourth, zeros]: [f64; 4], n: usize) {
        self.count += n as f64;
        self.absolute += absolute;
        self.square += square;
        self.fourth += fourth;
        self.zeros += zeros;
    }

    /// Empties the lanes; to be called before the sums are read.
    pub(crate) fn finish(&mut self) {
        let lanes = std::mem::take(&mut self.lanes);
        let total = |lanes: &[f32; LANES]| lanes.iter().map(|&v| f64::from(v)).sum::<f64>();
        let whole = |lanes: &[i32; LANES]| lanes.iter().map(|&v| f64::from(v)).sum::<f64>();
        self.absolute += whole(&lanes.absolute);
        self.zeros += whole(&lanes.zeros);
        self.square += total(&lanes.square);
        self.fourth += total(&lanes.fourth);
        self.pending = 0;
    }

    /// Writes the five values of [`MOMENTS`] of what was added and finished; samples are in units of `step`.
    pub(crate) fn fill(&self, step: f64, out: &mut [f32]) {
        let n = self.count.max(1.0);
        let (absolute, square) = (self.absolute / (n * step), self.square / (n * step * step));
        let fourth = self.fourth / (n * step.powi(4));
        out[0] = absolute as f32;
        out[1] = (square + POWER_FLOOR).ln() as f32;
        out[2] = (fourth / (square + POWER_FLOOR).powi(2)) as f32;
        out[3] = (absolute * absolute / (square + POWER_FLOOR)) as f32;
        out[4] = (self.zeros / n) as f32;
    }
}

#[multiversion(targets = "simd")]
fn add<T: Copy + Into<i32>>(row: &[T], lanes: &mut Lanes) {
    for block in row.as_chunks::<LANES>().0 {
        for l in 0..LANES {
            let v: i32 = block[l].into();
            lanes.absolute[l] += v.abs();
            lanes.zeros[l] += i32::from(v == 0);
            let square = (v * v) as f32;
            lanes.square[l] += square;
            lanes.fourth[l] += square * square;
        }
    }
}
