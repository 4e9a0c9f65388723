//! Sums of products with the byte and word dot products of AVX-512 (VNNI): what compilers do not find in portable loops.
//!
//! Each function says whether the machine has the instructions; its caller keeps a portable loop for those that have
//! not, and tests hold the two equal. Integer sums are exact, so both give the same values.

// Intrinsics on memory, and the calls into functions that are compiled for an instruction set.
#![allow(unsafe_code)]
#![allow(clippy::wildcard_imports)] // the instructions have no other common name

use std::arch::x86_64::*;

use super::lanes::Window;

/// Bytes of a vector.
const BYTES: usize = 64;
/// 16-bit words of a vector.
const WORDS: usize = 32;

/// Whether this machine has all that this module is compiled for.
fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("popcnt")
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
fn words(row: &[i16], start: usize) -> __m512i {
    let row: &[i16; WORDS] = row[start..].first_chunk().expect("a whole vector");
    // SAFETY: the array is as long as what is read.
    unsafe { _mm512_loadu_si512(row.as_ptr().cast()) }
}

/// All of `chunk`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
fn bytes(chunk: &[u8; BYTES]) -> __m512i {
    // SAFETY: the array is as long as what is read.
    unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) }
}

/// All of `chunk`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
fn signed_bytes(chunk: &[i8; BYTES]) -> __m512i {
    // SAFETY: the array is as long as what is read.
    unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) }
}

/// All of `rest`, of fewer bytes than a vector, and zeros after them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
fn few_bytes(rest: &[u8]) -> __m512i {
    // SAFETY: bytes outside the mask are not read, and the slice has those inside.
    unsafe { _mm512_maskz_loadu_epi8((1 << rest.len()) - 1, rest.as_ptr().cast()) }
}

/// A vector of `row`, or all of it and zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
fn first_bytes(row: &[u8]) -> __m512i {
    row.first_chunk().map_or_else(|| few_bytes(row), |chunk| bytes(chunk))
}

/// The sum of the 16 lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
fn total(lanes: __m512i) -> i64 {
    let low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(lanes));
    let high = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64::<1>(lanes));
    _mm512_reduce_add_epi64(_mm512_add_epi64(low, high))
}

