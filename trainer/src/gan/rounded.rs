//! Numbers rounded to 8 bits, with a scale for each channel.

use candle_core::{D, DType, Tensor};

/// The largest 8-bit number.
const LARGEST: f64 = 255.0;

/// Numbers as 8-bit steps between the least and the largest of each channel.
pub struct Rounded {
    /// (N, C, H, W), u8
    pub levels: Tensor,
    /// The number of level 0 of each channel, (1, C, 1, 1).
    pub least: Tensor,
    /// What a level adds, (1, C, 1, 1).
    pub step: Tensor,
}

impl Rounded {
    pub fn new(values: &Tensor) -> candle_core::Result<Self> {
        let channels = values.transpose(0, 1)?.contiguous()?.flatten_from(1)?;
        let of_channels = |values: Tensor| values.reshape((1, (), 1, 1));
        let (least, most) = (of_channels(channels.min(D::Minus1)?)?, of_channels(channels.max(D::Minus1)?)?);
        // A channel of one value has levels of some size.
        let step = ((&most - &least)? / LARGEST)?.maximum(f32::MIN_POSITIVE)?;
        let levels = values.broadcast_sub(&least)?.broadcast_div(&step)?.round()?.clamp(0.0, LARGEST)?;
        Ok(Self { levels: levels.to_dtype(DType::U8)?, least, step })
    }

    /// The numbers, each within half a step of what it was.
    pub fn values(&self) -> candle_core::Result<Tensor> {
        self.levels.to_dtype(DType::F32)?.broadcast_mul(&self.step)?.broadcast_add(&self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn each_channel_has_levels_of_its_own() {
        let values = [0f32, 255.0, 100.4, 7.0, -1.0, 1.0, 0.3, -0.2, 5.0, 5.0, 5.0, 5.0];
        let values = Tensor::new(&values, &Device::Cpu).unwrap().reshape((1, 3, 2, 2)).unwrap();
        let rounded = Rounded::new(&values).unwrap();
        let found = rounded.values().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(found[..4], [0.0, 255.0, 100.0, 7.0]);
        let errors: Vec<f32> = found[4..8].iter().zip([-1.0, 1.0, 0.3, -0.2]).map(|(a, b)| (a - b).abs()).collect();
        assert!(
            errors[0] < 1e-6 && errors[1] < 1e-6 && errors[2..].iter().all(|error| *error < 1.0 / 255.0),
            "{errors:?}"
        );
        assert_eq!(found[8..], [5.0; 4]);
    }
}
