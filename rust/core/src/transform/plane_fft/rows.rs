//! Rows of a real plane, thirty-two at a time: two rows are the real and the imaginary part of one signal, and their
//! spectra A and B are told apart by their symmetry: of Z = A + iB, A(k) = (Z(k) + Z*(-k)) / 2, iB(k) = (Z(k) - Z*(-k)) / 2.
//!
//! Rows lie across the lines that transforms work on, so every block is transposed on its way in and out.

use rustfft::num_complex::Complex32;

use super::butterfly::Complex;
use super::passes::{Line, SIGNALS};
use super::plan::Plan;
use super::simd::{Lanes, Work, floats, floats_mut, widest};
use crate::transform::lanes::{window, window_mut};

/// Rows that are transformed at a time.
pub(super) const ROWS: usize = 2 * SIGNALS;

/// The values of planes.
#[derive(Clone, Copy, Debug)]
pub enum Samples<'a> {
    /// Any.
    Floats(&'a [f32]),
    /// 0 to 255.
    Bytes(&'a [u8]),
}

impl<'a> From<&'a [f32]> for Samples<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self::Floats(values)
    }
}

impl<'a> From<&'a Vec<f32>> for Samples<'a> {
    fn from(values: &'a Vec<f32>) -> Self {
        Self::Floats(values)
    }
}

impl<'a> From<&'a [u8]> for Samples<'a> {
    fn from(values: &'a [u8]) -> Self {
        Self::Bytes(values)
    }
}

impl<'a> From<&'a Vec<u8>> for Samples<'a> {
    fn from(values: &'a Vec<u8>) -> Self {
        Self::Bytes(values)
    }
}

impl Samples<'_> {
    pub(super) fn len(self) -> usize {
        match self {
            Self::Floats(values) => values.len(),
            Self::Bytes(values) => values.len(),
        }
    }

    /// `count` values at a time; fewer come last.
    pub(super) fn chunks(self, count: usize) -> impl Iterator<Item = Self> {
        (0..self.len()).step_by(count).map(move |start| match self {
            Self::Floats(values) => Self::Floats(&values[start..values.len().min(start + count)]),
            Self::Bytes(values) => Self::Bytes(&values[start..values.len().min(start + count)]),
        })
    }
}

/// Up to [`ROWS`] rows of real numbers into `lines`.
pub(super) fn load(plan: &Plan, rows: Samples<'_>, lines: &mut [Line]) {
    match rows {
        Samples::Floats(rows) => widest(Load { plan, rows, lines }),
        Samples::Bytes(rows) => widest(Load { plan, rows, lines }),
    }
}

/// The spectra of the rows in `lines`, frequencies 0 to n / 2, into `rows`; where [`is_packed`], the last one is left
/// out and stands as the imaginary part of the first: neither has one of its own.
pub(super) fn unpack(plan: &Plan, lines: &[Line], rows: &mut [Complex32]) {
    widest(Unpack { plan, lines, rows: floats_mut(rows) });
}

/// Half spectra of rows into `lines`, as [`unpack`] leaves them, real and imaginary parts exchanged for the inverse.
pub(super) fn pack(plan: &Plan, rows: &[Complex32], lines: &mut [Line]) {
    widest(Pack { plan, rows: floats(rows), lines });
}

/// The real rows in `lines` times `scale` into `rows`.
pub(super) fn store(plan: &Plan, lines: &[Line], scale: f32, rows: &mut [f32]) {
    widest(Store { plan, lines, scale, rows });
}

/// Whether the first and the last frequency of rows of `n` share a column between [`unpack`] and [`pack`].
pub(super) fn is_packed(n: usize) -> bool {
    n.is_multiple_of(2) && n >= SHORT
}

/// Rows below this length are (un)packed number by number.
const SHORT: usize = 2 * SIGNALS;

/// Numbers of a row of `unpack` and `pack`: n / 2 + 1.
pub(super) fn across(n: usize) -> usize {
    n / 2 + 1
}

