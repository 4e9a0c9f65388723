//! Short transforms of complex vectors, in registers.

use super::simd::Real;

/// A complex vector.
#[derive(Clone, Copy)]
pub(super) struct Complex<V> {
    pub(super) re: V,
    pub(super) im: V,
}

/// exp(-2πi k / n), as (re, im).
pub(super) type Root = [f32; 2];

impl<V: Real> Complex<V> {
    #[inline(always)]
    pub(super) fn zero() -> Self {
        Self { re: V::splat(0.0), im: V::splat(0.0) }
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Self { re: self.re.add(other.re), im: self.im.add(other.im) }
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        Self { re: self.re.sub(other.re), im: self.im.sub(other.im) }
    }

    /// `self - i other`.
    #[inline(always)]
    fn minus_i(self, other: Self) -> Self {
        Self { re: self.re.add(other.im), im: self.im.sub(other.re) }
    }

    /// `self + i other`.
    #[inline(always)]
    fn plus_i(self, other: Self) -> Self {
        Self { re: self.re.sub(other.im), im: self.im.add(other.re) }
    }

    #[inline(always)]
    pub(super) fn times(self, root: Root) -> Self {
        let (re, im) = (V::splat(root[0]), V::splat(root[1]));
        Self { re: self.re.mul_sub(re, self.im.mul(im)), im: self.im.mul_add(re, self.re.mul(im)) }
    }

    /// `self * factor + term`.
    #[inline(always)]
    fn scaled_plus(self, factor: V, term: Self) -> Self {
        Self { re: self.re.mul_add(factor, term.re), im: self.im.mul_add(factor, term.im) }
    }
}

/// The transform of `R` vectors; `roots` are the `R`-th roots of one, used where `R` is odd.
#[inline(always)]
pub(super) fn dft<const R: usize, V: Real>(x: [Complex<V>; R], roots: &[Root]) -> [Complex<V>; R] {
    let mut y = x;
    match R {
        1 => {}
        2 => (y[0], y[1]) = (x[0].plus(x[1]), x[0].minus(x[1])),
        4 => y.copy_from_slice(&dft4([x[0], x[1], x[2], x[3]])),
        8 => y.copy_from_slice(&dft8([x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]])),
        _ => odd(&x, roots, &mut y),
    }
    y
}

#[inline(always)]
fn dft4<V: Real>([a, b, c, d]: [Complex<V>; 4]) -> [Complex<V>; 4] {
    let (s, t) = (a.plus(c), a.minus(c));
    let (u, v) = (b.plus(d), b.minus(d));
    [s.plus(u), t.minus_i(v), s.minus(u), t.plus_i(v)]
}

#[inline(always)]
fn dft8<V: Real>(x: [Complex<V>; 8]) -> [Complex<V>; 8] {
    let [e0, e1, e2, e3] = dft4([x[0], x[2], x[4], x[6]]);
    let [o0, o1, o2, o3] = dft4([x[1], x[3], x[5], x[7]]);
    // The eighth roots are (1 - i) / √2 and (-1 - i) / √2; the product with 1 / √2 is part of the last sum.
    let (half, minus_half) = (V::splat(std::f32::consts::FRAC_1_SQRT_2), V::splat(-std::f32::consts::FRAC_1_SQRT_2));
    let o1 = o1.minus_i(o1);
    let o3 = o3.plus_i(o3);
    [
        e0.plus(o0),
        o1.scaled_plus(half, e1),
        e2.minus_i(o2),
        o3.scaled_plus(minus_half, e3),
        e0.minus(o0),
        o1.scaled_plus(minus_half, e1),
        e2.plus_i(o2),
        o3.scaled_plus(half, e3),
    ]
}

/// Any odd length up to 31: x(k) ± x(-k) with cosines and sines.
#[inline(always)]
pub(super) fn odd<V: Real>(x: &[Complex<V>], roots: &[Root], y: &mut [Complex<V>]) {
    let n = x.len();
    let mut sums = [Complex::<V>::zero(); 15];
    let mut differences = sums;
    y[0] = x[0];
    for k in 1..=n / 2 {
        sums[k - 1] = x[k].plus(x[n - k]);
        differences[k - 1] = x[k].minus(x[n - k]);
        y[0] = y[0].plus(sums[k - 1]);
    }
    for q in 1..=n / 2 {
        let mut even = x[0];
        let mut odd = Complex::zero();
        for k in 1..=n / 2 {
            let root = roots[q * k % n];
            even = sums[k - 1].scaled_plus(V::splat(root[0]), even);
            let sine = V::splat(root[1]);
            odd = if k == 1 {
                Complex { re: differences[0].re.mul(sine), im: differences[0].im.mul(sine) }
            } else {
                differences[k - 1].scaled_plus(sine, odd)
            };
        }
        y[q] = even.plus_i(odd);
        y[n - q] = even.minus_i(odd);
    }
}
