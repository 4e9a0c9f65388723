//! Sums over signed samples that several families turn into moments.

use multiversion::multiversion;

const LANES: usize = 16;

/// Sums over samples: how many, Σ|v|, Σv², Σv⁴ and how many are zero.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moments {
    pub(crate) count: f64,
    pub(crate) absolute: f64,
    pub(crate) square: f64,
    pub(crate) fourth: f64,
    pub(crate) zeros: f64,
}

/// The columns of [`Moments::fill`].
pub(crate) const MOMENTS: [&str; 5] = ["mean_abs", "log_power", "kurtosis", "shape", "zeros"];

/// What [`Moments::fill`] computes, for the formula of a family.
pub(crate) const MOMENTS_FORMULA: &str = "mean_abs = E|v|; log_power = ln(E v² + 0.01); kurtosis = E v⁴ / (E v² + 0.01)²; \
     shape = (E|v|)² / (E v² + 0.01); zeros = share of v = 0";

impl Moments {
    /// Adds `values`, one row at a time (single-precision lanes are emptied at the end of each call).
    pub(crate) fn add(&mut self, values: &[i16]) {
        let sums = sums(values);
        self.count += values.len() as f64;
        self.absolute += sums[0];
        self.square += sums[1];
        self.fourth += sums[2];
        self.zeros += sums[3];
    }

    /// Writes the five values of [`MOMENTS`]; samples are in units of `step`.
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

/// Keeps logarithms and ratios defined on constant images, in squared grey levels: an eighth of what rounding to
/// integers adds.
pub(crate) const POWER_FLOOR: f64 = 0.01;

#[multiversion(targets = "simd")]
fn sums(values: &[i16]) -> [f64; 4] {
    let mut absolute = [0_i32; LANES];
    let mut square = [0.0_f32; LANES];
    let mut fourth = [0.0_f32; LANES];
    let mut zeros = [0_i32; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for l in 0..LANES {
            let v = i32::from(chunk[l]);
            let s = (v * v) as f32;
            absolute[l] += v.abs();
            zeros[l] += i32::from(v == 0);
            square[l] += s;
            fourth[l] += s * s;
        }
    }
    for (l, &v) in rest.iter().enumerate() {
        let v = i32::from(v);
        let s = (v * v) as f32;
        absolute[l] += v.abs();
        zeros[l] += i32::from(v == 0);
        square[l] += s;
        fourth[l] += s * s;
    }
    let total = |lanes: &[f32; LANES]| lanes.iter().map(|&v| f64::from(v)).sum::<f64>();
    let whole = |lanes: &[i32; LANES]| lanes.iter().map(|&v| f64::from(v)).sum::<f64>();
    [whole(&absolute), total(&square), total(&fourth), whole(&zeros)]
}

/// Σ a b over two rows, exact.
#[multiversion(targets = "simd")]
pub(crate) fn dot(a: &[i16], b: &[i16]) -> i64 {
    let mut total = 0_i64;
    // 2048 products of 2^19 at most stay inside 32 bits.
    for (a, b) in a.chunks(2048).zip(b.chunks(2048)) {
        total += i64::from(a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum::<i32>());
    }
    total
}
