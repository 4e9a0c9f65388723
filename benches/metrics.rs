//! Metrics: the cluster bootstrap, the AUC and its interval.

use std::hint::black_box;
use std::num::NonZero;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mllmrisk_benches::uniform;
use mllmrisk_core::metrics::{self, Measure, Resampling, Scored};

fn single_thread() -> Resampling {
    Resampling { threads: NonZero::new(1), ..Resampling::default() }
}

/// 1,184 prompts with 10 samples each: one cell of the paper's table.
fn rate(criterion: &mut Criterion) {
    let flags: Vec<f64> = uniform(11_840, 1).iter().map(|x| f64::from(u8::from(*x < 0.3))).collect();
    let prompts: Vec<i64> = (0..11_840).map(|row| row / 10).collect();
    let mut group = criterion.benchmark_group("rate");
    // Draws of clusters.
    group.throughput(Throughput::Elements(10_000 * 1184)).sample_size(20);
    group.bench_function("1184 prompts x 10,000 resamples", |bench| {
        bench.iter(|| metrics::rate(black_box(&flags), &prompts, &single_thread()));
    });
    group.finish();
}

fn auc(criterion: &mut Criterion) {
    let scores = uniform(1_000_000, 2);
    let single: Vec<f64> = scores.iter().map(|x| f64::from(*x as f32)).collect();
    let labels: Vec<bool> = uniform(1_000_000, 3).iter().map(|x| *x < 0.5).collect();
    let mut group = criterion.benchmark_group("auc");
    group.throughput(Throughput::Elements(1_000_000)).sample_size(20);
    for (name, scores) in [("1,000,000 f64 scores", &scores), ("1,000,000 f32 scores", &single)] {
        group.bench_function(name, |bench| bench.iter(|| metrics::auc(black_box(scores), &labels)));
    }
    group.finish();
}

fn auc_interval(criterion: &mut Criterion) {
    let labels: Vec<bool> = uniform(2000, 4).iter().map(|x| *x < 0.5).collect();
    let scores: Vec<f64> = uniform(2000, 5);
    let clusters: Vec<i64> = (0..2000).collect();
    let scored = Scored { scores: &scores, labels: &labels, strata: None, thresholds: None };
    let mut group = criterion.benchmark_group("interval");
    // Rows walked.
    group.throughput(Throughput::Elements(2000 * 10_000)).sample_size(10);
    for (name, measure) in [("auc", Measure::Auc), ("ap", Measure::AveragePrecision), ("eer", Measure::EqualErrorRate)]
    {
        group.bench_function(name, |bench| {
            bench.iter(|| metrics::detection(measure, black_box(&scored), &clusters, &single_thread()));
        });
    }
    group.finish();
}

criterion_group!(all, rate, auc, auc_interval);
criterion_main!(all);
