//! Mathematics without policy.
