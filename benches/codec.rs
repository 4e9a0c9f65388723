//! To be written.
use criterion::{criterion_group, criterion_main};
fn benches(_: &mut criterion::Criterion) {}
criterion_group!(all, benches);
criterion_main!(all);
