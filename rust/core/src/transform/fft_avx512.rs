//! The power of a pair of 64×64 tiles, for AVX-512.
//!
//! The same four radix-8 passes as the portable kernel of [`super::fft`], in half of its time and less: sixteen columns
//! are transformed at a time, 8 KiB that stay in the first cache; samples are windowed on their way into the first
//! pass, turned by a quarter in registers on their way out of the second, and squared on their way out of the last. The
//! compiler makes gathers and scatters of the same thing written as loops.

#![allow(unsafe_code)] // intrinsics: loads and stores through raw pointers, and calls that detection has made sound
#![allow(clippy::large_types_passed_by_value)] // eight pairs of registers, always inlined

use std::arch::x86_64::{
    __m512, __m512i, _mm_loadu_si128, _mm256_castpd_ps, _mm256_loadu_si256, _mm256_storeu_ps, _mm512_add_epi32,
    _mm512_add_ps, _mm512_castpd_ps, _mm512_castps_pd, _mm512_castps512_ps256, _mm512_cvtepi16_epi32,
    _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_extractf64x4_pd, _mm512_fmadd_ps, _mm512_fmsub_ps,
    _mm512_loadu_ps, _mm512_mul_ps, _mm512_permutex2var_pd, _mm512_reduce_add_epi32, _mm512_set1_ps, _mm512_setr_epi64,
    _mm512_setzero_si512, _mm512_storeu_ps, _mm512_sub_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd,
    _mm512_unpacklo_ps,
};

use super::fft::{AREA, Complex, SIDE, Tile, twiddles};

const LANES: usize = 16;

/// Proof that the processor has AVX-512 F.
#[derive(Clone, Copy)]
pub(super) struct Available(());

/// Samples that widen to 32 bits.
pub trait Widen: Copy {
    /// Sixteen samples.
    ///
    /// # Safety
    /// The processor has AVX-512 F.
    #[doc(hidden)]
    unsafe fn widen(samples: &[Self; LANES]) -> __m512i;
}

impl Widen for u8 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn widen(samples: &[Self; LANES]) -> __m512i {
        // SAFETY: sixteen bytes are one 128-bit register.
        _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(samples.as_ptr().cast()) })
    }
}

impl Widen for i16 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn widen(samples: &[Self; LANES]) -> __m512i {
        // SAFETY: sixteen 16-bit words are one 256-bit register.
        _mm512_cvtepi16_epi32(unsafe { _mm256_loadu_si256(samples.as_ptr().cast()) })
    }
}

impl Available {
    /// What the processor says.
    #[inline]
    pub(super) fn detect() -> Option<Self> {
        std::arch::is_x86_feature_detected!("avx512f").then_some(Self(()))
    }

    /// Adds |Z(k)|² of Z = A + iB to `sum`, in the order of [`super::fft`]; A and B are the windowed tiles `first` and
    /// `second`, given from their first sample on, rows `stride` apart.
    #[allow(clippy::unused_self)] // the proof is in having it
    pub(super) fn add_pair<T: Widen>(
        self,
        first: &[T],
        second: Option<&[T]>,
        stride: usize,
        window: &[f32; SIDE],
        work: &mut Tile,
        sum: &mut [f32; AREA],
    ) {
        // SAFETY: `self` is made by detection alone.
        unsafe { add_pair(first, second, stride, window, work, sum) }
    }
}

/// An expression for i = 0 to 7; a closure would not have this function's instructions.
macro_rules! eight {
    ($i:ident => $value:expr) => {
        [
            {
                let $i = 0;
                $value
            },
            {
                let $i = 1;
                $value
            },
            {
                let $i = 2;
                $value
            },
            {
                let $i = 3;
                $value
            },
            {
                let $i = 4;
                $value
            },
            {
                let $i = 5;
                $value
            },
            {
                let $i = 6;
                $value
            },
            {
                let $i = 7;
                $value
            },
        ]
    };
}

