//! The 2-D transform of a real plane and back, sides of any length.

use std::cell::RefCell;

use realfft::RealFftPlanner;
use rustfft::FftPlanner;
use rustfft::num_complex::Complex32;

/// Keeps the plans, with their twiddle factors, of the lengths in use.
struct Plans {
    real: RealFftPlanner<f32>,
    complex: FftPlanner<f32>,
}

thread_local! {
    static PLANS: RefCell<Plans> = RefCell::new(Plans { real: RealFftPlanner::new(), complex: FftPlanner::new() });
}

/// Half of the spectrum of a real plane: the other half is its conjugate.
#[derive(Debug, Clone)]
pub struct Spectrum {
    /// Width of the plane in pixels; horizontal frequencies are 0 to `width / 2`.
    pub width: usize,
    /// Height of the plane in pixels: the number of vertical frequencies.
    pub height: usize,
    /// `[u * height + v]`, u horizontal and v vertical, not normalised.
    pub data: Vec<Complex32>,
}

/// The transform of `plane`, rows of `width` values.
///
/// # Panics
/// Where `plane` is not whole rows.
pub fn forward(mut plane: Vec<f32>, width: usize) -> Spectrum {
    assert!(plane.len().is_multiple_of(width), "a plane is whole rows");
    let (height, across) = (plane.len() / width, width / 2 + 1);
    let (horizontal, vertical) =
        PLANS.with_borrow_mut(|plans| (plans.real.plan_fft_forward(width), plans.complex.plan_fft_forward(height)));
    let mut rows = vec![Complex32::default(); across * height];
    let mut scratch = horizontal.make_scratch_vec();
    for (row, spectrum) in plane.chunks_exact_mut(width).zip(rows.chunks_exact_mut(across)) {
        horizontal.process_with_scratch(row, spectrum, &mut scratch).expect("the buffers have the plan's lengths");
    }
    let mut data = transposed(&rows, across);
    vertical.process(&mut data);
    Spectrum { width, height, data }
}

/// The plane that `spectrum` is the transform of.
///
/// # Panics
/// Where the fields of `spectrum` do not fit each other.
pub fn inverse(spectrum: Spectrum) -> Vec<f32> {
    let Spectrum { width, height, mut data } = spectrum;
    let across = width / 2 + 1;
    assert_eq!(data.len(), across * height, "half a spectrum of {width}x{height}");
    let (horizontal, vertical) =
        PLANS.with_borrow_mut(|plans| (plans.real.plan_fft_inverse(width), plans.complex.plan_fft_inverse(height)));
    vertical.process(&mut data);
    let mut rows = transposed(&data, height);
    let mut plane = vec![0.0; width * height];
    let mut scratch = horizontal.make_scratch_vec();
    for (spectrum, row) in rows.chunks_exact_mut(across).zip(plane.chunks_exact_mut(width)) {
        // Real but for rounding, since the other half is the conjugate.
        spectrum[0].im = 0.0;
        if width.is_multiple_of(2) {
            spectrum[across - 1].im = 0.0;
        }
        horizontal.process_with_scratch(spectrum, row, &mut scratch).expect("the buffers have the plan's lengths");
    }
    let scale = 1.0 / (width * height) as f32;
    for value in &mut plane {
        *value *= scale;
    }
    plane
}

/// The inverse transform, in place, of a full square spectrum `[u * side + v]` of a complex plane, not normalised:
/// the plane comes out as rows.
pub fn inverse_square(data: &mut Vec<Complex32>, side: usize) {
    let plan = PLANS.with_borrow_mut(|plans| plans.complex.plan_fft_inverse(side));
    plan.process(data);
    *data = transposed(data, side);
    plan.process(data);
}

/// Rows of `width` values as columns.
fn transposed(rows: &[Complex32], width: usize) -> Vec<Complex32> {
    /// Side of the squares that are moved one by one, so that both sides stay in the cache.
    const SQUARE: usize = 8;
    let height = rows.len() / width;
    let mut columns = vec![Complex32::default(); rows.len()];
    for top in (0..height).step_by(SQUARE) {
        for left in (0..width).step_by(SQUARE) {
            for x in left..width.min(left + SQUARE) {
                for y in top..height.min(top + SQUARE) {
                    columns[x * height + y] = rows[y * width + x];
                }
            }
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::{forward, inverse};

    #[test]
    fn inverse_undoes_forward() {
        for (width, height) in [(64, 64), (67, 70), (128, 65)] {
            let plane: Vec<f32> = (0..width * height).map(|i| ((i * i) % 251) as f32 - 125.0).collect();
            let again = inverse(forward(plane.clone(), width));
            let worst = plane.iter().zip(&again).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-3, "{width}x{height}: {worst}");
        }
    }

    #[test]
    fn a_wave_is_one_frequency() {
        let (width, height) = (66, 64);
        let wave = |i: usize| (std::f32::consts::TAU * (3 * (i % width)) as f32 / width as f32).cos();
        let spectrum = forward((0..width * height).map(wave).collect(), width);
        let peak = spectrum.data[3 * height].re;
        assert!((peak - (width * height / 2) as f32).abs() < 0.01, "{peak}");
        let rest: f32 = spectrum.data.iter().map(|c| c.norm()).sum::<f32>() - peak;
        assert!(rest < 0.1, "{rest}");
    }
}
