//! The core of mllmrisk: bytes of an image in, numbers with their meaning out. It knows no Python.
//!
//! The flow, one module a step:
//!
//! 1. [`codec`] reads the container ([`codec::probe`]) and decodes the pixels under [`codec::Limits`] into an
//!    [`image::Image`]; it also encodes, for perturbations.
//! 2. [`perturb`] does to an image what happens on its way to a viewer: JPEG, resize, crop, blur, chains of them.
//! 3. [`transform`] is mathematics without policy: FFT, DCT, residuals, resampling.
//! 4. [`features`] turns an image into forensic statistics; what several families need is made once
//!    ([`image::Planes`]).
//! 5. [`quality`] tells broken pictures from sound ones, and finds the same picture again.
//! 6. [`preprocess`] makes a network's input of an image: detectors and encoders outside this crate read it.
//! 7. [`batch`] runs the steps above over many inputs on a stated number of threads, one result per input.
//! 8. [`metrics`] turns scores into estimates with intervals.

pub mod batch;
pub mod codec;
pub mod error;
pub mod features;
pub mod image;
pub mod metrics;
pub mod perturb;
pub mod preprocess;
pub mod quality;
pub mod transform;

pub use error::{Error, Result};