#[target_feature(enable = "avx512f")]
fn add_pair<T: Widen>(
    first: &[T],
    second: Option<&[T]>,
    stride: usize,
    window: &[f32; SIDE],
    work: &mut Tile,
    sum: &mut [f32; AREA],
) {
    // A tile without a partner is its own: A + iA has twice the power of A.
    let (tiles, gain) = match second {
        Some(second) => ([first, second], 1.0),
        None => ([first, first], std::f32::consts::FRAC_1_SQRT_2),
    };
    let means = [mean(tiles[0], stride), mean(tiles[1], stride)];
    let mut columns: Columns = [[[0.0; LANES]; 2]; SIDE];
    for left in (0..SIDE).step_by(LANES) {
        let horizontal = _mm512_mul_ps(load(sixteen(window, left)), _mm512_set1_ps(gain));
        for (j, factors) in twiddles().iter().enumerate() {
            let z = dft8(eight!(i => {
                let (y, start) = (j + 8 * i, (j + 8 * i) * stride + left);
                let weight = _mm512_mul_ps(horizontal, _mm512_set1_ps(window[y]));
                let first = _mm512_cvtepi32_ps(widen(sixteen(tiles[0], start)));
                let second = _mm512_cvtepi32_ps(widen(sixteen(tiles[1], start)));
                (
                    _mm512_mul_ps(_mm512_sub_ps(first, means[0]), weight),
                    _mm512_mul_ps(_mm512_sub_ps(second, means[1]), weight),
                )
            }));
            for k in 0..8 {
                put(&mut columns[j + 8 * k], twist(z[k], factors[k]));
            }
        }
        for k in 0..8 {
            let z = dft8(eight!(i => get(&columns[8 * k + i])));
            turn(z.map(|z| z.0), &mut work.re, left, 8 * k);
            turn(z.map(|z| z.1), &mut work.im, left, 8 * k);
        }
    }
    for left in (0..SIDE).step_by(LANES) {
        for (j, factors) in twiddles().iter().enumerate() {
            let z = dft8(eight!(i => {
                let start = (j + 8 * i) * SIDE + left;
                (load(sixteen(&*work.re, start)), load(sixteen(&*work.im, start)))
            }));
            for k in 0..8 {
                put(&mut columns[j + 8 * k], twist(z[k], factors[k]));
            }
        }
        for k in 0..8 {
            let z = dft8(eight!(i => get(&columns[8 * k + i])));
            for m in 0..8 {
                let sum: &mut [f32; LANES] = super::lanes::window_mut(sum, (8 * k + m) * SIDE + left);
                let (re, im) = z[m];
                store(sum, _mm512_fmadd_ps(re, re, _mm512_fmadd_ps(im, im, load(sum))));
            }
        }
    }
}

/// Real and imaginary parts of sixteen columns.
type Two = (__m512, __m512);

/// Sixteen columns of a tile: `[row][part][column]`.
type Columns = [[[f32; LANES]; 2]; SIDE];

#[inline(always)]
fn sixteen<T>(values: &[T], start: usize) -> &[T; LANES] {
    super::lanes::window(values, start)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn widen<T: Widen>(samples: &[T; LANES]) -> __m512i {
    // SAFETY: this function has the feature, too.
    unsafe { T::widen(samples) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32; LANES]) -> __m512 {
    // SAFETY: sixteen floats are one register.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(values: &mut [f32; LANES], vector: __m512) {
    // SAFETY: sixteen floats are one register.
    unsafe { _mm512_storeu_ps(values.as_mut_ptr(), vector) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn get(row: &[[f32; LANES]; 2]) -> Two {
    (load(&row[0]), load(&row[1]))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn put(row: &mut [[f32; LANES]; 2], z: Two) {
    store(&mut row[0], z.0);
    store(&mut row[1], z.1);
}

/// The mean of a tile, in every lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn mean<T: Widen>(tile: &[T], stride: usize) -> __m512 {
    let mut sums = [_mm512_setzero_si512(); SIDE / LANES];
    for y in 0..SIDE {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = _mm512_add_epi32(*sum, widen(sixteen(tile, y * stride + i * LANES)));
        }
    }
    let total = _mm512_add_epi32(_mm512_add_epi32(sums[0], sums[1]), _mm512_add_epi32(sums[2], sums[3]));
    _mm512_set1_ps(_mm512_reduce_add_epi32(total) as f32 / AREA as f32)
}

/// Eight rows of sixteen columns from column `left` on become columns `top` to `top + 7` of rows `left` to `left + 15`.
#[inline]
#[target_feature(enable = "avx512f")]
fn turn(r: [__m512; 8], out: &mut [f32; AREA], left: usize, top: usize) {
    let upper = four([r[0], r[1], r[2], r[3]]);
    let lower = four([r[4], r[5], r[6], r[7]]);
    let orders = [_mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15)];
    for column in 0..4 {
        for (i, order) in orders.into_iter().enumerate() {
            let pair = _mm512_permutex2var_pd(_mm512_castps_pd(upper[column]), order, _mm512_castps_pd(lower[column]));
            let low = _mm512_castps512_ps256(_mm512_castpd_ps(pair));
            let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(pair));
            for (row, eight) in [(column + 8 * i, low), (column + 8 * i + 4, high)] {
                let to: &mut [f32; 8] = super::lanes::window_mut(out, (left + row) * SIDE + top);
                // SAFETY: eight floats are one 256-bit register.
                unsafe { _mm256_storeu_ps(to.as_mut_ptr(), eight) };
            }
        }
    }
}

