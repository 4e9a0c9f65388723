//! Bytes to normalised floats, one row at a time.

use multiversion::multiversion;

/// (sample · scale - mean) / std, in this order of operations and single precision: what `NumPy` gives.
pub(super) struct Affine {
    pub(super) scale: f32,
    pub(super) mean: [f32; 3],
    pub(super) std: [f32; 3],
}

/// R G B R G B … to a row of each of three planes; blue first with `bgr`.
#[multiversion(targets = "simd")]
pub(super) fn planar(row: &[u8], out: [&mut [f32]; 3], affine: &Affine, bgr: bool) {
    let Affine { scale, mean, std } = affine;
    let [mut a, b, mut c] = out;
    let (mut first, mut last) = (0, 2);
    if bgr {
        std::mem::swap(&mut a, &mut c);
        (first, last) = (2, 0);
    }
    for (((pixel, a), b), c) in row.as_chunks::<3>().0.iter().zip(a).zip(b).zip(c) {
        *a = (f32::from(pixel[0]) * scale - mean[first]) / std[first];
        *b = (f32::from(pixel[1]) * scale - mean[1]) / std[1];
        *c = (f32::from(pixel[2]) * scale - mean[last]) / std[last];
    }
}

/// R G B R G B … to floats in the same places; B G R with `bgr`.
#[multiversion(targets = "simd")]
pub(super) fn interleaved(row: &[u8], out: &mut [f32], affine: &Affine, bgr: bool) {
    let Affine { scale, mean, std } = affine;
    let order = if bgr { [2, 1, 0] } else { [0, 1, 2] };
    for (pixel, out) in row.as_chunks::<3>().0.iter().zip(out.as_chunks_mut::<3>().0) {
        for k in 0..3 {
            out[k] = (f32::from(pixel[order[k]]) * scale - mean[k]) / std[k];
        }
    }
}
