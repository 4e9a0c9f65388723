//! Lengths with a large prime factor: the transform as a convolution of a length without.
//!
//! With c(n) = exp(-πi n² / N), X(k) = c(k) Σ x(n) c(n) / c(k - n): a convolution, done by transforms of the least length
//! from 2 N - 1 on that has the factors 2, 3, 5 and 7 only.

use std::rc::Rc;

use multiversion::multiversion;
use rustfft::FftPlanner;
use rustfft::num_complex::Complex64;

use super::butterfly::Root;
use super::passes::{Line, SIGNALS};
use super::plan::{Plan, plan};

pub(super) struct Bluestein {
    inner: Rc<Plan>,
    /// c(n).
    chirp: Vec<Root>,
    /// The transform of 1 / c, over the inner length.
    kernel: Vec<Root>,
}

impl Bluestein {
    pub(super) fn new(len: usize) -> Self {
        let inner = (2 * len - 1..=4 * len).find(|&n| has_small_factors(n)).expect("there is a power of two");
        let angle = |n: usize| {
            // n² modulo 2 N: the angle of a large number has no digits left.
            let square = (n as u128 * n as u128 % (2 * len as u128)) as f64;
            -std::f64::consts::PI * square / len as f64
        };
        let mut kernel = vec![Complex64::default(); inner];
        for n in 0..len {
            let value = Complex64::cis(-angle(n)) / inner as f64;
            kernel[n] = value;
            kernel[(inner - n) % inner] = value;
        }
        FftPlanner::new().plan_fft_forward(inner).process(&mut kernel);
        let single = |c: Complex64| [c.re as f32, c.im as f32];
        Self {
            inner: plan(inner),
            chirp: (0..len).map(|n| single(Complex64::cis(angle(n)))).collect(),
            kernel: kernel.into_iter().map(single).collect(),
        }
    }

    /// Lines that [`Bluestein::transform`] needs.
    pub(super) fn spare(&self) -> usize {
        2 * self.inner.lines()
    }

    /// Transforms `lines`, elements and frequencies in their natural order.
    pub(super) fn transform(&self, lines: &mut [Line], spare: &mut [Line]) {
        let inner = &self.inner;
        let (a, b) = spare.split_at_mut(inner.lines());
        a.fill(Line::ZERO);
        for (n, (line, &c)) in lines.iter().zip(&self.chirp).enumerate() {
            multiply(line, c, &mut a[inner.slot(n)]);
        }
        inner.transform(a, &mut []);
        for (k, &factor) in self.kernel.iter().enumerate() {
            // With the parts exchanged on both sides the transform is the inverse one.
            let line = &mut b[inner.slot(k)];
            multiply(&a[inner.place(k)], factor, line);
            std::mem::swap(&mut line.re, &mut line.im);
        }
        inner.transform(b, &mut []);
        for (k, (line, &c)) in lines.iter_mut().zip(&self.chirp).enumerate() {
            let Line { re, im } = b[inner.place(k)];
            multiply(&Line { re: im, im: re }, c, line);
        }
    }
}

fn has_small_factors(mut n: usize) -> bool {
    for prime in [2, 3, 5, 7] {
        while n.is_multiple_of(prime) {
            n /= prime;
        }
    }
    n == 1
}

#[multiversion(targets = "simd")]
fn multiply(line: &Line, factor: Root, out: &mut Line) {
    for s in 0..SIGNALS {
        out.re[s] = line.re[s] * factor[0] - line.im[s] * factor[1];
        out.im[s] = line.re[s] * factor[1] + line.im[s] * factor[0];
    }
}