/// Transposes each of the four 4×4 squares that stand side by side: register c holds columns c, 4 + c, 8 + c, 12 + c.
#[inline]
#[target_feature(enable = "avx512f")]
fn four(r: [__m512; 4]) -> [__m512; 4] {
    let a = _mm512_castps_pd(_mm512_unpacklo_ps(r[0], r[1]));
    let b = _mm512_castps_pd(_mm512_unpackhi_ps(r[0], r[1]));
    let c = _mm512_castps_pd(_mm512_unpacklo_ps(r[2], r[3]));
    let d = _mm512_castps_pd(_mm512_unpackhi_ps(r[2], r[3]));
    [
        _mm512_castpd_ps(_mm512_unpacklo_pd(a, c)),
        _mm512_castpd_ps(_mm512_unpackhi_pd(a, c)),
        _mm512_castpd_ps(_mm512_unpacklo_pd(b, d)),
        _mm512_castpd_ps(_mm512_unpackhi_pd(b, d)),
    ]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn dft8(x: [Two; 8]) -> [Two; 8] {
    let [e0, e1, e2, e3] = dft4(x[0], x[2], x[4], x[6]);
    let [o0, o1, o2, o3] = dft4(x[1], x[3], x[5], x[7]);
    let half = _mm512_set1_ps(std::f32::consts::FRAC_1_SQRT_2);
    // o1 (1 - i), o2 (-i) and o3 (-1 - i), the square roots of one half still to come.
    let o1 = (_mm512_add_ps(o1.0, o1.1), _mm512_sub_ps(o1.1, o1.0));
    let o3 = (_mm512_sub_ps(o3.1, o3.0), _mm512_add_ps(o3.0, o3.1));
    let o1 = (_mm512_mul_ps(o1.0, half), _mm512_mul_ps(o1.1, half));
    let o3 = (_mm512_mul_ps(o3.0, half), _mm512_mul_ps(o3.1, half));
    [
        plus(e0, o0),
        plus(e1, o1),
        (_mm512_add_ps(e2.0, o2.1), _mm512_sub_ps(e2.1, o2.0)),
        (_mm512_add_ps(e3.0, o3.0), _mm512_sub_ps(e3.1, o3.1)),
        minus(e0, o0),
        minus(e1, o1),
        (_mm512_sub_ps(e2.0, o2.1), _mm512_add_ps(e2.1, o2.0)),
        (_mm512_sub_ps(e3.0, o3.0), _mm512_add_ps(e3.1, o3.1)),
    ]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn dft4(a: Two, b: Two, c: Two, d: Two) -> [Two; 4] {
    let (s, t) = (plus(a, c), minus(a, c));
    let (u, v) = (plus(b, d), minus(b, d));
    [
        plus(s, u),
        (_mm512_add_ps(t.0, v.1), _mm512_sub_ps(t.1, v.0)),
        minus(s, u),
        (_mm512_sub_ps(t.0, v.1), _mm512_add_ps(t.1, v.0)),
    ]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn plus(a: Two, b: Two) -> Two {
    (_mm512_add_ps(a.0, b.0), _mm512_add_ps(a.1, b.1))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn minus(a: Two, b: Two) -> Two {
    (_mm512_sub_ps(a.0, b.0), _mm512_sub_ps(a.1, b.1))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn twist(z: Two, factor: Complex) -> Two {
    let (re, im) = (_mm512_set1_ps(factor.0), _mm512_set1_ps(factor.1));
    (_mm512_fmsub_ps(z.0, re, _mm512_mul_ps(z.1, im)), _mm512_fmadd_ps(z.0, im, _mm512_mul_ps(z.1, re)))
}
