//! Features: the whole sets, the shared planes, and each family on planes that are already there.
//!
//! `cargo bench -p mllmrisk-benches --bench features`; throughput is in pixels.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mllmrisk_benches::photograph;
use mllmrisk_core::features::{self, ALL};
use mllmrisk_core::image::Planes;

const SIDES: [u32; 2] = [512, 1024];

fn sets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("features/set");
    for side in SIDES {
        let image = photograph(side, side, 1);
        group.throughput(Throughput::Elements(u64::from(side * side)));
        let selection = features::select(&["default"]).expect("the set has a name");
        group.bench_with_input(BenchmarkId::new("default", side), &image, |bencher, image| {
            bencher.iter(|| features::extract("photograph", black_box(image), &selection));
        });
    }
}

fn shared(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("features/shared");
    let image = photograph(512, 512, 1);
    group.throughput(Throughput::Elements(512 * 512));
    group.bench_function("bytes", |bencher| bencher.iter(|| Planes::new(black_box(&image)).bytes()[0].data[0]));
    let ready = Planes::new(&image);
    let (bytes, luma, residual) = (ready.bytes(), ready.luma8(), ready.residual());
    group.bench_function("luma", |bencher| bencher.iter(|| mllmrisk_core::transform::colour::luma(black_box(bytes))));
    group.bench_function("residual", |bencher| {
        bencher.iter(|| mllmrisk_core::transform::median::residual(black_box(luma)));
    });
    group.bench_function("luma_power", |bencher| {
        bencher.iter(|| mllmrisk_core::transform::fft::mean_power(black_box(luma)));
    });
    group.bench_function("residual_power", |bencher| {
        bencher.iter(|| mllmrisk_core::transform::fft::mean_power(black_box(residual)));
    });
    group.bench_function("block_dct", |bencher| bencher.iter(|| features::BlockDct::of(black_box(luma))));
    group
        .bench_function("cross_difference", |bencher| bencher.iter(|| features::CrossDifference::of(black_box(bytes))));
}

fn families(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("features/family");
    for side in SIDES {
        let image = photograph(side, side, 1);
        group.throughput(Throughput::Elements(u64::from(side * side)));
        for feature in ALL {
            let planes = Planes::new(&image);
            let mut out = vec![0.0; feature.columns().len()];
            feature.compute(&planes, &mut out);
            group.bench_function(BenchmarkId::new(feature.about().name, side), |bencher| {
                bencher.iter(|| feature.compute(black_box(&planes), &mut out));
            });
        }
    }
}

criterion_group!(all, sets, shared, families);
criterion_main!(all);
