//! Vectors of floats, the widest that the machine has, chosen when the program runs.
//!
//! Lane loops that the compiler vectorises are this crate's usual way. Transforms are written over explicit vectors: a
//! butterfly of eight complex vectors fills the register file, and the compiler moves its arrays through the stack; it
//! also makes no shuffles of a transposition (docs/design/0017 has the figures).

#![allow(unsafe_code)] // intrinsics, each behind the run-time check in `widest`; one view of complex numbers as floats

use rustfft::num_complex::Complex32;

/// Arithmetic of a vector, lane by lane.
pub(super) trait Real: Copy {
    fn splat(value: f32) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// `self * factor + term`.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// `self * factor - term`.
    fn mul_sub(self, factor: Self, term: Self) -> Self;
}

/// A vector of `N` floats.
pub(super) trait Lanes<const N: usize>: Real {
    fn load(from: &[f32; N]) -> Self;
    fn store(self, to: &mut [f32; N]);
    /// Real and imaginary parts of `2 N` floats, in an order of lanes that [`Lanes::join`] undoes.
    fn split(first: Self, second: Self) -> (Self, Self);
    /// What [`Lanes::split`] splits.
    fn join(re: Self, im: Self) -> (Self, Self);
    /// Lane `i` of vector `j` becomes lane `j` of vector `i`.
    fn transpose(square: [Self; N]) -> [Self; N];
}

/// Something that is compiled once for each width of vectors; every function on its way is `inline(always)`.
pub(super) trait Work {
    fn run<const N: usize, V: Lanes<N>>(self);
}

/// The widest vectors that may be used: 16, 8, or 0 for none but [`Portable`].
#[cfg(not(test))]
const fn most_lanes() -> usize {
    16
}

#[cfg(test)]
thread_local! {
    /// So that tests see every kind of vectors that the machine has.
    pub(super) static MOST_LANES: std::cell::Cell<usize> = const { std::cell::Cell::new(16) };
}

#[cfg(test)]
fn most_lanes() -> usize {
    MOST_LANES.get()
}

/// Does `work` with the machine's widest vectors.
#[inline]
pub(super) fn widest(work: impl Work) {
    #[cfg(target_arch = "x86_64")]
    {
        if most_lanes() >= 16 && is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512F.
            return unsafe { x86::avx512(work) };
        }
        if most_lanes() >= 8 && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has AVX2 and FMA.
            return unsafe { x86::avx2(work) };
        }
    }
    work.run::<8, Portable>();
}

/// Complex numbers as floats: re, im, re, im, ….
pub(super) fn floats(complex: &[Complex32]) -> &[f32] {
    // SAFETY: `Complex` is two floats one after the other (`repr(C)`).
    unsafe { std::slice::from_raw_parts(complex.as_ptr().cast(), 2 * complex.len()) }
}

/// As [`floats`], to be written.
pub(super) fn floats_mut(complex: &mut [Complex32]) -> &mut [f32] {
    // SAFETY: as for `floats`; the borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(complex.as_mut_ptr().cast(), 2 * complex.len()) }
}

/// Eight floats for the compiler to map onto what there is: NEON, SSE2.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; 8]);

impl Portable {
    #[inline(always)]
    fn each(self, other: Self, term: Self, op: impl Fn(f32, f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| op(self.0[i], other.0[i], term.0[i])))
    }
}

impl Real for Portable {
    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; 8])
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.each(other, self, |a, b, _| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.each(other, self, |a, b, _| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.each(other, self, |a, b, _| a * b)
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        self.each(factor, term, |a, b, c| a * b + c)
    }
    #[inline(always)]
    fn mul_sub(self, factor: Self, term: Self) -> Self {
        self.each(factor, term, |a, b, c| a * b - c)
    }
}

