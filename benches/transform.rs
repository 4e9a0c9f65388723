//! The 2-D transform of real planes, there and back.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mllmrisk_core::transform::plane_fft;

/// Sides of squares: powers of two, mixed factors, and a prime.
const SIDES: [usize; 8] = [128, 256, 500, 509, 512, 1000, 1024, 2048];

fn plane(side: usize) -> Vec<f32> {
    mllmrisk_benches::photograph(side as u32, side as u32, 1).data().iter().step_by(3).map(|&v| f32::from(v)).collect()
}

fn forward(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plane_fft forward");
    for side in SIDES {
        let plane = plane(side);
        group.throughput(Throughput::Elements((side * side) as u64)).sample_size(20);
        group.bench_function(side.to_string(), |bench| bench.iter(|| plane_fft::forward(black_box(&plane), side)));
    }
    group.finish();
}

fn inverse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plane_fft inverse");
    for side in SIDES {
        let spectrum = plane_fft::forward(&plane(side), side);
        group.throughput(Throughput::Elements((side * side) as u64)).sample_size(20);
        // The spectrum is used up: its copy is part of what is measured.
        group.bench_function(side.to_string(), |bench| bench.iter(|| plane_fft::inverse(black_box(&spectrum).clone())));
    }
    group.finish();
}

criterion_group!(all, forward, inverse);
criterion_main!(all);
