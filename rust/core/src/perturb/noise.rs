//! Seeded Gaussian noise.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::error::Result;
use crate::image::Image;

/// The seed of the step at `place`: its own stream for each place.
pub(super) fn seed_at(seed: u64, place: u64) -> u64 {
    seed.wrapping_add(place.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// Adds N(0, sigma²) to every sample, rounded and clamped to 0…255.
pub(super) fn add(image: Image, sigma: f64, seed: u64) -> Result<Image> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let (width, height) = (image.width(), image.height());
    let mut data = image.into_data();
    for pair in data.chunks_mut(2) {
        for (value, normal) in pair.iter_mut().zip(normal_pair(&mut random)) {
            *value = (f64::from(*value) + sigma * normal).round().clamp(0.0, 255.0) as u8;
        }
    }
    Image::from_rgb(width, height, data)
}

/// Two independent standard normal values (Box and Muller, 1958).
fn normal_pair(random: &mut Xoshiro256PlusPlus) -> [f64; 2] {
    // 53 bits; the first uniform is from (0, 1], so that its logarithm is finite.
    let mut uniform = || (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * uniform()).sin_cos();
    [radius * cos, radius * sin]
}
