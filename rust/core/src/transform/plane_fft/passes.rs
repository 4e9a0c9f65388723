//! Passes: the short transforms of a stage over its blocks, from one place in memory to another.

use super::butterfly::{self, Complex};
use super::plan::{LARGEST_PRIME, Stage};
use super::simd::{Lanes, Work, widest};
use crate::transform::lanes::{window, window_mut};

/// Signals side by side.
pub(super) const SIGNALS: usize = 16;

/// One element of each signal.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line {
    pub(super) re: [f32; SIGNALS],
    pub(super) im: [f32; SIGNALS],
}

impl Line {
    pub(super) const ZERO: Self = Self { re: [0.0; SIGNALS], im: [0.0; SIGNALS] };

    /// Signals `from` to `from + N`.
    #[inline(always)]
    pub(super) fn get<const N: usize, V: Lanes<N>>(&self, from: usize) -> Complex<V> {
        Complex { re: V::load(window(&self.re, from)), im: V::load(window(&self.im, from)) }
    }

    /// As [`Line::get`], written.
    #[inline(always)]
    pub(super) fn set<const N: usize, V: Lanes<N>>(&mut self, from: usize, value: Complex<V>) {
        value.re.store(window_mut(&mut self.re, from));
        value.im.store(window_mut(&mut self.im, from));
    }
}

/// Where a pass takes its elements and puts them.
pub(super) trait Place {
    /// Signals from `from` on of element `i` of butterfly `j` in `block`; `m` butterflies make a block.
    fn take<const N: usize, V: Lanes<N>>(&self, at: At, from: usize) -> Complex<V>;
    /// Puts output `at.i`.
    fn put<const N: usize, V: Lanes<N>>(&mut self, at: At, from: usize, value: Complex<V>);
}

/// Element `i` of butterfly `j` of a block.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub(super) block: usize,
    pub(super) j: usize,
    pub(super) i: usize,
    /// Butterflies of a block.
    pub(super) m: usize,
    /// Elements of a butterfly.
    pub(super) radix: usize,
}

/// In place: blocks `span` lines apart, the elements of a butterfly `stride` apart.
pub(super) struct Inside<'a> {
    pub(super) lines: &'a mut [Line],
    pub(super) span: usize,
    pub(super) stride: usize,
}

impl Place for Inside<'_> {
    #[inline(always)]
    fn take<const N: usize, V: Lanes<N>>(&self, at: At, from: usize) -> Complex<V> {
        self.lines[at.block * self.span + at.i * self.stride + at.j].get(from)
    }
    #[inline(always)]
    fn put<const N: usize, V: Lanes<N>>(&mut self, at: At, from: usize, value: Complex<V>) {
        self.lines[at.block * self.span + at.i * self.stride + at.j].set(from, value);
    }
}

/// A stage over all blocks of `lines`.
pub(super) fn inside(stage: &Stage, lines: &mut [Line]) {
    let span = stage.radix * stage.m;
    let blocks = lines.len() / span;
    pass(stage, blocks, &mut Inside { lines, span, stride: stage.m });
}

/// The last stage over all blocks of `lines`.
pub(super) fn last(stage: &Stage, lines: &mut [Line]) {
    if stage.radix > 1 {
        inside(stage, lines);
    }
}

/// A stage over `blocks` blocks of `place`.
pub(super) fn pass(stage: &Stage, blocks: usize, place: &mut impl Place) {
    match stage.radix {
        1 => widest(Pass::<1, _> { stage, blocks, place }),
        2 => widest(Pass::<2, _> { stage, blocks, place }),
        3 => widest(Pass::<3, _> { stage, blocks, place }),
        4 => widest(Pass::<4, _> { stage, blocks, place }),
        5 => widest(Pass::<5, _> { stage, blocks, place }),
        7 => widest(Pass::<7, _> { stage, blocks, place }),
        8 => widest(Pass::<8, _> { stage, blocks, place }),
        _ => widest(PrimePass { stage, blocks, place }),
    }
}

struct Pass<'a, const R: usize, P> {
    stage: &'a Stage,
    blocks: usize,
    place: &'a mut P,
}

impl<const R: usize, P: Place> Work for Pass<'_, R, P> {
    #[inline(always)]
    fn run<const N: usize, V: Lanes<N>>(self) {
        let Self { stage, blocks, place } = self;
        let m = stage.m;
        for block in 0..blocks {
            for from in (0..SIGNALS).step_by(N) {
                let x = std::array::from_fn(|i| place.take::<N, V>(At { block, j: 0, i, m, radix: R }, from));
                let y = butterfly::dft::<R, V>(x, &stage.roots);
                for i in 0..R {
                    place.put(At { block, j: 0, i, m, radix: R }, from, y[i]);
                }
            }
            for j in 1..m {
                let twiddles = &stage.twiddles[(j - 1) * (R - 1)..][..R - 1];
                for from in (0..SIGNALS).step_by(N) {
                    let x = std::array::from_fn(|i| place.take::<N, V>(At { block, j, i, m, radix: R }, from));
                    let y = butterfly::dft::<R, V>(x, &stage.roots);
                    place.put(At { block, j, i: 0, m, radix: R }, from, y[0]);
                    for i in 1..R {
                        place.put(At { block, j, i, m, radix: R }, from, y[i].times(twiddles[i - 1]));
                    }
                }
            }
        }
    }
}

/// As [`Pass`], for primes that are too rare for code of their own.
struct PrimePass<'a, P> {
    stage: &'a Stage,
    blocks: usize,
    place: &'a mut P,
}

impl<P: Place> Work for PrimePass<'_, P> {
    #[inline(always)]
    fn run<const N: usize, V: Lanes<N>>(self) {
        let Self { stage, blocks, place } = self;
        let (m, radix) = (stage.m, stage.radix);
        let mut x = [Complex::<V>::zero(); LARGEST_PRIME];
        let mut y = x;
        for block in 0..blocks {
            for j in 0..m {
                for from in (0..SIGNALS).step_by(N) {
                    for i in 0..radix {
                        x[i] = place.take(At { block, j, i, m, radix }, from);
                    }
                    butterfly::odd(&x[..radix], &stage.roots, &mut y[..radix]);
                    place.put(At { block, j, i: 0, m, radix }, from, y[0]);
                    for i in 1..radix {
                        let value =
                            if j == 0 { y[i] } else { y[i].times(stage.twiddles[(j - 1) * (radix - 1) + i - 1]) };
                        place.put(At { block, j, i, m, radix }, from, value);
                    }
                }
            }
        }
    }
}