/// Σ|v|, Σv², Σv⁴, zeros, and Σ v v' for v' to the right, below, below on the right, below on the left, of all but
/// the last sample of `here`; `above` is the row (or the rows) before, as long. None where the machine cannot.
///
/// The length is a multiple of 64 and one; |v| is at most 36, and there are at most 16 384 samples.
pub fn neighbour_sums(here: &[i8], above: &[i8]) -> Option<[i64; 8]> {
    // SAFETY: the machine has the instructions.
    available().then(|| unsafe { neighbour_sums_of(here, above) })
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
fn neighbour_sums_of(here: &[i8], above: &[i8]) -> [i64; 8] {
    // The product of bytes takes one factor unsigned: v + BIAS, so that BIAS times the sum of the other is too much.
    const BIAS: i64 = 128;
    let (n, zero, bias) = (here.len() - 1, _mm512_setzero_si512(), _mm512_set1_epi8(i8::MIN));
    let [mut absolute, mut square, mut fourth, mut sum_here, mut sum_above] = [zero; 5];
    let [mut right, mut down, mut down_right, mut down_left] = [zero; 4];
    let mut zeros = 0;
    let ones = _mm512_set1_epi8(1);
    let rows = here[..n].as_chunks::<BYTES>().0.iter().zip(here[1..].as_chunks::<BYTES>().0);
    let rows_above = above[..n].as_chunks::<BYTES>().0.iter().zip(above[1..].as_chunks::<BYTES>().0);
    for ((v, v_right), (up, up_right)) in rows.zip(rows_above) {
        let [v, v_right, up, up_right] = [v, v_right, up, up_right].map(|chunk| signed_bytes(chunk));
        let biased = _mm512_xor_si512(v, bias);
        right = _mm512_dpbusd_epi32(right, biased, v_right);
        down = _mm512_dpbusd_epi32(down, biased, up);
        down_left = _mm512_dpbusd_epi32(down_left, biased, up_right);
        down_right = _mm512_dpbusd_epi32(down_right, _mm512_xor_si512(v_right, bias), up);
        sum_here = _mm512_dpbusd_epi32(sum_here, ones, v);
        sum_above = _mm512_dpbusd_epi32(sum_above, ones, up);
        let v = _mm512_abs_epi8(v);
        absolute = _mm512_add_epi64(absolute, _mm512_sad_epu8(v, zero));
        square = _mm512_dpbusd_epi32(square, v, v);
        zeros += i64::from(_mm512_testn_epi8_mask(v, v).count_ones());
        for half in [_mm512_unpacklo_epi8(v, zero), _mm512_unpackhi_epi8(v, zero)] {
            let squares = _mm512_mullo_epi16(half, half);
            fourth = _mm512_dpwssd_epi32(fourth, squares, squares);
        }
    }
    let (sum_here, sum_above) = (total(sum_here), total(sum_above));
    let next = |row: &[i8]| i64::from(row[n]) - i64::from(row[0]);
    [
        _mm512_reduce_add_epi64(absolute),
        total(square),
        total(fourth),
        zeros,
        total(right) - BIAS * (sum_here + next(here)),
        total(down) - BIAS * sum_above,
        total(down_right) - BIAS * sum_above,
        total(down_left) - BIAS * (sum_above + next(above)),
    ]
}

/// Σ|v|, Σv², Σv⁴ and zeros of the differences of the pixels h of `window`, first and second order: v = a - h and v = a - 2 h + b, with b and
/// a as far before and after h as `step`. None where the machine cannot.
///
/// At most 32 768 pixels at once: 32-bit sums stay exact, and single precision holds the fourth powers.
pub fn difference_sums(plane: &[u8], window: Window, step: usize) -> Option<[[f64; 4]; 2]> {
    // SAFETY: the machine has the instructions.
    available().then(|| unsafe { difference_sums_of(plane, window, step) })
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
fn difference_sums_of(plane: &[u8], window: Window, step: usize) -> [[f64; 4]; 2] {
    let mut orders = [Order::new(), Order::new()];
    for y in 0..window.height {
        let here = window.start + y * window.stride;
        let row = |from: usize| plane[from..from + window.width].as_chunks::<BYTES>();
        let ((before, before_rest), (after, after_rest)) = (row(here - step), row(here + step));
        let (here, here_rest) = row(here);
        for ((before, here), after) in before.chunks(SETTLE).zip(here.chunks(SETTLE)).zip(after.chunks(SETTLE)) {
            for ((b, h), a) in before.iter().zip(here).zip(after) {
                add_differences(&mut orders, bytes(b), bytes(h), bytes(a));
            }
            for order in &mut orders {
                order.settle();
            }
        }
        if !here_rest.is_empty() {
            add_differences(&mut orders, few_bytes(before_rest), few_bytes(here_rest), few_bytes(after_rest));
            for order in &mut orders {
                order.settle();
            }
        }
    }
    let beside = (window.width.next_multiple_of(BYTES) - window.width) * window.height;
    orders.map(|order| order.finish(beside))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
fn add_differences(orders: &mut [Order; 2], b: __m512i, h: __m512i, a: __m512i) {
    let zero = _mm512_setzero_si512();
    let (h_low, h_high) = (_mm512_unpacklo_epi8(h, zero), _mm512_unpackhi_epi8(h, zero));
    let low = _mm512_sub_epi16(_mm512_unpacklo_epi8(a, zero), h_low);
    let high = _mm512_sub_epi16(_mm512_unpackhi_epi8(a, zero), h_high);
    let first = _mm512_or_si512(_mm512_subs_epu8(a, h), _mm512_subs_epu8(h, a));
    let second_low = _mm512_sub_epi16(low, _mm512_sub_epi16(h_low, _mm512_unpacklo_epi8(b, zero)));
    let second_high = _mm512_sub_epi16(high, _mm512_sub_epi16(h_high, _mm512_unpackhi_epi8(b, zero)));
    let second = _mm512_packus_epi16(_mm512_abs_epi16(second_low), _mm512_abs_epi16(second_high));
    orders[0].add_zeros(first);
    orders[1].add_zeros(second);
    if _mm512_movepi8_mask(_mm512_or_si512(first, second)) == 0 {
        orders[0].add(first, low, high);
        orders[1].add(second, second_low, second_high);
    } else {
        orders[0].add_large(low, high);
        orders[1].add_large(second_low, second_high);
    }
}

/// Σ|v|, Σv², Σv⁴ and zeros of the differences of three pixels of each 2x2 block of `window`, whose sides are even, from
/// its first: right, below, below on the right. None where the machine cannot.
///
/// At most 32 768 pixels at once.
pub fn block_sums(plane: &[u8], window: Window) -> Option<[[f64; 4]; 3]> {
    // SAFETY: the machine has the instructions.
    available().then(|| unsafe { block_sums_of(plane, window) })
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
fn block_sums_of(plane: &[u8], window: Window) -> [[f64; 4]; 3] {
    const PAIR: usize = 2 * BYTES;
    let mut orders = [Order::new(), Order::new(), Order::new()];
    for y in (0..window.height).step_by(2) {
        let row = |y: usize| plane[window.start + y * window.stride..][..window.width].chunks(SETTLE * PAIR);
        for (top, bottom) in row(y).zip(row(y + 1)) {
            for (top, bottom) in top.chunks(PAIR).zip(bottom.chunks(PAIR)) {
                let ((t0, t1), (b0, b1)) =
                    (top.split_at(top.len().min(BYTES)), bottom.split_at(bottom.len().min(BYTES)));
                add_blocks(&mut orders, [t0, t1].map(|row| first_bytes(row)), [b0, b1].map(|row| first_bytes(row)));
            }
            for order in &mut orders {
                order.settle();
            }
        }
    }
    let beside = (window.width.next_multiple_of(PAIR) - window.width) / 2 * (window.height / 2);
    orders.map(|order| order.finish(beside))
}

/// Two vectors of pixels of each of two rows, 64 blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
fn add_blocks(orders: &mut [Order; 3], top: [__m512i; 2], bottom: [__m512i; 2]) {
    let even = |v: __m512i| _mm512_and_si512(v, _mm512_set1_epi16(0xFF));
    let odd = |v: __m512i| _mm512_srli_epi16::<8>(v);
    let firsts = [even(top[0]), even(top[1])];
    let others = [[odd(top[0]), odd(top[1])], [even(bottom[0]), even(bottom[1])], [odd(bottom[0]), odd(bottom[1])]];
    for (order, others) in orders.iter_mut().zip(others) {
        let (low, high) = (_mm512_sub_epi16(others[0], firsts[0]), _mm512_sub_epi16(others[1], firsts[1]));
        let absolute = _mm512_packus_epi16(_mm512_abs_epi16(low), _mm512_abs_epi16(high));
        order.add_zeros(absolute);
        if _mm512_movepi8_mask(absolute) == 0 {
            order.add(absolute, low, high);
        } else {
            order.add_large(low, high);
        }
    }
}

/// Vectors whose 2 · 127⁴ a lane stay inside 32 bits, unsigned.
const SETTLE: usize = 8;

/// Sums over words in vectors.
struct Order {
    /// Σ|v| in 64-bit lanes, of vectors whose |v| is at most 127.
    absolute: __m512i,
    /// Σv² of those.
    square: __m512i,
    /// Σv⁴ of those, in unsigned 32-bit lanes until they settle: that of low and of high halves.
    unsettled: [__m512i; 2],
    fourth: __m512,
    zeros: u64,
    /// Σ|v| and Σv² of the other vectors, in 32-bit lanes.
    large: [__m512i; 2],
}

impl Order {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
    fn new() -> Self {
        let zero = _mm512_setzero_si512();
        Self {
            absolute: zero,
            square: zero,
            unsettled: [zero; 2],
            fourth: _mm512_setzero_ps(),
            zeros: 0,
            large: [zero; 2],
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
    fn add_zeros(&mut self, absolute: __m512i) {
        self.zeros += u64::from(_mm512_testn_epi8_mask(absolute, absolute).count_ones());
    }

    /// Differences of at most 127, as bytes without sign and as words.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
    fn add(&mut self, absolute: __m512i, low: __m512i, high: __m512i) {
        let zero = _mm512_setzero_si512();
        self.absolute = _mm512_add_epi64(self.absolute, _mm512_sad_epu8(absolute, zero));
        self.square = _mm512_dpbusd_epi32(self.square, absolute, absolute);
        let (low, high) = (_mm512_mullo_epi16(low, low), _mm512_mullo_epi16(high, high));
        self.unsettled[0] = _mm512_dpwssd_epi32(self.unsettled[0], low, low);
        self.unsettled[1] = _mm512_dpwssd_epi32(self.unsettled[1], high, high);
    }

    /// Any differences of 9 bits.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
    fn add_large(&mut self, low: __m512i, high: __m512i) {
        for v in [low, high] {
            self.large[0] = _mm512_dpwssd_epi32(self.large[0], _mm512_abs_epi16(v), _mm512_set1_epi16(1));
            self.large[1] = _mm512_dpwssd_epi32(self.large[1], v, v);
            for half in [_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64::<1>(v)] {
                let v = _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(half));
                let square = _mm512_mul_ps(v, v);
                self.fourth = _mm512_fmadd_ps(square, square, self.fourth);
            }
        }
    }

    /// To be called after [`SETTLE`] vectors at most, before the sums are read.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
    fn settle(&mut self) {
        for lanes in &mut self.unsettled {
            self.fourth = _mm512_add_ps(self.fourth, _mm512_cvtepu32_ps(*lanes));
            *lanes = _mm512_setzero_si512();
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
    fn finish(self, beside: usize) -> [f64; 4] {
        let absolute = _mm512_reduce_add_epi64(self.absolute) + total(self.large[0]);
        let square = total(self.square) + total(self.large[1]);
        let fourth = f64::from(_mm512_reduce_add_ps(self.fourth));
        [absolute as f64, square as f64, fourth, self.zeros as f64 - beside as f64]
    }
}

/// Σ of absolute differences to the right, lower, lower right and lower left neighbours inside each of one or two squares
/// of [`SIDE`] pixels side by side, whose first pixel is the first of `plane` and whose rows are `stride` apart. None
/// where the machine cannot.
pub fn step_sums(plane: &[u8], stride: usize, squares: usize) -> Option<[u32; 2]> {
    // SAFETY: the machine has the instructions.
    available().then(|| unsafe { step_sums_of(plane, stride, squares) })
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
fn step_sums_of(plane: &[u8], stride: usize, squares: usize) -> [u32; 2] {
    // The last column of a square has no neighbour to the right.
    let has_right = 0x7FFF_FFFF_7FFF_FFFF;
    let row = |y: usize| {
        let row = &plane[y * stride..][..squares * SIDE];
        let here = first_bytes(row);
        // One lane to the left of the next 8 bytes' first, across the four parts of a vector.
        let next = _mm512_alignr_epi64::<1>(_mm512_setzero_si512(), here);
        (here, _mm512_or_si512(_mm512_srli_epi64::<8>(here), _mm512_slli_epi64::<56>(next)))
    };
    let mut sums = _mm512_setzero_si512();
    let mut add = |mask: u64, a: __m512i, b: __m512i| {
        let distance = _mm512_or_si512(_mm512_maskz_subs_epu8(mask, a, b), _mm512_maskz_subs_epu8(mask, b, a));
        sums = _mm512_add_epi64(sums, _mm512_sad_epu8(distance, _mm512_setzero_si512()));
    };
    let (mut here, mut right) = row(0);
    add(has_right, here, right);
    for y in 1..SIDE {
        let (below, below_right) = row(y);
        add(u64::MAX, here, below);
        add(has_right, here, below_right);
        add(has_right, right, below);
        add(has_right, below, below_right);
        (here, right) = (below, below_right);
    }
    let total = |half: __m256i| {
        let lanes = _mm_add_epi64(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
        (_mm_extract_epi64::<0>(lanes) + _mm_extract_epi64::<1>(lanes)) as u32
    };
    [total(_mm512_castsi512_si256(sums)), total(_mm512_extracti64x4_epi64::<1>(sums))]
}

/// Side of a square of samples.
pub const SIDE: usize = WORDS;

/// Σ|v|, Σv², zeros, and Σ v v' for v' to the right, below, below on the right, below on the left inside a square of
/// samples of 9 bits whose rows are `stride` apart. None where the machine cannot.
pub fn square_sums(samples: &[i16], stride: usize) -> Option<[i32; 7]> {
    // SAFETY: the machine has the instructions.
    available().then(|| unsafe { square_sums_of(samples, stride) })
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
fn square_sums_of(samples: &[i16], stride: usize) -> [i32; 7] {
    let (zero, one) = (_mm512_setzero_si512(), _mm512_set1_epi16(1));
    let [mut absolute, mut square] = [zero; 2];
    let [mut right, mut down, mut down_right, mut down_left] = [zero; 4];
    let mut zeros = 0;
    // One row up and one sample to the right; nothing lies outside the square.
    let (mut up, mut up_right) = (zero, zero);
    for y in 0..SIDE {
        let v = words(samples, y * stride);
        let next = _mm512_alignr_epi32::<1>(zero, v);
        let v_right = _mm512_or_si512(_mm512_srli_epi32::<16>(v), _mm512_slli_epi32::<16>(next));
        absolute = _mm512_dpwssd_epi32(absolute, _mm512_abs_epi16(v), one);
        square = _mm512_dpwssd_epi32(square, v, v);
        zeros += _mm512_testn_epi16_mask(v, v).count_ones();
        right = _mm512_dpwssd_epi32(right, v, v_right);
        down = _mm512_dpwssd_epi32(down, v, up);
        down_right = _mm512_dpwssd_epi32(down_right, up, v_right);
        down_left = _mm512_dpwssd_epi32(down_left, v, up_right);
        (up, up_right) = (v, v_right);
    }
    let sums = [absolute, square, right, down, down_right, down_left];
    let [absolute, square, right, down, down_right, down_left] = sums.map(|lanes| _mm512_reduce_add_epi32(lanes));
    [absolute, square, zeros as i32, right, down, down_right, down_left]
}

/// Of e = |4 x - the four neighbours' sum| over the pixels of `window`: Σe of even rows, and with the sign of each second
/// column changed; the same two of odd rows; Σe². None where the machine cannot.
///
/// At most 32 768 pixels at once.
pub fn error_sums(plane: &[u8], window: Window) -> Option<[i64; 5]> {
    // SAFETY: the machine has the instructions.
    available().then(|| unsafe { error_sums_of(plane, window) })
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
fn error_sums_of(plane: &[u8], window: Window) -> [i64; 5] {
    let zero = _mm512_setzero_si512();
    let mut parities = [Errors { sum: zero, alternating: zero, square: zero }; 2];
    for y in 0..window.height {
        let errors = &mut parities[y % 2];
        let here = window.start + y * window.stride;
        let row = |from: usize| plane[from..from + window.width].as_chunks::<BYTES>();
        let (north, north_rest) = row(here - window.stride);
        let (west, west_rest) = row(here - 1);
        let (east, east_rest) = row(here + 1);
        let (south, south_rest) = row(here + window.stride);
        let (here, here_rest) = row(here);
        for ((((n, w), c), e), s) in north.iter().zip(west).zip(here).zip(east).zip(south) {
            errors.add(bytes(c), [bytes(n), bytes(w), bytes(e), bytes(s)]);
        }
        if !here_rest.is_empty() {
            errors
                .add(few_bytes(here_rest), [north_rest, west_rest, east_rest, south_rest].map(|rest| few_bytes(rest)));
        }
    }
    let [even, odd] = parities;
    let square = total(even.square) + total(odd.square);
    [total(even.sum), total(even.alternating), total(odd.sum), total(odd.alternating), square]
}

/// Sums over errors, in 32-bit lanes.
#[derive(Clone, Copy)]
struct Errors {
    sum: __m512i,
    alternating: __m512i,
    square: __m512i,
}

impl Errors {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,popcnt")]
    fn add(&mut self, here: __m512i, [north, west, east, south]: [__m512i; 4]) {
        // Pairs of bytes times pairs of weights: (4, -1) for the pixel and one neighbour, (1, 1) for two others.
        let (weights, ones) = (_mm512_set1_epi16(i16::from_le_bytes([4, 0xFF])), _mm512_set1_epi8(1));
        let zero = _mm512_setzero_si512();
        let error = |here_north: __m512i, west_east: __m512i, south: __m512i| {
            let rest =
                _mm512_sub_epi16(_mm512_maddubs_epi16(here_north, weights), _mm512_maddubs_epi16(west_east, ones));
            _mm512_abs_epi16(_mm512_sub_epi16(rest, south))
        };
        let low = error(
            _mm512_unpacklo_epi8(here, north),
            _mm512_unpacklo_epi8(west, east),
            _mm512_unpacklo_epi8(south, zero),
        );
        let high = error(
            _mm512_unpackhi_epi8(here, north),
            _mm512_unpackhi_epi8(west, east),
            _mm512_unpackhi_epi8(south, zero),
        );
        // Both halves start at an even column.
        let both = _mm512_add_epi16(low, high);
        self.sum = _mm512_dpwssd_epi32(self.sum, both, _mm512_set1_epi16(1));
        self.alternating = _mm512_dpwssd_epi32(self.alternating, both, _mm512_set1_epi32(0xFFFF_0001_u32 as i32));
        self.square = _mm512_dpwssd_epi32(_mm512_dpwssd_epi32(self.square, low, low), high, high);
    }
}
