//! The distribution functions that intervals need: normal and Student's t.

use std::f64::consts::{PI, SQRT_2};

/// Φ(x), to 1e-14.
pub(super) fn normal_cdf(x: f64) -> f64 {
    0.5 * erfc(-x / SQRT_2)
}

/// Φ⁻¹(p) for p in (0, 1).
pub(super) fn normal_quantile(p: f64) -> f64 {
    invert(normal_cdf, p, 40.0)
}

/// P(T ≤ x) for Student's t with `df` > 0 degrees of freedom (Abramowitz and Stegun 26.7.1).
pub(super) fn student_cdf(x: f64, df: f64) -> f64 {
    let tail = 0.5 * incomplete_beta(0.5 * df, 0.5, df / (df + x * x));
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// The quantile of Student's t.
pub(super) fn student_quantile(p: f64, df: f64) -> f64 {
    invert(|x| student_cdf(x, df), p, 1e9)
}

/// The root of `cdf(x) = p` in [-limit, limit], by bisection to the last bits.
fn invert(cdf: impl Fn(f64) -> f64, p: f64, limit: f64) -> f64 {
    let (mut low, mut high) = (-limit, limit);
    for _ in 0..120 {
        let middle = 0.5 * (low + high);
        if cdf(middle) < p { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// erfc: its Taylor series where it converges fast, else its continued fraction (A&S 7.1.6, 7.1.14).
fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    let scale = (-x * x).exp() / PI.sqrt();
    if x < 2.5 {
        let (mut term, mut sum, mut k) = (2.0 * x, 2.0 * x, 1.0);
        while term > 1e-17 * sum {
            term *= 2.0 * x * x / (2.0 * k + 1.0);
            sum += term;
            k += 1.0;
        }
        return 1.0 - scale * sum;
    }
    let fraction = (1..=60).rev().fold(x, |below, k| x + 0.5 * f64::from(k) / below);
    scale / fraction
}

/// The regularised incomplete beta function, by Lentz's continued fraction (Numerical Recipes 6.4).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp() / a;
    let away = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let (mut c, mut d) = (1.0, 1.0 / away(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for m in 1..10_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away(1.0 + even * d);
        c = away(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away(1.0 + odd * d);
        c = away(1.0 + odd / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    front * fraction
}

/// ln Γ(x) for x > 0: Lanczos, g = 7 and 9 terms.
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let series = (1_u32..).zip(TERMS).fold(0.999_999_999_999_809_9, |sum, (k, term)| sum + term / (x + f64::from(k)));
    let t = x + 7.5;
    0.5 * (2.0 * PI).ln() + (x + 0.5) * t.ln() - t + series.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, expected: f64) {
        assert!((got - expected).abs() <= 1e-10 * expected.abs().max(1e-3), "{got} {expected}");
    }

    #[test]
    fn tables_are_met() {
        // scipy.stats.norm and scipy.stats.t, version 1.17.
        close(normal_cdf(-1.959_963_984_540_054), 0.025);
        close(normal_cdf(-4.0), 3.167_124_183_311_992e-5);
        close(normal_quantile(0.975), 1.959_963_984_540_054);
        close(student_quantile(0.975, 6.0), 2.446_911_851_144_969);
        close(student_quantile(0.975, 1.0), 12.706_204_736_174_694);
        close(student_quantile(0.975, 1183.0), 1.961_971_304_015_717_2);
        close(student_cdf(-3.0, 5.0), 0.015_049_623_948_731_284);
        close(student_cdf(2.0, 200_000.0), 0.977_249_193_163_136_5);
    }
}
