use proptest::prelude::*;

use super::{ALL, Chain, NAMED};
use crate::codec::{self, Format, Input, Limits};
use crate::image::Image;
use crate::transform::resize::Region;

fn picture(width: u32, height: u32) -> Image {
    let value = |k: u32| ((k / 3 % width) * 5 + (k / 3 / width) * 3 + k % 3 * 40) as u8;
    Image::from_rgb(width, height, (0..width * height * 3).map(value).collect()).expect("its size is right")
}

fn apply(text: &str, image: Image) -> Image {
    Chain::parse(text).expect("the text is right").apply(image, 7).expect("the step is possible")
}

fn canonical(text: &str) -> String {
    Chain::parse(text).expect("the text is right").to_string()
}

#[test]
fn defaults_are_left_out_of_the_canonical_text() {
    for (text, expected) in [
        ("jpeg:75", "jpeg:75"),
        (" jpeg:90:420:shift=0 + png", "jpeg:90+png"),
        ("jpeg:90:444:shift=3", "jpeg:90:444:shift=3"),
        ("resize:.5:bicubic", "resize:0.5"),
        ("resize:2", "resize:2.0"),
        ("blur:1", "blur:1.0"),
        ("crop:256x256", "crop:256"),
        ("crop:256x128:align8", "crop:256x128:align8"),
        ("cropat:64:0:1", "cropat:64:0.0:1.0"),
        ("fit:64x64", "fit:64x64"),
        ("native", "native"),
        ("native+native", "native"),
        ("recompressed", "recompressed"),
        ("recompressed+png", "crop:256+jpeg:90+png"),
    ] {
        assert_eq!(canonical(text), expected);
        assert_eq!(canonical(expected), expected);
    }
}

