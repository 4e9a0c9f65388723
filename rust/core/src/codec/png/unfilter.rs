//! PNG's row filters undone four rows at a time.
//!
//! Of a row filtered by Paeth's rule each pixel waits for the one before: some ten cycles for three bytes, and most
//! rows of a photograph are of that kind. Four rows are worked on side by side instead, each two pixels behind the row
//! above it, so that the pixel above is there when it is asked for. One vector holds a pixel of four bytes of each.
//! The loop over arrays that says the same does not become vectors (13 times slower); SSE2 is part of every x86-64.

#![allow(unsafe_code)] // vector instructions of std::arch, and pixels reached without a check of bounds
#![allow(clippy::inline_always)] // what the multiversioned function calls has to be compiled with it

use std::arch::x86_64::{
    __m128i, _mm_add_epi8, _mm_adds_epu8, _mm_and_si128, _mm_andnot_si128, _mm_avg_epu8, _mm_cmpeq_epi8,
    _mm_cvtsi32_si128, _mm_cvtsi128_si32, _mm_max_epu8, _mm_min_epu8, _mm_or_si128, _mm_set1_epi8, _mm_setr_epi32,
    _mm_setzero_si128, _mm_slli_si128, _mm_srli_si128, _mm_sub_epi8, _mm_subs_epu8, _mm_unpacklo_epi32,
    _mm_unpacklo_epi64, _mm_xor_si128,
};

use multiversion::multiversion;

/// Rows that are undone together.
pub(super) const ROWS: usize = 4;
/// Pixels that a row is behind the one above: by one, the move of the row above to its lane would be waited for.
const LAG: usize = 2;

const SUB: u8 = 1;
const UP: u8 = 2;
const AVERAGE: u8 = 3;
const PAETH: u8 = 4;

/// One pixel of each row.
type Pixels = [[u8; 4]; ROWS];

/// Undoes [`ROWS`] rows of `width` pixels of `BPP` bytes.
///
/// `filtered` holds them with their filter bytes; `rows` the undone row above and room for the undone ones. None where
/// a filter is unknown.
#[multiversion(targets = "simd")]
pub(super) fn undo(channels: usize, filtered: &[u8], rows: &mut [u8], width: usize) -> Option<()> {
    match channels {
        1 => undo_pixels::<1>(filtered, rows, width),
        2 => undo_pixels::<2>(filtered, rows, width),
        3 => undo_pixels::<3>(filtered, rows, width),
        4 => undo_pixels::<4>(filtered, rows, width),
        _ => None,
    }
}

#[inline(always)]
fn undo_pixels<const BPP: usize>(filtered: &[u8], rows: &mut [u8], width: usize) -> Option<()> {
    let size = width * BPP;
    let (above, rows) = rows.split_at_mut(size);
    let mut rest = rows.chunks_exact_mut(size);
    let mut rows: [&mut [u8]; ROWS] = std::array::from_fn(|_| rest.next().unwrap_or_default());
    let packed: [&[u8]; ROWS] = std::array::from_fn(|r| &filtered[r * (size + 1)..][..=size]);
    let filters = packed.map(|row| row[0]);
    if filters.iter().any(|&filter| filter > PAETH) {
        return None;
    }
    let packed = packed.map(|row| &row[1..]);
    let mut front = Front::new(filters);

    let lead = LAG * (ROWS - 1);
    // Where some row is before its first pixel or at its last: byte for byte.
    let at_edge = |rows: &mut [&mut [u8]; ROWS], front: &mut Front, step: usize| {
        let place = |r: usize| step.checked_sub(LAG * r).filter(|&x| x < width).map(|x| x * BPP..(x + 1) * BPP);
        let pixel = |row: &[u8], r: usize| {
            let mut pixel = [0; 4];
            if let Some(place) = place(r) {
                pixel[..BPP].copy_from_slice(&row[place]);
            }
            pixel
        };
        let undone = front.step(std::array::from_fn(|r| pixel(packed[r], r)), pixel(above, 0));
        for (r, row) in rows.iter_mut().enumerate() {
            if let Some(place) = place(r) {
                row[place].copy_from_slice(&undone[r][..BPP]);
            }
        }
    };
    for step in 0..lead {
        at_edge(&mut rows, &mut front, step);
    }
    let mut step = lead;
    let from = packed.map(<[u8]>::as_ptr);
    let to = rows.each_mut().map(|row| row.as_mut_ptr());
    // Four bytes of fewer a pixel: those too many belong to the next pixel, which comes after.
    while step * BPP + 4 <= size {
        let at = |r: usize| (step - LAG * r) * BPP;
        // SAFETY: `step` is at least the lag of the last row, `at(r) + 4` at most `size`, the length of every row.
        unsafe {
            let packed = std::array::from_fn(|r| from[r].add(at(r)).cast::<[u8; 4]>().read());
            let undone = front.step(packed, above.as_ptr().add(at(0)).cast::<[u8; 4]>().read());
            for r in 0..ROWS {
                to[r].add(at(r)).cast::<[u8; 4]>().write(undone[r]);
            }
        }
        step += 1;
    }
    for step in step..width + lead {
        at_edge(&mut rows, &mut front, step);
    }
    Some(())
}