impl Lanes<8> for Portable {
    #[inline(always)]
    fn load(from: &[f32; 8]) -> Self {
        Self(*from)
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; 8]) {
        *to = self.0;
    }
    #[inline(always)]
    fn split(first: Self, second: Self) -> (Self, Self) {
        let at = |i: usize| if i < 8 { first.0[i] } else { second.0[i - 8] };
        (Self(std::array::from_fn(|i| at(2 * i))), Self(std::array::from_fn(|i| at(2 * i + 1))))
    }
    #[inline(always)]
    fn join(re: Self, im: Self) -> (Self, Self) {
        let at = |i: usize| if i.is_multiple_of(2) { re.0[i / 2] } else { im.0[i / 2] };
        (Self(std::array::from_fn(at)), Self(std::array::from_fn(|i| at(i + 8))))
    }
    #[inline(always)]
    fn transpose(square: [Self; 8]) -> [Self; 8] {
        std::array::from_fn(|i| Self(std::array::from_fn(|j| square[j].0[i])))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! SAFETY, of every intrinsic here: vectors of these types are only made inside [`avx512`] and [`avx2`], whose
    //! callers have asked the processor.

    use std::arch::x86_64::{
        __m256, __m512, _mm256_add_ps, _mm256_castpd_ps, _mm256_castps_pd, _mm256_fmadd_ps, _mm256_fmsub_ps,
        _mm256_loadu_ps, _mm256_mul_ps, _mm256_permute2f128_ps, _mm256_set1_ps, _mm256_shuffle_ps, _mm256_storeu_ps,
        _mm256_sub_ps, _mm256_unpackhi_pd, _mm256_unpackhi_ps, _mm256_unpacklo_pd, _mm256_unpacklo_ps, _mm512_add_ps,
        _mm512_castpd_ps, _mm512_castps_pd, _mm512_fmadd_ps, _mm512_fmsub_ps, _mm512_loadu_ps, _mm512_mul_ps,
        _mm512_set1_ps, _mm512_shuffle_f32x4, _mm512_shuffle_ps, _mm512_storeu_ps, _mm512_sub_ps, _mm512_unpackhi_pd,
        _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
    };

    use super::{Lanes, Real, Work};

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512(work: impl Work) {
        work.run::<16, __m512>();
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2(work: impl Work) {
        work.run::<8, __m256>();
    }

    /// What both widths have in common.
    macro_rules! vectors {
        ($vector:ty, $lanes:literal, $splat:ident, $add:ident, $sub:ident, $mul:ident, $fmadd:ident, $fmsub:ident,
         $load:ident, $store:ident, $shuffle:ident, $low:ident, $high:ident, $transpose:ident) => {
            impl Real for $vector {
                #[inline(always)]
                fn splat(value: f32) -> Self {
                    unsafe { $splat(value) }
                }
                #[inline(always)]
                fn add(self, other: Self) -> Self {
                    unsafe { $add(self, other) }
                }
                #[inline(always)]
                fn sub(self, other: Self) -> Self {
                    unsafe { $sub(self, other) }
                }
                #[inline(always)]
                fn mul(self, other: Self) -> Self {
                    unsafe { $mul(self, other) }
                }
                #[inline(always)]
                fn mul_add(self, factor: Self, term: Self) -> Self {
                    unsafe { $fmadd(self, factor, term) }
                }
                #[inline(always)]
                fn mul_sub(self, factor: Self, term: Self) -> Self {
                    unsafe { $fmsub(self, factor, term) }
                }
            }

            impl Lanes<$lanes> for $vector {
                #[inline(always)]
                fn load(from: &[f32; $lanes]) -> Self {
                    unsafe { $load(from.as_ptr()) }
                }
                #[inline(always)]
                fn store(self, to: &mut [f32; $lanes]) {
                    unsafe { $store(to.as_mut_ptr(), self) }
                }
                #[inline(always)]
                fn split(first: Self, second: Self) -> (Self, Self) {
                    unsafe { ($shuffle::<0b10_00_10_00>(first, second), $shuffle::<0b11_01_11_01>(first, second)) }
                }
                #[inline(always)]
                fn join(re: Self, im: Self) -> (Self, Self) {
                    unsafe { ($low(re, im), $high(re, im)) }
                }
                #[inline(always)]
                fn transpose(square: [Self; $lanes]) -> [Self; $lanes] {
                    unsafe { $transpose(square) }
                }
            }
        };
    }

    vectors!(
        __m512,
        16,
        _mm512_set1_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_fmadd_ps,
        _mm512_fmsub_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_shuffle_ps,
        _mm512_unpacklo_ps,
        _mm512_unpackhi_ps,
        transpose16
    );
    vectors!(
        __m256,
        8,
        _mm256_set1_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_fmadd_ps,
        _mm256_fmsub_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_shuffle_ps,
        _mm256_unpacklo_ps,
        _mm256_unpackhi_ps,
        transpose8
    );

    /// Squares of 4×4 inside the quarters of the vectors, then the quarters.
    #[inline]
    #[target_feature(enable = "avx512f")]
    #[allow(clippy::large_types_passed_by_value)] // they are in registers
    fn transpose16(rows: [__m512; 16]) -> [__m512; 16] {
        const EVEN: i32 = 0b10_00_10_00;
        const ODD: i32 = 0b11_01_11_01;
        // In quarter q of `fours[4 g + c]`: column 4 q + c of rows 4 g to 4 g + 3.
        let mut fours = rows;
        for g in 0..4 {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| rows[4 * g + i]);
            let (low, high) = (_mm512_castps_pd(_mm512_unpacklo_ps(a, b)), _mm512_castps_pd(_mm512_unpackhi_ps(a, b)));
            let (low2, high2) =
                (_mm512_castps_pd(_mm512_unpacklo_ps(c, d)), _mm512_castps_pd(_mm512_unpackhi_ps(c, d)));
            fours[4 * g] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, low2));
            fours[4 * g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, low2));
            fours[4 * g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high, high2));
            fours[4 * g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high, high2));
        }
        let mut columns = fours;
        for c in 0..4 {
            let even = _mm512_shuffle_f32x4::<EVEN>(fours[c], fours[4 + c]);
            let odd = _mm512_shuffle_f32x4::<ODD>(fours[c], fours[4 + c]);
            let even2 = _mm512_shuffle_f32x4::<EVEN>(fours[8 + c], fours[12 + c]);
            let odd2 = _mm512_shuffle_f32x4::<ODD>(fours[8 + c], fours[12 + c]);
            columns[c] = _mm512_shuffle_f32x4::<EVEN>(even, even2);
            columns[4 + c] = _mm512_shuffle_f32x4::<EVEN>(odd, odd2);
            columns[8 + c] = _mm512_shuffle_f32x4::<ODD>(even, even2);
            columns[12 + c] = _mm512_shuffle_f32x4::<ODD>(odd, odd2);
        }
        columns
    }

    /// As [`transpose16`], with halves for quarters.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn transpose8(rows: [__m256; 8]) -> [__m256; 8] {
        let mut fours = rows;
        for g in 0..2 {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| rows[4 * g + i]);
            let (low, high) = (_mm256_castps_pd(_mm256_unpacklo_ps(a, b)), _mm256_castps_pd(_mm256_unpackhi_ps(a, b)));
            let (low2, high2) =
                (_mm256_castps_pd(_mm256_unpacklo_ps(c, d)), _mm256_castps_pd(_mm256_unpackhi_ps(c, d)));
            fours[4 * g] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, low2));
            fours[4 * g + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, low2));
            fours[4 * g + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high, high2));
            fours[4 * g + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high, high2));
        }
        let mut columns = fours;
        for c in 0..4 {
            columns[c] = _mm256_permute2f128_ps::<0x20>(fours[c], fours[4 + c]);
            columns[4 + c] = _mm256_permute2f128_ps::<0x31>(fours[c], fours[4 + c]);
        }
        columns
    }
}
