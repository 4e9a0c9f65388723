//! Mathematics without policy.

pub mod blur;
pub mod resize;
