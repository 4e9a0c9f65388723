//! Logarithm and exponential in single precision, written so that loops over them vectorise: the standard library's
//! are calls, one value at a time.
//!
//! Polynomials of Cephes (Moshier, 1984 to 1992); relative error below 2e-7 in the ranges stated.

#![allow(clippy::inline_always)] // meant to be inlined into functions that are compiled per instruction set

use std::f32::consts::LOG2_E;

/// ln 2 in two parts: the first has so few bits that its products with small integers are exact.
const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);

/// Natural logarithm of a positive, finite, normal `x`.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    // x = m 2^e, with m from sqrt(1/2) to sqrt(2).
    let bits = x.to_bits().wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits());
    let e = ((bits as i32) >> 23) as f32;
    let m = f32::from_bits((bits & 0x007F_FFFF).wrapping_add(std::f32::consts::FRAC_1_SQRT_2.to_bits()));
    let z = m - 1.0;
    let mut p = 7.037_683_6e-2_f32;
    for c in [
        -1.151_461e-1,
        1.167_699_9e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ] {
        p = p * z + c;
    }
    let square = z * z;
    (p * z * square + e * LN_2.1 - 0.5 * square) + z + e * LN_2.0
}

/// `exp(x)` for `x` from -87 to 87; below and above, the value at the end of that range.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// Adding and taking away 1.5 · 2²³ rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 87.0);
    let n = (x * LOG2_E + ROUND) - ROUND;
    let r = x - n * LN_2.0 - n * LN_2.1;
    let mut p = 1.987_569_1e-4_f32;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5] {
        p = p * r + c;
    }
    let mantissa = p * r * r + r + 1.0;
    // n is an integer of at most 8 bits: its low mantissa bits, after adding ROUND, are its two's complement.
    let exponent = (n + ROUND).to_bits() << 23;
    f32::from_bits(mantissa.to_bits().wrapping_add(exponent))
}

#[cfg(test)]
mod tests {
    use super::{exp, ln};

    #[test]
    fn agree_with_the_standard_library() {
        for i in -8_600..8_600_i32 {
            let x = i as f32 / 100.0;
            let expected = f64::from(x).exp();
            assert!((f64::from(exp(x)) / expected - 1.0).abs() < 2e-7, "exp({x})");
            let y = expected as f32;
            let expected = f64::from(y).ln();
            assert!((f64::from(ln(y)) - expected).abs() <= 2e-7 * expected.abs().max(1.0), "ln({y})");
        }
    }
}
