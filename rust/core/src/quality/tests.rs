use proptest::prelude::*;

use super::{Measured, STATISTICS, distance, measure};
use crate::error::Error;
use crate::image::Image;

fn image(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 3]) -> Image {
    let data = (0..height).flat_map(|y| (0..width).map(move |x| (y, x))).flat_map(|(y, x)| pixel(y, x)).collect();
    Image::from_rgb(width, height, data).expect("sizes fit")
}

fn grey(width: u32, height: u32, level: impl Fn(u32, u32) -> u8) -> Measured {
    measure("test", &image(width, height, |y, x| [level(y, x); 3])).expect("large enough")
}

fn value(measured: &Measured, name: &str) -> f32 {
    let index = STATISTICS.iter().position(|about| about.name == name).expect("a known name");
    measured.values[index]
}

/// White noise that needs no generator: the finaliser of `MurmurHash3` over the position.
fn noise(y: u32, x: u32) -> u8 {
    let mut h = y.wrapping_mul(0x9E37_79B1) ^ x.wrapping_mul(0x85EB_CA77);
    h ^= h >> 16;
    h = h.wrapping_mul(0x85EB_CA6B);
    h ^= h >> 13;
    h = h.wrapping_mul(0xC2B2_AE35);
    (h >> 16) as u8
}

/// A smooth scene with an off-centre blob: no symmetry, no repetition.
fn scene(y: u32, x: u32, side: u32) -> u8 {
    let (y, x) = (f64::from(y) / f64::from(side), f64::from(x) / f64::from(side));
    let blob = 120.0 * (-((x - 0.3).powi(2) + (y - 0.6).powi(2)) / 0.03).exp();
    (40.0 + 60.0 * y + 25.0 * (5.0 * x).sin() + blob).clamp(0.0, 255.0) as u8
}

fn near(a: f32, b: f32, within: f32) {
    assert!((a - b).abs() <= within, "{a} is not {b} ± {within}");
}

#[test]
fn names_are_distinct() {
    let mut names: Vec<&str> = STATISTICS.iter().map(|about| about.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), STATISTICS.len());
}

#[test]
fn a_constant_picture_has_no_spread_and_repeats_nothing() {
    let flat = grey(100, 70, |_, _| 77);
    near(value(&flat, "mean"), 77.0, 0.0);
    for name in ["deviation", "entropy", "clipped", "laplacian", "tiles", "dark", "bright", "seams"] {
        near(value(&flat, name), 0.0, 1e-6);
    }
    near(value(&flat, "common"), 1.0, 0.0);
    near(value(&flat, "neighbour"), 1.0, 0.0);
}

#[test]
fn black_and_white_are_clipped() {
    let black = grey(64, 64, |_, _| 0);
    for (name, expected) in [("dark", 1.0), ("bright", 0.0), ("clipped", 1.0)] {
        near(value(&black, name), expected, 0.0);
    }
    let halves = grey(64, 64, |y, _| if y < 16 { 0 } else { 255 });
    for (name, expected) in [("dark", 0.25), ("bright", 0.75), ("clipped", 1.0)] {
        near(value(&halves, name), expected, 0.0);
    }
    near(value(&halves, "entropy"), 0.811_278_1, 1e-6);
}

#[test]
fn white_noise_has_no_neighbours_and_a_level_spectrum() {
    let noise = grey(256, 256, noise);
    near(value(&noise, "neighbour"), 0.0, 0.02);
    near(value(&noise, "coarse"), 0.0, 0.1);
    near(value(&noise, "slope"), 0.0, 0.1);
    assert!(value(&noise, "misfit") > 0.3, "level is not natural");
    assert!(value(&noise, "entropy") > 7.9);
    assert!(value(&noise, "tiles") < 0.2);
    // var(4x) + 4 var(x) = 20 var(x) for independent pixels
    near(value(&noise, "laplacian") / value(&noise, "deviation").powi(2), 20.0, 0.5);
}

