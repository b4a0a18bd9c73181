//! What to say when a GPU's memory is full.

use anyhow::{Error, anyhow};

/// CUDA's error, as it comes through Candle and cuDNN.
fn is_out_of_memory(error: &Error) -> bool {
    let said = format!("{error:#}");
    ["CUDA_ERROR_OUT_OF_MEMORY", "CUDNN_STATUS_ALLOC_FAILED", "out of memory"].iter().any(|words| said.contains(words))
}

/// An error that says which batch would fit, if memory ran out at a step with `batch` samples. `fits` tries a smaller one,
/// a multiple of 4. `field` is where the preset has the batch. Other errors stay what they are.
pub fn explain(error: Error, field: &str, batch: usize, fits: impl Fn(usize) -> bool) -> Error {
    if !is_out_of_memory(&error) {
        return error;
    }
    let smaller = std::iter::successors(Some(batch / 2), |batch| Some(batch / 2)).take_while(|&batch| batch >= 4);
    let smaller = smaller.map(|batch| batch / 4 * 4).find(|&batch| fits(batch));
    let advice = match smaller {
        Some(smaller) => format!("{smaller} fit; set {field} in the preset to that, or use more GPUs"),
        None => "fewer do not fit either; choose smaller networks".to_string(),
    };
    anyhow!("the GPU's memory is too small for {batch} samples at a time: {advice}. Checkpoints stay as they are")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_batch_that_fits_is_named() {
        let full = || anyhow!("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")").context("step 3");
        let said = explain(full(), "train_gan.batch", 72, |batch| batch <= 20).to_string();
        assert!(said.contains("for 72 samples") && said.contains("16 fit; set train_gan.batch"), "{said}");
        assert!(explain(full(), "train_gan.batch", 72, |_| false).to_string().contains("smaller networks"));
        assert_eq!(explain(anyhow!("a disk"), "train_gan.batch", 72, |_| true).to_string(), "a disk");
    }
}
