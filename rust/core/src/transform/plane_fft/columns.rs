//! Columns of complex numbers, sixteen at a time: the first pass reads them from the plane, the last one writes them back.

use rustfft::num_complex::Complex32;

use super::butterfly::Complex;
use super::passes::{self, At, Line, Place, SIGNALS};
use super::plan::Plan;
use super::simd::{Lanes, floats, floats_mut};
use crate::transform::lanes::{window, window_mut};

/// Transforms the first `across` columns of the rows of `width` numbers in `data`; the inverse where `INVERSE`, without 1 / n.
pub(super) fn transform<const INVERSE: bool>(
    plan: &Plan,
    data: &mut [Complex32],
    width: usize,
    across: usize,
    (lines, spare): (&mut [Line], &mut [Line]),
) {
    for left in (0..across).step_by(SIGNALS) {
        let count = SIGNALS.min(across - left);
        load::<INVERSE>(plan, Columns { rows: floats(data), width, left, count }, lines);
        finish::<INVERSE>(plan, lines, spare, &mut Columns { rows: floats_mut(data), width, left, count });
    }
}

/// Up to [`SIGNALS`] columns of rows of `width` complex numbers, as floats.
struct Columns<D> {
    rows: D,
    width: usize,
    left: usize,
    count: usize,
}

/// The first pass of `plan` over `columns`, into `lines`.
fn load<const INVERSE: bool>(plan: &Plan, from: Columns<&[f32]>, lines: &mut [Line]) {
    passes::pass(&plan.stages[0], 1, &mut FromRows::<INVERSE> { from, lines, stride: plan.stride });
}

/// All passes but the first over `lines`, the last one into `columns`.
fn finish<const INVERSE: bool>(plan: &Plan, lines: &mut [Line], spare: &mut [Line], columns: &mut Columns<&mut [f32]>) {
    let last = plan.stages.len() - 1;
    let stage = &plan.stages[last];
    if let Some(bluestein) = &plan.bluestein {
        bluestein.transform(lines, spare);
    }
    let mut block = 0;
    for part in lines.chunks_exact_mut(plan.stride) {
        plan.descend(&mut part[..plan.stages[0].m], 1, last, &mut |lines| {
            let blocks = lines.len() / stage.radix;
            let first = &plan.first[block..][..blocks];
            let to = Columns { rows: &mut *columns.rows, ..*columns };
            passes::pass(stage, blocks, &mut ToRows::<INVERSE> { to, lines, first, step: plan.len / stage.radix });
            block += blocks;
        });
    }
}

struct FromRows<'a, const INVERSE: bool> {
    from: Columns<&'a [f32]>,
    lines: &'a mut [Line],
    stride: usize,
}

impl<const INVERSE: bool> Place for FromRows<'_, INVERSE> {
    #[inline(always)]
    fn take<const N: usize, V: Lanes<N>>(&self, at: At, from: usize) -> Complex<V> {
        let Columns { rows, width, left, count } = self.from;
        let start = 2 * ((at.j + at.i * at.m) * width + left);
        let (first, second) = if count == SIGNALS {
            let row: &[f32; 2 * SIGNALS] = window(rows, start);
            (V::load(window(row, 2 * from)), V::load(window(row, 2 * from + N)))
        } else {
            let row = partial(&rows[start..start + 2 * count]);
            (V::load(window(&row, 2 * from)), V::load(window(&row, 2 * from + N)))
        };
        let (re, im) = V::split(first, second);
        if INVERSE { Complex { re: im, im: re } } else { Complex { re, im } }
    }
    #[inline(always)]
    fn put<const N: usize, V: Lanes<N>>(&mut self, at: At, from: usize, value: Complex<V>) {
        self.lines[at.j + at.i * self.stride].set(from, value);
    }
}

struct ToRows<'a, const INVERSE: bool> {
    to: Columns<&'a mut [f32]>,
    lines: &'a [Line],
    /// Of each block, the row of output 0.
    first: &'a [u32],
    /// Rows from one output to the next.
    step: usize,
}

impl<const INVERSE: bool> Place for ToRows<'_, INVERSE> {
    #[inline(always)]
    fn take<const N: usize, V: Lanes<N>>(&self, at: At, from: usize) -> Complex<V> {
        self.lines[at.block * at.radix + at.i].get(from)
    }
    #[inline(always)]
    fn put<const N: usize, V: Lanes<N>>(&mut self, at: At, from: usize, Complex { re, im }: Complex<V>) {
        let (first, second) = if INVERSE { V::join(im, re) } else { V::join(re, im) };
        let row = self.first[at.block] as usize + at.i * self.step;
        let start = 2 * (row * self.to.width + self.to.left);
        if self.to.count == SIGNALS {
            let row: &mut [f32; 2 * SIGNALS] = window_mut(self.to.rows, start);
            first.store(window_mut(row, 2 * from));
            second.store(window_mut(row, 2 * from + N));
        } else {
            let mut row = [0.0; 2 * SIGNALS];
            first.store(window_mut(&mut row, 2 * from));
            second.store(window_mut(&mut row, 2 * from + N));
            part(&row, 2 * from, 2 * (from + N), &mut self.to.rows[start..start + 2 * self.to.count]);
        }
    }
}

/// Fewer columns than a line has.
#[cold]
#[inline(never)]
fn partial(row: &[f32]) -> [f32; 2 * SIGNALS] {
    let mut whole = [0.0; 2 * SIGNALS];
    whole[..row.len()].copy_from_slice(row);
    whole
}

/// Floats `from..to` of `row`, as far as `out` has them.
#[cold]
#[inline(never)]
fn part(row: &[f32; 2 * SIGNALS], from: usize, to: usize, out: &mut [f32]) {
    let to = to.min(out.len());
    if from < to {
        out[from..to].copy_from_slice(&row[from..to]);
    }
}
