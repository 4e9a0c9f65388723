//! Holm's step-down adjustment (Holm 1979).

use crate::{Error, Result};

/// `p_values` adjusted for their number, in their own order: max over i ≤ j of min(1, (m - i) p₍ᵢ₎), i from 0.
pub fn holm(p_values: &[f64]) -> Result<Vec<f64>> {
    if p_values.is_empty() {
        return Err(Error::argument("p_values", "no p_values"));
    }
    super::check_unit("p_values", p_values)?;
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&i, &j| p_values[i].total_cmp(&p_values[j]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut reached = 0.0_f64;
    for (rank, &place) in order.iter().enumerate() {
        reached = reached.max(p_values[place] * (p_values.len() - rank) as f64).min(1.0);
        adjusted[place] = reached;
    }
    Ok(adjusted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_textbook_example() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]).unwrap();
        for (got, expected) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((got - expected).abs() < 1e-12);
        }
        assert!(holm(&[f64::NAN]).is_err());
    }
}
