//! Filters of integer taps: exact, so that every machine counts the same residuals.

use multiversion::multiversion;

use crate::image::Plane;

/// Pixels on each side of a [`Taps`] kernel: residuals are made where the whole kernel lies on the image.
pub const MARGIN: usize = 2;

/// A 5×5 kernel of integer taps, row after row, its centre in the middle.
pub type Taps = [[i16; 5]; 5];

/// A kernel known at compile time, so that taps of zero cost nothing.
pub trait Kernel {
    /// The taps; their absolute values sum to 128 at most, so that residuals of 8-bit pixels fit 16 bits.
    const TAPS: Taps;
}

/// `taps` turned by 90 degrees, counter-clockwise.
pub const fn turned(taps: Taps) -> Taps {
    let mut out = [[0; 5]; 5];
    let mut y = 0;
    while y < 5 {
        let mut x = 0;
        while x < 5 {
            out[4 - x][y] = taps[y][x];
            x += 1;
        }
        y += 1;
    }
    out
}

/// Correlates `K` with rows `top + MARGIN ..` of `plane` into `out`: whole rows of `width - 2 * MARGIN` residuals.
#[multiversion(targets = "simd")]
pub fn correlate_rows<K: Kernel>(plane: &Plane<i16>, top: usize, out: &mut [i16]) {
    let width = plane.width - 2 * MARGIN;
    for (y, out_row) in out.chunks_exact_mut(width).enumerate() {
        // One slice of exactly `width` values per tap: no bound is left to check in the loop over pixels.
        let mut window: [[&[i16]; 5]; 5] = [[&[]; 5]; 5];
        for (dy, row) in window.iter_mut().enumerate() {
            for (dx, tap) in row.iter_mut().enumerate() {
                let start = (top + y + dy) * plane.width + dx;
                *tap = &plane.data[start..start + width];
            }
        }
        for (x, residual) in out_row.iter_mut().enumerate() {
            let mut sum = 0_i16;
            for dy in 0..5 {
                for dx in 0..5 {
                    if K::TAPS[dy][dx] != 0 {
                        sum += K::TAPS[dy][dx] * window[dy][dx][x];
                    }
                }
            }
            *residual = sum;
        }
    }
}
