use super::{Crop, Padding, Preprocessing, Resampling, Rounding, View};
use crate::codec::Limits;
use crate::image::Image;
use crate::transform::resize::{Kernel, resize};

fn how(crop: Crop, size: (u32, u32)) -> Preprocessing {
    Preprocessing {
        crop,
        size,
        resampling: Resampling::Antialiased(Kernel::Bicubic),
        rounding: Rounding::Even,
        padding: Padding::Constant(0),
        bgr: false,
        interleaved: true,
        scale: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
        minimum: 1,
    }
}

fn image(width: u32, height: u32) -> Image {
    let data = (0..width * height * 3).map(|i| (i * 89 % 253) as u8).collect();
    Image::from_rgb(width, height, data).expect("its size is right")
}

fn row(how: &Preprocessing, image: &Image) -> Vec<f32> {
    let mut out = vec![f32::NAN; how.length().expect("one row")];
    how.write("image", image, View::default(), &mut out).expect("it is large enough");
    out
}

#[test]
fn squash_is_resize() {
    let image = image(40, 31);
    let resized = resize(&image, 17, 24, Kernel::Bicubic).expect("possible");
    let expected: Vec<f32> = resized.data().iter().map(|&value| f32::from(value)).collect();
    assert_eq!(row(&how(Crop::Squash, (24, 17)), &image), expected);
}

#[test]
fn planes_and_blue_first_are_the_same_numbers_elsewhere() {
    let image = image(20, 10);
    let mut how = how(Crop::Centre, (10, 20));
    how.scale = 0.5;
    how.mean = [1.0, 2.0, 3.0];
    how.std = [4.0, 5.0, 6.0];
    let mixed = row(&how, &image);
    how.interleaved = false;
    let planes = row(&how, &image);
    how.bgr = true;
    let blue_first = row(&how, &image);
    for (i, pixel) in image.data().chunks_exact(3).enumerate() {
        for c in 0..3 {
            let expected = (f32::from(pixel[c]) * 0.5 - how.mean[c]) / how.std[c];
            assert_eq!([mixed[3 * i + c], planes[200 * c + i]].map(f32::to_bits), [expected.to_bits(); 2]);
            let expected = (f32::from(pixel[2 - c]) * 0.5 - how.mean[c]) / how.std[c];
            assert_eq!(blue_first[200 * c + i].to_bits(), expected.to_bits());
        }
    }
}

#[test]
fn an_extreme_image_costs_no_more_than_what_is_kept() {
    // 3 px high, the long side would become 2.2 million px.
    let image = image(30_000, 3);
    let values = row(&how(Crop::Short { to: 224 }, (224, 224)), &image);
    assert!(values.iter().any(|&value| value > 0.0));
}

#[test]
fn tiles_without_end_are_an_error_of_the_image() {
    let limits = Limits { memory: 1 << 20, ..Limits::default() };
    let how = how(Crop::Tiles { stride: 1 }, (32, 32));
    assert_eq!(how.rows("image", &image(200, 200), &limits).expect_err("too many").code(), "limit");
    let (values, size) = how.rows("image", &image(33, 34), &limits).expect("six tiles");
    assert_eq!((values.len(), size), (6 * 3 * 32 * 32, (32, 32)));
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |how: &Preprocessing| how.check(&Limits::default()).is_err();
    assert!(refused(&how(Crop::Squash, (0, 4))));
    assert!(refused(&how(Crop::Squash, (u32::MAX, u32::MAX))));
    assert!(refused(&how(Crop::Short { to: 0 }, (4, 4))));
    assert!(refused(&how(Crop::Tiles { stride: 0 }, (4, 4))));
    assert!(refused(&Preprocessing { std: [1.0, 0.0, 1.0], ..how(Crop::Full, (0, 0)) }));
    assert!(Resampling::parse("lanczos", false).is_err());
    assert!(Resampling::parse("cubic", true).is_err());
    let small = Preprocessing { minimum: 32, ..how(Crop::Squash, (4, 4)) };
    let error = small.write("image", &image(31, 90), View::default(), &mut [0.0; 48]).expect_err("a side of 31");
    assert_eq!(error.code(), "too_small");
}

#[test]
fn a_view_is_a_crop_elsewhere_and_turned_over() {
    let image = image(40, 31);
    let mut out = vec![0.0; 3 * 10 * 12];
    let how = how(Crop::Centre, (10, 12));
    for (at, (top, left)) in [([0.0, 0.0], (0, 0)), ([0.999, 0.5], (21, 14)), ([0.5, 0.999], (11, 28))] {
        for mirrored in [false, true] {
            how.write("image", &image, View { at: Some(at), mirrored }, &mut out).expect("it is large enough");
            for (y, row) in out.chunks_exact(36).enumerate() {
                for (x, pixel) in row.chunks_exact(3).enumerate() {
                    let x = left + if mirrored { 11 - x } else { x };
                    let expected = &image.data()[((top + y) * 40 + x) * 3..][..3];
                    assert!(
                        pixel
                            .iter()
                            .zip(expected)
                            .all(|(&found, &level)| found.to_bits() == f32::from(level).to_bits())
                    );
                }
            }
        }
    }
}

#[test]
fn no_pixel_outside_the_part_is_read() {
    let image = image(97, 120);
    for kernel in [Kernel::Box, Kernel::Bilinear, Kernel::Bicubic, Kernel::Lanczos] {
        for (crop, at) in
            [(Crop::Short { to: 40 }, None), (Crop::Short { to: 150 }, Some([0.9, 0.2])), (Crop::Centre, None)]
        {
            let how = Preprocessing { resampling: Resampling::Antialiased(kernel), ..how(crop, (30, 24)) };
            let view = View { at, mirrored: false };
            let part = how.part(image.width(), image.height(), view).expect("less than all");
            let mut data = image.data().to_vec();
            for (i, pixel) in data.chunks_exact_mut(3).enumerate() {
                if !part.rows().contains(&(i / 97)) || !part.columns().contains(&(i % 97)) {
                    pixel.fill(255);
                }
            }
            let other = Image::from_rgb(97, 120, data).expect("its size is right");
            let [mut expected, mut found] = [vec![0.0; 3 * 30 * 24], vec![1.0; 3 * 30 * 24]];
            how.write("image", &image, view, &mut expected).expect("possible");
            how.write("other", &other, view, &mut found).expect("possible");
            assert_eq!(found, expected, "{kernel:?} {crop:?}");
        }
    }
}
