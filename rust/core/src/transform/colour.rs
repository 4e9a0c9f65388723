//! Interleaved RGB to planes.

use multiversion::multiversion;

use crate::image::Plane;

/// Splits R G B R G B … into its three planes.
pub fn split(rgb: &[u8]) -> [Vec<u8>; 3] {
    let mut planes = [0; 3].map(|_: i32| vec![0_u8; rgb.len() / 3]);
    let [red, green, blue] = &mut planes;
    split_into(rgb, red, green, blue);
    planes
}

#[multiversion(targets = "simd")]
fn split_into(rgb: &[u8], red: &mut [u8], green: &mut [u8], blue: &mut [u8]) {
    for (((pixel, r), g), b) in rgb.chunks_exact(3).zip(red).zip(green).zip(blue) {
        *r = pixel[0];
        *g = pixel[1];
        *b = pixel[2];
    }
}

/// BT.601 luma, rounded: (19595 R + 38470 G + 7471 B + 32768) >> 16.
pub fn luma(channels: &[Plane<u8>; 3]) -> Vec<u8> {
    let mut luma = vec![0; channels[0].data.len()];
    luma_into(&channels[0].data, &channels[1].data, &channels[2].data, &mut luma);
    luma
}

#[multiversion(targets = "simd")]
fn luma_into(red: &[u8], green: &[u8], blue: &[u8], luma: &mut [u8]) {
    for (((r, g), b), y) in red.iter().zip(green).zip(blue).zip(luma) {
        *y = ((19595 * u32::from(*r) + 38470 * u32::from(*g) + 7471 * u32::from(*b) + 32768) >> 16) as u8;
    }
}
