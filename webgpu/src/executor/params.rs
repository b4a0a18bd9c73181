//! The `Params` of each kernel, field for field as in its `.wgsl` file.

use bytemuck::{Pod, Zeroable};
use lddgan::{Activation, FirMode};

macro_rules! params {
    ($($name:ident { $($field:ident: $type:ty),* $(,)? })*) => {
        $(
            #[repr(C)]
            #[derive(Debug, Clone, Copy, Pod, Zeroable)]
            pub struct $name {
                $(pub $field: $type,)*
            }
        )*
    };
}

params! {
    Conv {
        batch: u32, in_blocks: u32, in_height: u32, in_width: u32, out_blocks: u32, out_height: u32, out_width: u32,
        pad: u32, bias_stride: u32, scale: f32, residual_scale: f32,
    }
    Linear { batch: u32, in_blocks: u32, out_blocks: u32 }
    GroupNorm {
        batch: u32, groups: u32, group_blocks: u32, pixels: u32, style_offset: u32, style_stride: u32,
        scale_offset: f32, epsilon: f32,
    }
    ChannelMoments { planes: u32, pixels: u32, parts: u32 }
    NormFactors {
        batch: u32, groups: u32, group_channels: u32, pixels: u32, parts: u32, span: u32, style_offset: u32,
        style_stride: u32, scale_offset: f32, epsilon: f32,
    }
    ScaleShift { count: u32, batch: u32, blocks: u32, pixels: u32 }
    AddPerChannel { count: u32, batch: u32, blocks: u32, pixels: u32 }
    Multiply { count: u32, batch: u32, blocks: u32, pixels: u32 }
    WeightedSum { count: u32, factors: [f32; 3] }
    PixelNorm { batch: u32, features: u32 }
    Fir { count: u32, in_height: u32, in_width: u32, out_height: u32, out_width: u32 }
    UpsampleNearest { count: u32, in_height: u32, in_width: u32, factor: u32 }
    DepthToSpace { count: u32, batch: u32, in_height: u32, in_width: u32, out_channels: u32, factor: u32 }
    Pool { count: u32, out_width: u32, weights: [f32; 4] }
    InverseHaar { count: u32, in_width: u32 }
    Concat { count: u32, a_channels: u32, b_channels: u32, pixels: u32 }
    Attention { batch: u32, blocks: u32, positions: u32, first_k: u32, first_v: u32, scale: f32 }
    Quantize { blocks: u32, positions: u32, codes: u32 }
    MinibatchStddev { groups: u32, members: u32, channels: u32, pixels: u32 }
    SumPixels { count: u32, batch: u32, blocks: u32, pixels: u32 }
}

/// `ACTIVATION` of the kernels.
pub fn activation_code(activation: Activation) -> u32 {
    match activation {
        Activation::Identity => 0,
        Activation::Silu => 1,
        Activation::Tanh => 2,
        Activation::LeakyRelu => 3,
    }
}

/// `MODE` of fir.wgsl.
pub fn fir_code(mode: FirMode) -> u32 {
    match mode {
        FirMode::Upsample => 0,
        FirMode::Downsample => 1,
        FirMode::Smooth => 2,
    }
}