/// Where blocks of `size` start that cover `n`; the last one overlaps.
#[inline(always)]
fn starts(n: usize, size: usize) -> impl Iterator<Item = usize> {
    (0..n.div_ceil(size)).map(move |i| (i * size).min(n - size))
}

struct Load<'a, T> {
    plan: &'a Plan,
    rows: &'a [T],
    lines: &'a mut [Line],
}

impl<T: Copy + Into<f32>> Work for Load<'_, T> {
    #[inline(always)]
    fn run<const N: usize, V: Lanes<N>>(self) {
        let Self { plan, rows, lines } = self;
        let n = plan.len;
        let count = rows.len() / n;
        // Missing rows are copies of the last one: nobody reads what becomes of them.
        let row = |index: usize| &rows[index.min(count - 1) * n..][..n];
        if n < N {
            for x in 0..n {
                let line = &mut lines[plan.slot(x)];
                for s in 0..SIGNALS {
                    line.re[s] = row(s)[x].into();
                    line.im[s] = row(SIGNALS + s)[x].into();
                }
            }
            return;
        }
        for x in starts(n, N) {
            for from in (0..SIGNALS).step_by(N) {
                let re = V::transpose(std::array::from_fn(|l| convert::<N, V, T>(window(row(from + l), x))));
                for i in 0..N {
                    re[i].store(window_mut(&mut lines[plan.slot(x + i)].re, from));
                }
                let im = V::transpose(std::array::from_fn(|l| convert::<N, V, T>(window(row(SIGNALS + from + l), x))));
                for i in 0..N {
                    im[i].store(window_mut(&mut lines[plan.slot(x + i)].im, from));
                }
            }
        }
    }
}

#[inline(always)]
fn convert<const N: usize, V: Lanes<N>, T: Copy + Into<f32>>(samples: &[T; N]) -> V {
    let mut floats = [0.0; N];
    for i in 0..N {
        floats[i] = samples[i].into();
    }
    V::load(&floats)
}

struct Unpack<'a> {
    plan: &'a Plan,
    lines: &'a [Line],
    rows: &'a mut [f32],
}

impl Work for Unpack<'_> {
    #[inline(always)]
    fn run<const N: usize, V: Lanes<N>>(self) {
        let Self { plan, lines, rows } = self;
        let (n, width) = (plan.len, across(plan.len));
        let count = rows.len() / (2 * width);
        let pair = |k: usize| (&lines[plan.place(k)], &lines[plan.place(if k == 0 { 0 } else { n - k })]);
        if n < SHORT {
            for k in 0..width {
                let (z, y) = pair(k);
                for index in 0..count {
                    let s = index % SIGNALS;
                    let value = if index < SIGNALS {
                        [z.re[s] + y.re[s], z.im[s] - y.im[s]]
                    } else {
                        [z.im[s] + y.im[s], y.re[s] - z.re[s]]
                    };
                    rows[2 * (index * width + k)] = value[0] / 2.0;
                    rows[2 * (index * width + k) + 1] = value[1] / 2.0;
                }
            }
            return;
        }
        let half = V::splat(0.5);
        let whole = if is_packed(n) { width - 1 } else { width };
        for k in starts(whole, N / 2) {
            for from in (0..SIGNALS).step_by(N) {
                let mut a = [half; N];
                let mut b = a;
                for i in 0..N / 2 {
                    let (z, y) = pair(k + i);
                    let (z, y) = (z.get::<N, V>(from), y.get::<N, V>(from));
                    a[2 * i] = z.re.add(y.re).mul(half);
                    a[2 * i + 1] = z.im.sub(y.im).mul(half);
                    b[2 * i] = z.im.add(y.im).mul(half);
                    b[2 * i + 1] = y.re.sub(z.re).mul(half);
                }
                if k == 0 && is_packed(n) {
                    let last = lines[plan.place(n / 2)].get::<N, V>(from);
                    (a[1], b[1]) = (last.re, last.im);
                }
                for (side, square) in [(0, a), (SIGNALS, b)] {
                    let square = V::transpose(square);
                    for l in 0..N {
                        let index = side + from + l;
                        if index < count {
                            square[l].store(window_mut(rows, 2 * (index * width + k)));
                        }
                    }
                }
            }
        }
    }
}