/// The pixels that the next step is predicted from, a lane of four bytes a row.
struct Front {
    /// What the last step and the one before it gave.
    undone: [__m128i; 2],
    /// The pixels above of the last step.
    above: __m128i,
    with_left: __m128i,
    with_above: __m128i,
    with_corner: __m128i,
    is_average: __m128i,
}

impl Front {
    #[inline(always)]
    fn new(filters: [u8; ROWS]) -> Self {
        let mask = |of: &[u8]| {
            let [a, b, c, d] = filters.map(|filter| if of.contains(&filter) { -1 } else { 0 });
            // SAFETY: needs SSE2, which every x86-64 has.
            unsafe { _mm_setr_epi32(a, b, c, d) }
        };
        // SAFETY: as above.
        let zero = unsafe { _mm_setzero_si128() };
        Self {
            undone: [zero; 2],
            above: zero,
            with_left: mask(&[SUB, AVERAGE, PAETH]),
            with_above: mask(&[UP, AVERAGE, PAETH]),
            with_corner: mask(&[PAETH]),
            is_average: mask(&[AVERAGE]),
        }
    }

    /// Undoes one pixel of each row. `above` is the pixel above that of the first row.
    ///
    /// All filters are Paeth's rule with some neighbours taken as 0, but for the average, which goes in place of the
    /// corner. The rule: the corner `c`, unless the greater of `a` and `b` is nearer to it than half its distance to
    /// the lesser, which is then chosen; or the other way round.
    #[inline(always)]
    fn step(&mut self, filtered: Pixels, above: [u8; 4]) -> Pixels {
        // SAFETY: needs SSE2, which every x86-64 has.
        unsafe {
            let all_above = _mm_or_si128(_mm_slli_si128::<4>(self.undone[1]), lane(above));
            let a = _mm_and_si128(self.undone[0], self.with_left);
            let b = _mm_and_si128(all_above, self.with_above);
            let c = _mm_and_si128(self.above, self.with_corner);
            let (low, high) = (_mm_min_epu8(a, b), _mm_max_epu8(a, b));
            let (over, under) = (_mm_subs_epu8(high, c), _mm_subs_epu8(c, low));
            let (twice_over, twice_under) = (_mm_adds_epu8(over, over), _mm_adds_epu8(under, under));
            let takes_low = _mm_cmpeq_epi8(_mm_min_epu8(twice_over, under), twice_over);
            let takes_high = _mm_cmpeq_epi8(_mm_min_epu8(twice_under, over), twice_under);
            let odd = _mm_and_si128(_mm_xor_si128(a, b), _mm_set1_epi8(1));
            let average = _mm_and_si128(_mm_sub_epi8(_mm_avg_epu8(a, b), odd), self.is_average);
            let to = |value| _mm_andnot_si128(self.is_average, _mm_sub_epi8(value, c));
            let chosen = _mm_add_epi8(_mm_and_si128(takes_low, to(low)), _mm_and_si128(takes_high, to(high)));
            let base = _mm_add_epi8(four_lanes(filtered), _mm_or_si128(c, average));
            let undone = _mm_add_epi8(base, chosen);
            self.above = all_above;
            self.undone = [undone, self.undone[0]];
            let first = |lanes| _mm_cvtsi128_si32(lanes).to_le_bytes();
            [
                first(undone),
                first(_mm_srli_si128::<4>(undone)),
                first(_mm_srli_si128::<8>(undone)),
                first(_mm_srli_si128::<12>(undone)),
            ]
        }
    }
}

