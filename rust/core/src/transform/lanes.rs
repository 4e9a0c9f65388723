//! Blocks of fixed width, so that the compiler sees whole vectors and no tail.
//!
//! A loop over `n` values becomes loops over [`LANES`] values each; the last block overlaps the one before in place of
//! a remainder, so such a loop may only map (to compute a value twice is harmless) or must run on rows that are padded
//! with zeros ([`padded`]), which add nothing to a sum of products.

/// Width of a block.
pub const LANES: usize = 32;

/// How many blocks cover `n` values.
#[inline(always)]
pub fn blocks(n: usize) -> usize {
    n.div_ceil(LANES)
}

/// Where block `index` of `n` values starts; `n` is at least [`LANES`].
#[inline(always)]
pub fn start(index: usize, n: usize) -> usize {
    (index * LANES).min(n - LANES)
}

/// `N` values of `row` from `start` on.
#[inline(always)]
pub fn window<T, const N: usize>(row: &[T], start: usize) -> &[T; N] {
    &row[start..].as_chunks::<N>().0[0]
}

/// `N` values of `row` from `start` on, to be written.
#[inline(always)]
pub fn window_mut<T, const N: usize>(row: &mut [T], start: usize) -> &mut [T; N] {
    &mut row[start..].as_chunks_mut::<N>().0[0]
}

/// A row for `n` values, zeros after them: whole blocks, and one more for neighbours to the right.
pub fn padded(n: usize) -> Vec<i16> {
    vec![0; (blocks(n) + 1) * LANES]
}
