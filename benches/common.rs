//! Seeded inputs shared by the benches.

use mllmrisk_core::image::Image;

/// A photograph-like RGB image: smooth shading, edges and a little noise, the same for the same seed.
///
/// # Panics
/// Never: the buffer is made to the size of the image.
pub fn photograph(width: u32, height: u32, seed: u64) -> Image {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut data = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            for c in 0..3_u32 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let noise = (state & 15) as f32 - 7.5;
                let shade = 110.0 + 60.0 * (x as f32 / 37.0 + c as f32).sin() * (y as f32 / 53.0).cos();
                let edge = if (x / 64 + y / 48).is_multiple_of(2) { 25.0 } else { -25.0 };
                data.push((shade + edge + noise).clamp(0.0, 255.0) as u8);
            }
        }
    }
    Image::from_rgb(width, height, data).expect("the buffer has the size of the image")
}

/// `count` values, uniform in [0, 1), the same for the same seed.
pub fn uniform(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..count).map(|_| next()).collect()
}
