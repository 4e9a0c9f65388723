//! Transforms of one length of many signals side by side: which passes, in which order, with which factors.
//!
//! Decimation in frequency, in place. A pass of radix r over blocks of length r m takes the elements j, j + m, …, does
//! the short transform of them and multiplies output q by exp(-2πi j q / (r m)); the r parts of m elements are the
//! blocks of the next pass. After the last one, frequencies lie in the order of reversed digits, which costs nothing:
//! who reads the result looks it up ([`Plan::place`]).

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::bluestein::Bluestein;
use super::butterfly::Root;
use super::passes::{self, Inside, Line};

/// The largest prime that has a pass of its own: beyond, Bluestein's algorithm is faster.
pub(super) const LARGEST_PRIME: usize = 31;

/// Blocks of at most this many lines go through all their passes before the next block: they stay in the first cache.
const NEAR: usize = 256;

/// One pass over a block.
pub(super) struct Stage {
    pub(super) radix: usize,
    /// Elements of a block over the radix.
    pub(super) m: usize,
    /// `[(j - 1) * (radix - 1) + q - 1]`, j from 1: element 0 needs none.
    pub(super) twiddles: Vec<Root>,
    /// The roots of one of order `radix`.
    pub(super) roots: Vec<Root>,
}

/// How signals of one length are transformed.
pub(super) struct Plan {
    pub(super) len: usize,
    /// At least two.
    pub(super) stages: Vec<Stage>,
    /// Lines from one block of the second pass to the next: its length, and one more where lines a power of two apart
    /// would share a few places of the cache.
    pub(super) stride: usize,
    /// First frequency of each block of the last pass; the others follow at distances of `len / radix`.
    pub(super) first: Vec<u32>,
    /// Line of element n before [`Plan::transform`].
    slot: Vec<u32>,
    /// Line of frequency k after [`Plan::transform`].
    place: Vec<u32>,
    pub(super) bluestein: Option<Box<Bluestein>>,
}

thread_local! {
    /// Of one thread each: a lock could be held by another thread when the process forks, and for ever in the child.
    static PLANS: RefCell<HashMap<usize, Rc<Plan>>> = RefCell::default();
}

/// The plan for signals of `len`, from 1.
pub(super) fn plan(len: usize) -> Rc<Plan> {
    /// Lengths that are kept.
    const MOST: usize = 32;
    if let Some(plan) = PLANS.with_borrow(|plans| plans.get(&len).cloned()) {
        return plan;
    }
    // Not under the borrow: the plan of Bluestein's algorithm asks for another one.
    let plan = Rc::new(Plan::new(len));
    PLANS.with_borrow_mut(|plans| {
        if plans.len() >= MOST {
            plans.clear();
        }
        plans.insert(len, Rc::clone(&plan));
    });
    plan
}

/// exp(-2πi k / n).
pub(super) fn root(k: usize, n: usize) -> Root {
    let (sin, cos) = (std::f64::consts::TAU * (k % n) as f64 / n as f64).sin_cos();
    [cos as f32, -sin as f32]
}

/// The radices of the passes of `len`, in their order; `None` where a prime factor is too large.
fn radices(len: usize) -> Option<Vec<usize>> {
    let twos = len.trailing_zeros() as usize;
    let mut rest = len >> twos;
    let mut radices = Vec::new();
    for prime in (3..=LARGEST_PRIME).rev().step_by(2) {
        while rest.is_multiple_of(prime) && is_prime(prime) {
            rest /= prime;
            radices.push(prime);
        }
    }
    match twos % 3 {
        1 if twos >= 4 => radices.extend([4, 4]),
        1 => radices.push(2),
        2 => radices.push(4),
        _ => {}
    }
    let eights = if twos % 3 == 1 && twos >= 4 { twos / 3 - 1 } else { twos / 3 };
    radices.extend(std::iter::repeat_n(8, eights));
    (rest == 1).then_some(radices)
}

