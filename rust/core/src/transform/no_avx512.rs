//! What the module of this name has where there is no AVX-512: nothing, so that callers take their portable loops.

use super::lanes::Window;

/// None.
pub fn neighbour_sums(_here: &[i16], _above: &[i16]) -> Option<[i64; 8]> {
    None
}

/// None.
pub fn difference_sums(_plane: &[u8], _window: Window, _step: usize) -> Option<[[f64; 4]; 2]> {
    None
}

/// None.
pub fn square_sums(_samples: &[i16], _stride: usize) -> Option<[i32; 7]> {
    None
}

/// None.
pub fn step_sums(_plane: &[u8], _stride: usize, _squares: usize) -> Option<[u32; 2]> {
    None
}

/// None.
pub fn error_sums(_plane: &[u8], _window: Window) -> Option<[i64; 5]> {
    None
}

/// None.
pub fn block_sums(_plane: &[u8], _window: Window) -> Option<[[f64; 4]; 3]> {
    None
}
