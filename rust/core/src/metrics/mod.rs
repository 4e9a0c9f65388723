//! From scores to estimates with intervals.