fn is_prime(n: usize) -> bool {
    (2..n).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

impl Plan {
    fn new(len: usize) -> Self {
        let (mut radices, bluestein) = match radices(len) {
            Some(radices) => (radices, None),
            None => (vec![], Some(Box::new(Bluestein::new(len)))),
        };
        // A first and a last pass, that may read and write elsewhere; radix 1 copies.
        if bluestein.is_some() {
            radices = vec![1, 1];
        }
        while radices.len() < 2 {
            radices.insert(0, 1);
        }
        let direct = bluestein.is_some();
        let mut block = len;
        let mut first = vec![0_u32];
        let mut scale = 1;
        let mut stages = Vec::with_capacity(radices.len());
        for (index, &radix) in radices.iter().enumerate() {
            if index > 0 {
                let before: usize = radices[index - 1];
                first = first.iter().flat_map(|&f| (0..before).map(move |q| f + (q * scale) as u32)).collect();
                scale *= before;
            }
            let m = block / radix;
            let twiddles = (1..m).flat_map(|j| (1..radix).map(move |q| root(j * q, block))).collect();
            stages.push(Stage { radix, m, twiddles, roots: (0..radix).map(|k| root(k, radix)).collect() });
            block = m;
        }
        if direct {
            // Both passes copy: `len` blocks of one.
            first = (0..len as u32).collect();
            stages[1].m = 1;
        }
        let inner = stages[0].m;
        let stride = if inner.is_multiple_of(32) && stages[0].radix > 1 { inner + 1 } else { inner };
        let last = stages.last().map_or(1, |stage| stage.radix);
        let line = |at: usize| (at + at / inner * (stride - inner)) as u32;
        let slot = (0..len).map(line).collect();
        let mut place = vec![0; len];
        for (block, &f) in first.iter().enumerate() {
            for q in 0..last {
                place[f as usize + q * (len / last)] = line(block * last + q);
            }
        }
        Self { len, stages, stride, first, slot, place, bluestein }
    }

    /// Lines that a transform works on.
    pub(super) fn lines(&self) -> usize {
        self.stages[0].radix * self.stride
    }

    /// Lines that it needs beside them.
    pub(super) fn spare(&self) -> usize {
        self.bluestein.as_ref().map_or(0, |bluestein| bluestein.spare())
    }

    /// Line of element `n` before [`Plan::transform`].
    #[inline(always)]
    pub(super) fn slot(&self, n: usize) -> usize {
        self.slot[n] as usize
    }

    /// Line of frequency `k` after [`Plan::transform`].
    #[inline(always)]
    pub(super) fn place(&self, k: usize) -> usize {
        self.place[k] as usize
    }

    /// Transforms `lines`, [`Plan::lines`] of them.
    pub(super) fn transform(&self, lines: &mut [Line], spare: &mut [Line]) {
        if let Some(bluestein) = &self.bluestein {
            return bluestein.transform(lines, spare);
        }
        let first = &self.stages[0];
        if first.radix > 1 {
            passes::pass(first, 1, &mut Inside { lines, span: 0, stride: self.stride });
        }
        let last = self.stages.len() - 1;
        for part in lines.chunks_exact_mut(self.stride) {
            self.descend(&mut part[..first.m], 1, last, &mut |block| passes::last(&self.stages[last], block));
        }
    }

    /// The passes from `stage` up to, not with, `last` over one block; `ready` gets each part of it that is done, in
    /// order.
    pub(super) fn descend(&self, block: &mut [Line], stage: usize, last: usize, ready: &mut impl FnMut(&mut [Line])) {
        if block.len() <= NEAR || stage >= last {
            for stage in &self.stages[stage..last] {
                passes::inside(stage, block);
            }
            ready(block);
            return;
        }
        passes::inside(&self.stages[stage], block);
        for part in block.chunks_exact_mut(self.stages[stage].m) {
            self.descend(part, stage + 1, last, ready);
        }
    }
}