#[inline(always)]
fn lane(pixel: [u8; 4]) -> __m128i {
    // SAFETY: needs SSE2, which every x86-64 has.
    unsafe { _mm_cvtsi32_si128(i32::from_le_bytes(pixel)) }
}

#[inline(always)]
fn four_lanes(pixels: Pixels) -> __m128i {
    let [a, b, c, d] = pixels.map(lane);
    // SAFETY: needs SSE2, which every x86-64 has.
    unsafe { _mm_unpacklo_epi64(_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d)) }
}

#[cfg(test)]
mod tests {
    use super::{ROWS, undo};
    use proptest::prelude::*;

    /// The standard's own words, a byte at a time.
    fn predicted(filter: u8, a: u8, b: u8, c: u8) -> u8 {
        let (wide_a, wide_b, wide_c) = (i16::from(a), i16::from(b), i16::from(c));
        let estimate = wide_a + wide_b - wide_c;
        let [to_a, to_b, to_c] = [wide_a, wide_b, wide_c].map(|value| (estimate - value).abs());
        match filter {
            0 => 0,
            1 => a,
            2 => b,
            3 => ((wide_a + wide_b) >> 1) as u8,
            _ if to_a <= to_b && to_a <= to_c => a,
            _ if to_b <= to_c => b,
            _ => c,
        }
    }

    fn by_the_standard(channels: usize, filtered: &[u8], rows: &mut [u8], width: usize) {
        let size = width * channels;
        for r in 0..ROWS {
            for k in 0..size {
                let left = |row: usize| if k < channels { 0 } else { rows[row * size + k - channels] };
                let prediction = predicted(filtered[r * (size + 1)], left(r + 1), rows[r * size + k], left(r));
                rows[(r + 1) * size + k] = filtered[r * (size + 1) + 1 + k].wrapping_add(prediction);
            }
        }
    }

    #[test]
    fn paeth_is_right_for_all_neighbours() {
        // Two pixels of a byte: the corner and `b` above, `a` on the left, and what is added is the prediction itself.
        for c in 0..=255 {
            for b in (0..=255).step_by(3) {
                for a in 0..=255_u8 {
                    let filtered = [4, a.wrapping_sub(c), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                    let mut rows = [0; 10];
                    rows[..2].copy_from_slice(&[c, b]);
                    undo(1, &filtered, &mut rows, 2).expect("the filters are known");
                    assert_eq!((rows[2], rows[3]), (a, predicted(4, a, b, c)), "{a} {b} {c}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_filter_is_seen() {
        assert_eq!(undo(1, &[0, 7, 0, 7, 5, 7, 0, 7], &mut [0; 5], 1), None);
    }

    proptest! {
        #[test]
        fn rows_are_those_of_the_standard(
            channels in 1_usize..=4,
            width in 1_usize..40,
            filters in prop::array::uniform4(0_u8..=4),
            seed in any::<u64>(),
        ) {
            let size = width * channels;
            let mut state = seed | 1;
            let mut byte = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            };
            let mut filtered: Vec<u8> = (0..ROWS * (size + 1)).map(|_| byte()).collect();
            for (row, filter) in filtered.chunks_exact_mut(size + 1).zip(filters) {
                row[0] = filter;
            }
            let mut rows: Vec<u8> = (0..size).map(|_| byte()).chain(std::iter::repeat_n(0, ROWS * size)).collect();
            let mut expected = rows.clone();
            by_the_standard(channels, &filtered, &mut expected, width);
            undo(channels, &filtered, &mut rows, width).expect("the filters are known");
            prop_assert_eq!(rows, expected);
        }
    }
}