struct Pack<'a> {
    plan: &'a Plan,
    rows: &'a [f32],
    lines: &'a mut [Line],
}

impl Work for Pack<'_> {
    #[inline(always)]
    fn run<const N: usize, V: Lanes<N>>(self) {
        let Self { plan, rows, lines } = self;
        let (n, width) = (plan.len, across(plan.len));
        let count = rows.len() / (2 * width);
        let row = |index: usize| &rows[index.min(count - 1) * 2 * width..][..2 * width];
        if n < SHORT {
            for k in 0..width {
                for s in 0..SIGNALS {
                    let (a, b) = (&row(s)[2 * k..], &row(SIGNALS + s)[2 * k..]);
                    let lone = k == 0 || 2 * k == n;
                    let (a, b) = if lone { ([a[0], 0.0], [b[0], 0.0]) } else { ([a[0], a[1]], [b[0], b[1]]) };
                    let here = &mut lines[plan.slot(k)];
                    (here.im[s], here.re[s]) = (a[0] - b[1], a[1] + b[0]);
                    if !lone {
                        let there = &mut lines[plan.slot(n - k)];
                        (there.im[s], there.re[s]) = (a[0] + b[1], b[0] - a[1]);
                    }
                }
            }
            return;
        }
        let whole = if is_packed(n) { width - 1 } else { width };
        for k in starts(whole, N / 2) {
            for from in (0..SIGNALS).step_by(N) {
                let a = V::transpose(std::array::from_fn(|l| V::load(window(row(from + l), 2 * k))));
                let b = V::transpose(std::array::from_fn(|l| V::load(window(row(SIGNALS + from + l), 2 * k))));
                for i in 0..N / 2 {
                    let (a, b) = ([a[2 * i], a[2 * i + 1]], [b[2 * i], b[2 * i + 1]]);
                    if k + i == 0 {
                        lines[plan.slot(0)].set(from, Complex { im: a[0], re: b[0] });
                        if is_packed(n) {
                            lines[plan.slot(n / 2)].set(from, Complex { im: a[1], re: b[1] });
                        }
                        continue;
                    }
                    lines[plan.slot(k + i)].set(from, Complex { im: a[0].sub(b[1]), re: a[1].add(b[0]) });
                    lines[plan.slot(n - k - i)].set(from, Complex { im: a[0].add(b[1]), re: b[0].sub(a[1]) });
                }
            }
        }
    }
}

struct Store<'a> {
    plan: &'a Plan,
    lines: &'a [Line],
    scale: f32,
    rows: &'a mut [f32],
}

impl Work for Store<'_> {
    #[inline(always)]
    fn run<const N: usize, V: Lanes<N>>(self) {
        let Self { plan, lines, scale, rows } = self;
        let n = plan.len;
        let count = rows.len() / n;
        if n < N {
            for x in 0..n {
                let line = &lines[plan.place(x)];
                for index in 0..count {
                    // Exchanged, as `pack` left them.
                    let part = if index < SIGNALS { &line.im } else { &line.re };
                    rows[index * n + x] = part[index % SIGNALS] * scale;
                }
            }
            return;
        }
        let factor = V::splat(scale);
        for x in starts(n, N) {
            for from in (0..SIGNALS).step_by(N) {
                let line = |i: usize| &lines[plan.place(x + i)];
                let a: [V; N] = V::transpose(std::array::from_fn(|i| V::load(window(&line(i).im, from))));
                let b: [V; N] = V::transpose(std::array::from_fn(|i| V::load(window(&line(i).re, from))));
                for (side, square) in [(0, a), (SIGNALS, b)] {
                    for l in 0..N {
                        let index = side + from + l;
                        if index < count {
                            square[l].mul(factor).store(window_mut(rows, index * n + x));
                        }
                    }
                }
            }
        }
    }
}
