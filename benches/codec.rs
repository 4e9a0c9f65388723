//! Decoding, probing, encoding and resampling; throughput in megapixels (elements are pixels), decoding in bytes of the
//! file as well.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mllmrisk_benches::photograph;
use mllmrisk_core::codec::{self, Encoding, Input, Limits, Subsampling, encode};
use mllmrisk_core::perturb::Chain;
use mllmrisk_core::transform::resize::{Kernel, resize};

const SIDES: [u32; 2] = [512, 1024];
const ENCODINGS: [(&str, Encoding); 5] = [
    ("jpeg_q90_420", Encoding::Jpeg { quality: 90, subsampling: Subsampling::S420 }),
    ("jpeg_q90_444", Encoding::Jpeg { quality: 90, subsampling: Subsampling::S444 }),
    ("jpeg_q75_420", Encoding::Jpeg { quality: 75, subsampling: Subsampling::S420 }),
    ("webp_q90", Encoding::Webp { quality: 90 }),
    ("png", Encoding::Png),
];

fn files(criterion: &mut Criterion) {
    let limits = Limits::default();
    for (name, encoding) in ENCODINGS {
        for side in SIDES {
            let image = photograph(side, side, 1);
            let bytes = encode(&image, &encoding).expect("the image can be encoded");
            let input = Input { name, bytes: &bytes };
            let mut group = criterion.benchmark_group(format!("codec/{name}"));
            group.throughput(Throughput::Elements(u64::from(side * side)));
            group.bench_function(BenchmarkId::new("decode", side), |bencher| {
                bencher.iter(|| codec::decode(black_box(&input), &limits, false).expect("the file is whole"));
            });
            group.bench_function(BenchmarkId::new("probe", side), |bencher| {
                bencher.iter(|| codec::probe(black_box(&input), &limits).expect("the file is whole"));
            });
            if matches!(encoding, Encoding::Jpeg { .. }) {
                group.bench_function(BenchmarkId::new("coefficients", side), |bencher| {
                    bencher.iter(|| codec::coefficients(black_box(&input), &limits).expect("the file is whole"));
                });
            }
            group.bench_function(BenchmarkId::new("encode", side), |bencher| {
                bencher.iter(|| encode(black_box(&image), &encoding).expect("the image can be encoded"));
            });
            group.throughput(Throughput::Bytes(bytes.len() as u64));
            group.bench_function(BenchmarkId::new("decode_bytes", side), |bencher| {
                bencher.iter(|| codec::decode(black_box(&input), &limits, false).expect("the file is whole"));
            });
        }
    }
}

fn perturbations(criterion: &mut Criterion) {
    let image = photograph(512, 512, 2);
    let mut group = criterion.benchmark_group("perturb");
    group.throughput(Throughput::Elements(512 * 512));
    for kernel in Kernel::ALL {
        group.bench_function(BenchmarkId::new("resize", kernel.name()), |bencher| {
            bencher.iter(|| resize(black_box(&image), 384, 384, kernel).expect("the size is positive"));
        });
    }
    for text in ["blur:1.0", "noise:2.0", "jpeg:75", "recompressed", "social"] {
        let chain = Chain::parse(text).expect("the chain is right");
        group.bench_function(text, |bencher| {
            bencher.iter(|| chain.apply(black_box(image.clone()), 0).expect("the chain is possible"));
        });
    }
}

criterion_group!(all, files, perturbations);
criterion_main!(all);
