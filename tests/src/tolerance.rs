//! How much two results may differ.

/// The largest absolute difference that is allowed.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    pub max_abs: f32,
}

impl Tolerance {
    /// Panics, naming the worst element, unless both are equal within the tolerance. Both have the values of a tensor
    /// of shape `dims`; `label` says what is compared. Prints the error that there was.
    pub fn check(&self, found: &[f32], expected: &[f32], dims: &[usize], label: &str) {
        assert_eq!(found.len(), expected.len(), "{label}: different sizes");
        let errors = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs());
        // A difference of NaN is the worst of all.
        let worst = errors.enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
        let (index, error) = worst.unwrap_or_else(|| panic!("{label}: nothing to compare"));
        let place = place(index, dims);
        assert!(
            error <= self.max_abs,
            "{label}: max abs error {error:e} > {:e} at {place:?} of {dims:?}: {} instead of {}",
            self.max_abs,
            found[index],
            expected[index]
        );
        println!("{label}: max abs error {error:.1e}");
    }
}

/// The coordinates of the element `index`.
fn place(mut index: usize, dims: &[usize]) -> Vec<usize> {
    let mut place: Vec<_> = dims
        .iter()
        .rev()
        .map(|&dim| {
            let coordinate = index % dim;
            index /= dim;
            coordinate
        })
        .collect();
    place.reverse();
    place
}
