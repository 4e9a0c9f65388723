//! Blocks of fixed width, so that the compiler sees whole vectors and no tail.
//!
//! A loop over `n` values becomes loops over [`LANES`] values each; the last block overlaps the one before in place of
//! a remainder, so such a loop may only map (to compute a value twice is harmless) or must run on rows that are padded
//! with zeros ([`padded`]), which add nothing to a sum of products.

use multiversion::multiversion;

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

/// Some pixels of a plane: `start + x + y * stride`, x below `width`, y below `height`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first pixel.
    pub start: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// From one row to the next.
    pub stride: usize,
}

impl Window {
    /// Pixels of a part: its rows stay in the first cache while a feature reads them several times.
    const PART: usize = 16_384;

    /// This window in parts of at most 32 768 pixels, which start at even rows and columns.
    pub fn parts(self) -> impl Iterator<Item = Self> {
        let (across, down) = (Self::PART, (Self::PART / self.width).max(2) & !1);
        (0..self.height).step_by(down).flat_map(move |y| {
            let height = down.min(self.height - y);
            (0..self.width).step_by(across).map(move |x| {
                let (start, width) = (self.start + x + y * self.stride, across.min(self.width - x));
                Self { start, width, height, stride: self.stride }
            })
        })
    }
}

/// A row for `n` values, zeros after them up to a whole block.
pub fn padded(n: usize) -> Vec<i16> {
    vec![0; blocks(n) * LANES]
}

/// A few rows of signed samples, side by side in memory, at least one zero after each, below the last row of the strip
/// before: sums of products of neighbours are then sums over one long slice, and no pair needs to be left out.
#[derive(Debug, Clone)]
pub struct Strip<T = i16> {
    stride: usize,
    rows: usize,
    filled: usize,
    data: Vec<T>,
}

impl<T: Copy + Default> Strip<T> {
    /// For rows of `n` samples; the row before the first is zero.
    pub fn new(n: usize) -> Self {
        // Some 16 KiB stay in the first cache beside their inputs.
        Self::of(n, 8192)
    }

    /// As [`Strip::new`], of about so many `samples`.
    pub fn of(n: usize, samples: usize) -> Self {
        // 64 samples are four vectors of the usual 16.
        let stride = (n + 1).next_multiple_of(64);
        let rows = (samples / stride).max(1);
        Self { stride, rows, filled: 0, data: vec![T::default(); (rows + 1) * stride + 1] }
    }

    /// The next row, to be overwritten from its start.
    pub fn push(&mut self) -> &mut [T] {
        self.filled += 1;
        &mut self.data[self.filled * self.stride..][..self.stride]
    }

    /// How many rows were pushed since the last restart.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether no row was pushed since the last restart.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Whether the strip must be read and restarted before the next row.
    pub fn is_full(&self) -> bool {
        self.filled == self.rows
    }

    /// Samples of the rows pushed since the last restart, their zeros among them.
    pub fn here(&self) -> &[T] {
        &self.data[self.stride..][..self.filled * self.stride]
    }

    /// The rows above those of [`Strip::here`].
    pub fn above(&self) -> &[T] {
        &self.data[..self.filled * self.stride]
    }

    /// [`Strip::here`] and [`Strip::above`], each one sample longer: that one has a zero to its left, so that it adds
    /// nothing to a sum of products of neighbours.
    pub fn neighbours(&self) -> (&[T], &[T]) {
        let n = self.filled * self.stride + 1;
        (&self.data[self.stride..][..n], &self.data[..n])
    }

    /// Keeps the last row as the row above, and forgets the others.
    pub fn restart(&mut self) {
        self.data.copy_within(self.filled * self.stride..(self.filled + 1) * self.stride, 0);
        self.filled = 0;
    }
}

/// Σ a(i) b(i) over the shorter length, exact; products are less than 2^19.
#[multiversion(targets = "simd")]
pub fn dot<T: Copy + Into<i32>>(a: &[T], b: &[T]) -> i64 {
    let mut total = 0;
    let n = a.len().min(b.len());
    let mut start = 0;
    while start < n {
        // 4096 products stay inside 32 bits.
        let end = (start + 4096).min(n);
        let (a, b) = (&a[start..end], &b[start..end]);
        let mut part = 0;
        for i in 0..end - start {
            let (a, b): (i32, i32) = (a[i].into(), b[i].into());
            part += a * b;
        }
        total += i64::from(part);
        start = end;
    }
    total
}

/// Σ a(i) b(i + 1), as [`dot`].
pub fn dot_next<T: Copy + Into<i32>>(a: &[T], b: &[T]) -> i64 {
    dot(a, &b[1..])
}
