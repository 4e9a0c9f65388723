//! Mathematics without policy.
//!
//! Every hot loop of the features is written over fixed-width lanes for the compiler to vectorise and is compiled once per
//! instruction set (`multiversion`), so that one wheel is fast on every machine without `target-cpu=native`.

pub mod blur;
pub mod colour;
pub mod dct;
pub mod elementary;
pub mod fft;
pub mod filters;
pub mod lanes;
pub mod median;
pub mod plane_fft;
pub mod quantisation;
pub mod resize;