#[test]
fn wrong_texts_name_the_grammar_or_the_steps() {
    for (text, part) in [
        ("", "native"),
        ("jpg:75", "the steps are jpeg, webp"),
        ("jpeg", "jpeg:QUALITY"),
        ("jpeg:0", "jpeg:QUALITY"),
        ("jpeg:101", "jpeg:QUALITY"),
        ("jpeg:75:411", "jpeg:QUALITY"),
        ("jpeg:75:shift=8", "jpeg:QUALITY"),
        ("jpeg:75+", "is no step"),
        ("resize:0", "resize:FACTOR"),
        ("resize:nan", "resize:FACTOR"),
        ("resize:0.5:nearest", "resize:FACTOR"),
        ("crop:0", "crop:SIZE"),
        ("crop:99999999", "crop:SIZE"),
        ("cropat:10:2:0", "cropat:SIZE"),
        ("blur:-1", "blur:SIGMA"),
        ("png:3", "follow png"),
    ] {
        let error = Chain::parse(text).expect_err(text);
        assert_eq!(error.code(), "argument");
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
}

#[test]
fn every_named_chain_parses() {
    for about in NAMED {
        assert_eq!(canonical(about.name), about.name);
    }
    let names: std::collections::HashSet<_> = ALL.iter().chain(NAMED).map(|about| about.name).collect();
    assert_eq!(names.len(), ALL.len() + NAMED.len());
}

#[test]
fn crops_cut_where_they_say() {
    let image = picture(20, 10);
    let pixel = |image: &Image, x: usize, y: usize| {
        let at = (y * image.width() as usize + x) * 3;
        image.data()[at..at + 3].to_vec()
    };
    let size = |image: &Image| (image.width(), image.height());
    let middle = apply("crop:6", image.clone());
    assert_eq!((size(&middle), pixel(&middle, 0, 0)), ((6, 6), pixel(&image, 7, 2)));
    let wide = apply("crop:15", image.clone());
    assert_eq!((size(&wide), pixel(&wide, 0, 0)), ((15, 10), pixel(&image, 2, 0)));
    let corner = apply("cropat:4:1:0.5", image.clone());
    assert_eq!((size(&corner), pixel(&corner, 0, 0)), ((4, 4), pixel(&image, 16, 3)));
    let aligned = apply("cropat:4:0.75:1:align8", image.clone());
    assert_eq!(pixel(&aligned, 0, 0), pixel(&image, 8, 0));
    assert_eq!(apply("crop:99", image.clone()), image);
}

#[test]
fn fit_enlarges_only_what_is_too_small() {
    let size = |text, image| {
        let image = apply(text, image);
        (image.width(), image.height())
    };
    assert_eq!(size("fit:30x5", picture(20, 10)), (30, 5));
    assert_eq!(apply("fit:4x6", picture(20, 10)), apply("crop:4x6", picture(20, 10)));
    assert_eq!(size("shrink:5", picture(20, 10)), (5, 2)); // 2.5 to even
    assert_eq!(size("resize:0.01", picture(20, 10)), (1, 1));
}

#[test]
fn noise_has_its_sigma_and_follows_its_seed() {
    let grey = Image::from_rgb(100, 100, vec![128; 30_000]).expect("its size is right");
    let chain = Chain::parse("noise:4.0").expect("the text is right");
    let draw = |seed| chain.apply(grey.clone(), seed).expect("noise is possible");
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    let image = draw(1);
    let offsets = image.data().iter().map(|&value| f64::from(value) - 128.0);
    let (sum, squares) = offsets.fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    let (mean, deviation) = (sum / 30_000.0, (squares / 30_000.0).sqrt());
    // Rounding adds a variance of 1/12.
    assert!(mean.abs() < 0.1 && (deviation - (16.0_f64 + 1.0 / 12.0).sqrt()).abs() < 0.1, "{mean} {deviation}");
}

#[test]
fn a_chain_s_file_decodes_to_its_image() {
    for (text, format) in [
        ("jpeg:80", Format::Jpeg),
        ("resize:0.5+jpeg:80:444:shift=3", Format::Jpeg),
        ("noise:3.0+webp:70", Format::Webp),
        ("jpeg:50+crop:16", Format::Png),
        ("native", Format::Png),
        ("screenshot", Format::Png),
    ] {
        let chain = Chain::parse(text).expect("the text is right");
        let bytes = chain.encode(picture(40, 30), 3).expect("the chain is possible");
        let input = Input { name: text, bytes: &bytes };
        let image = codec::decode(&input, &Limits::default(), false).expect("the file is whole");
        assert_eq!(image, chain.apply(picture(40, 30), 3).expect("the chain is possible"), "{text}");
        assert_eq!(codec::probe(&input, &Limits::default()).expect("the file is whole").format, format);
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "[a-z0-9:.x+=-]{0,40}") {
        let _ = Chain::parse(&text);
    }

    #[test]
    fn canonical_text_is_a_fixed_point(
        quality in 1_u8..=100, factor in 0.01_f64..8.0, size in 1_u32..900, x in 0.0_f64..=1.0, sigma in 0.01_f64..20.0,
    ) {
        let text = format!(
            "jpeg:{quality}:422+resize:{factor}:lanczos+crop:{size}+cropat:{size}:{x}:0+blur:{sigma}+noise:{sigma}"
        );
        let once = canonical(&text);
        prop_assert_eq!(Chain::parse(&text), Chain::parse(&once));
        prop_assert_eq!(&canonical(&once), &once);
    }
}

#[test]
fn several_chains_at_once_give_what_each_gives_alone() {
    let texts = [
        "native",
        "jpeg:80+crop:16",
        "noise:3.0",
        "jpeg:80+noise:3.0",
        "jpeg:80",
        "png",
        "blur:1.0+noise:3.0",
        "jpeg:80",
    ];
    let chains: Vec<Chain> = texts.iter().map(|text| Chain::parse(text).expect("the text is right")).collect();
    let image = picture(40, 30);
    let mut found: Vec<Option<Image>> = vec![None; chains.len()];
    super::apply_each(&chains.iter().collect::<Vec<_>>(), &image, 5, &mut |index, made| {
        assert!(found[index].is_none(), "{} came twice", texts[index]);
        found[index] = Some(made.expect("the chain is possible").clone());
    });
    for ((text, chain), made) in texts.iter().zip(&chains).zip(found) {
        assert_eq!(made, Some(chain.apply(image.clone(), 5).expect("the chain is possible")), "{text}");
    }
}

#[test]
fn a_step_that_fails_fails_only_the_chains_that_take_it() {
    let wide = Image::from_rgb(20_000, 1, vec![9; 60_000]).expect("its size is right");
    let chains = ["webp:80", "crop:8", "webp:80+crop:8"].map(|text| Chain::parse(text).expect("the text is right"));
    let mut failed = [false; 3];
    super::apply_each(&chains.iter().collect::<Vec<_>>(), &wide, 0, &mut |index, made| failed[index] = made.is_err());
    assert_eq!(failed, [true, false, true]); // WebP ends at 16,383 px a side
}

#[test]
fn a_part_of_a_chain_has_the_pixels_of_the_whole() {
    let (width, height) = (157, 139);
    let image = picture(width, height);
    for text in ["jpeg:75", "jpeg:90:444+jpeg:60", "png+jpeg:85:422", "native", "blur:1+jpeg:75", "jpeg:80:shift=3"] {
        let chain = Chain::parse(text).expect("the text is right");
        let whole = apply(text, image.clone());
        for at in 0..120_usize {
            let part = Region { left: at % 61, top: (at * 5) % 57, width: 1 + at % 93, height: 1 + (at * 3) % 79 };
            // What is not read may be anything.
            let mut data = image.data().to_vec();
            if let Some(read) = chain.part_read(width, height, part) {
                for (i, pixel) in data.chunks_exact_mut(3).enumerate() {
                    let (x, y) = (i % width as usize, i / width as usize);
                    if !read.columns().contains(&x) || !read.rows().contains(&y) {
                        pixel.fill(at as u8);
                    }
                }
            }
            let image = Image::from_rgb(width, height, data).expect("its size is right");
            let found = chain.apply_part(image, 7, part).expect("the step is possible");
            assert_eq!((found.width(), found.height()), (whole.width(), whole.height()));
            for y in part.rows() {
                let row = |image: &Image| {
                    image.data()[(y * image.width() as usize + part.left) * 3..][..part.width * 3].to_vec()
                };
                assert_eq!(row(&found), row(&whole), "{text} {part:?} row {y}");
            }
        }
    }
}