#[test]
fn grains_of_noise_are_seen_in_the_little_picture() {
    let grains = grey(256, 256, |y, x| noise(y / 8, x / 8));
    assert!(value(&grains, "neighbour") > 0.8);
    near(value(&grains, "coarse"), 0.0, 0.1);
    let scene = grey(256, 256, |y, x| scene(y, x, 256));
    assert!(value(&scene, "coarse") > 0.9);
}

#[test]
fn a_step_has_the_power_law_of_edges() {
    // One edge: power as 1/f² along its normal, averaged over rings as 1/f³.
    let edge = grey(64, 64, |_, x| if x < 32 { 60 } else { 180 });
    near(value(&edge, "slope"), -3.0, 0.4);
}

#[test]
fn repeated_tiles_are_found_at_any_period_and_scenes_are_not() {
    for period in [64, 80, 128] {
        let tiles = grey(320, 320, |y, x| scene(y % period, x % period, period));
        assert!(value(&tiles, "tiles") > 0.8, "period {period}: {}", value(&tiles, "tiles"));
    }
    assert!(value(&grey(320, 320, |y, x| scene(y, x, 320)), "tiles") < 0.3);
}

#[test]
fn shuffled_blocks_have_seams() {
    let sound = grey(256, 256, |y, x| scene(y, x, 256));
    let shuffled = grey(256, 256, |y, x| {
        let block = u32::from(noise(y / 16 + 31, x / 16 + 7));
        scene(block % 16 * 16 + y % 16, block / 16 * 16 + x % 16, 256)
    });
    assert!(value(&sound, "seams") < 1.5, "{}", value(&sound, "seams"));
    assert!(value(&shuffled, "seams") > 20.0, "{}", value(&shuffled, "seams"));
}

#[test]
fn a_hash_survives_resizing_and_tells_scenes_apart() {
    let hash = |side: u32| grey(side, side, |y, x| scene(y, x, side)).hash;
    assert!(distance(hash(512), hash(300)) <= 3);
    let other = grey(512, 512, |y, x| scene(511 - x, y, 512)).hash;
    assert!(distance(hash(512), other) >= 16);
    assert_eq!(grey(64, 64, |_, _| 10).hash, grey(300, 200, |_, _| 250).hash);
    assert_eq!(distance(0, u64::MAX), 64);
}

#[test]
fn a_picture_under_64_px_is_too_small() {
    let small = image(200, 63, |_, _| [0; 3]);
    assert!(matches!(measure("small", &small), Err(Error::TooSmall { min: 64, .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_value_is_finite_and_within_its_bounds(
        width in 64_u32..150,
        height in 64_u32..150,
        seed in any::<u32>(),
        low in any::<u8>(),
        range in 1_u8..=255,
        grain in 1_u32..40,
    ) {
        let pixel = |y: u32, x: u32| [0, 1, 2].map(|c| {
            low.saturating_add(noise((y / grain) ^ seed, (x / grain) * 3 + c) % range)
        });
        let measured = measure("any", &image(width, height, pixel)).expect("large enough");
        for (about, v) in STATISTICS.iter().zip(measured.values) {
            prop_assert!(v.is_finite(), "{} is {v}", about.name);
            let bounds = match about.name {
                "common" | "dark" | "bright" | "clipped" | "tiles" => 0.0..=1.0,
                "entropy" => 0.0..=8.0,
                "mean" => 0.0..=255.0,
                "deviation" => 0.0..=127.5,
                "neighbour" | "coarse" => -2.5..=1.0,
                "slope" => -20.0..=20.0,
                _ => 0.0..=f32::MAX,
            };
            prop_assert!(bounds.contains(&v), "{} is {v}", about.name);
        }
    }

    #[test]
    fn mirroring_moves_neither_counts_nor_differences(seed in any::<u32>()) {
        let level = |y: u32, x: u32| noise((y / 3) ^ seed, x / 5);
        let (plain, mirrored) = (grey(128, 96, level), grey(128, 96, |y, x| level(y, 127 - x)));
        for name in ["mean", "deviation", "entropy", "clipped", "laplacian", "neighbour"] {
            prop_assert!((value(&plain, name) - value(&mirrored, name)).abs() <= 1e-4 * value(&plain, name).abs());
        }
    }
}
