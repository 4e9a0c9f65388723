//! Workloads whose instructions `benches/instructions.py` counts under callgrind, one a process.
//!
//! `instructions` prints the names, `instructions NAME` runs one: once to fill tables and caches, then once inside
//! [`measured`], where the counting is switched on. One thread, seeded inputs: the counts of a build do not vary.

use std::hint::black_box;
use std::num::NonZero;

use mllmrisk_benches::{photograph, uniform};
use mllmrisk_core::codec::{self, Encoding, Input, Limits, Subsampling, encode};
use mllmrisk_core::features;
use mllmrisk_core::metrics::{self, Measure, Resampling, Scored};
use mllmrisk_core::perturb::Chain;
use mllmrisk_core::preprocess::{Crop, Padding, Preprocessing, Resampling as Sizing, Rounding};
use mllmrisk_core::quality;
use mllmrisk_core::transform::plane_fft;

const SIDE: u32 = 512;

/// A workload: made from its name, run twice.
type Work = Box<dyn FnMut()>;
/// Makes the inputs of a workload.
type Make = fn() -> Work;

const WORKLOADS: &[(&str, Make)] = &[
    ("decode jpeg", || decoding(Encoding::Jpeg { quality: 90, subsampling: Subsampling::S420 })),
    ("decode png", || decoding(Encoding::Png)),
    ("decode webp", || decoding(Encoding::Webp { quality: 90 })),
    ("features default", || extracting("default")),
    ("features all", || extracting("all")),
    ("features radial", || extracting("radial")),
    ("features block_dct", || extracting("block_dct")),
    ("features srm3", || extracting("srm3")),
    ("transform", transforming),
    ("prepare", preparing),
    ("perturb jpeg:75", || perturbing("jpeg:75")),
    ("perturb resize:0.5", || perturbing("resize:0.5")),
    ("quality", measuring_quality),
    ("rate and interval", rate),
    ("auc", auc),
    ("auc and interval", auc_interval),
];

fn main() {
    let Some(name) = std::env::args().nth(1) else {
        let names: Vec<&str> = WORKLOADS.iter().map(|(name, _)| *name).collect();
        return say(&names.join("\n"));
    };
    let Some((_, make)) = WORKLOADS.iter().find(|(known, _)| *known == name) else {
        say(&format!("no workload is called {name:?}"));
        std::process::exit(2);
    };
    let mut work = make();
    work();
    measured(&mut *work);
}

#[allow(clippy::print_stdout)] // the one thing that this program says
fn say(text: &str) {
    println!("{text}");
}

/// Callgrind counts between the entry and the exit of this function.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
}

fn decoding(encoding: Encoding) -> Work {
    let bytes = encode(&photograph(SIDE, SIDE, 1), &encoding).expect("the image can be encoded");
    Box::new(move || {
        let input = Input { name: "photograph", bytes: black_box(&bytes) };
        black_box(codec::decode(&input, &Limits::default(), false).expect("the file is whole"));
    })
}

fn extracting(name: &str) -> Work {
    let image = photograph(SIDE, SIDE, 1);
    let selection = features::select(&[name]).expect("the set has a name");
    Box::new(move || {
        black_box(features::extract("photograph", black_box(&image), &selection).expect("the image is large enough"));
    })
}

fn transforming() -> Work {
    let side = SIDE as usize;
    let plane: Vec<f32> = uniform(side * side, 1).iter().map(|&x| x as f32).collect();
    Box::new(move || {
        black_box(plane_fft::forward(black_box(plane.as_slice()), side));
    })
}

fn preparing() -> Work {
    let image = photograph(SIDE, SIDE, 1);
    let how = Preprocessing {
        crop: Crop::Short { to: 256 },
        size: (224, 224),
        resampling: Sizing::parse("bicubic", true).expect("the kernel has a name"),
        rounding: Rounding::Even,
        padding: Padding::Constant(0),
        bgr: false,
        interleaved: false,
        scale: 1.0 / 255.0,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        minimum: 1,
    };
    Box::new(move || {
        black_box(how.rows("photograph", black_box(&image), &Limits::default()).expect("the image can be prepared"));
    })
}

fn perturbing(chain: &str) -> Work {
    let image = photograph(SIDE, SIDE, 1);
    let chain = Chain::parse(chain).expect("the chain is right");
    Box::new(move || {
        black_box(chain.apply(black_box(image.clone()), 0).expect("the chain is possible"));
    })
}

fn measuring_quality() -> Work {
    let image = photograph(SIDE, SIDE, 1);
    Box::new(move || {
        black_box(quality::measure("photograph", black_box(&image)).expect("the image is large enough"));
    })
}

fn resampling() -> Resampling {
    Resampling { threads: NonZero::new(1), resamples: 1000, ..Resampling::default() }
}

/// 1,184 prompts with 10 samples each.
fn rate() -> Work {
    let flags: Vec<f64> = uniform(11_840, 1).iter().map(|x| f64::from(u8::from(*x < 0.3))).collect();
    let prompts: Vec<i64> = (0..11_840).map(|row| row / 10).collect();
    Box::new(move || {
        black_box(metrics::rate(black_box(&flags), &prompts, &resampling()).expect("the rows are whole"));
    })
}

fn auc() -> Work {
    let scores = uniform(100_000, 2);
    let labels: Vec<bool> = uniform(100_000, 3).iter().map(|x| *x < 0.5).collect();
    Box::new(move || {
        black_box(metrics::auc(black_box(&scores), &labels).expect("both labels are there"));
    })
}

fn auc_interval() -> Work {
    let labels: Vec<bool> = uniform(2000, 4).iter().map(|x| *x < 0.5).collect();
    let scores = uniform(2000, 5);
    let clusters: Vec<i64> = (0..2000).collect();
    Box::new(move || {
        let scored = Scored { scores: black_box(&scores), labels: &labels, strata: None, thresholds: None };
        let found = metrics::detection(Measure::Auc, &scored, &clusters, &resampling());
        black_box(found.expect("both labels are there"));
    })
}
