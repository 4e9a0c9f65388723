//! Mathematics without policy.
//!
//! Every hot loop of the features is written over fixed-width lanes for the compiler to vectorise and is compiled once per
//! instruction set (`multiversion`), so that one wheel is fast on every machine without `target-cpu=native`. Where compilers miss an instruction that is worth
//! 1.3 times a kernel and more, [`avx512`] has it by name, and the loop stays for all other machines.

// Kernels are inlined by force into functions that are compiled per instruction set: what stays outside is compiled for
// the baseline. For the same reason they count indices in place of the iterators' closures.
#![allow(clippy::inline_always, clippy::needless_range_loop)]

#[cfg_attr(not(target_arch = "x86_64"), path = "no_avx512.rs")]
pub mod avx512;
pub mod blur;
pub mod colour;
pub mod dct;
pub mod elementary;
pub mod fft;
#[cfg(target_arch = "x86_64")]
mod fft_avx512;
pub mod filters;
pub mod interpolate;
pub mod lanes;
pub mod median;
pub mod plane_fft;
pub mod quantisation;
pub mod resize;
