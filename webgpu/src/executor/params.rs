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

        /// Of each struct its name, and of its fields name, type, offset and size in bytes.
        #[cfg(test)]
        const LAYOUTS: &[(&str, &[(&str, &str, usize, usize)])] = &[$(
            (stringify!($name), &[$(
                (stringify!($field), stringify!($type), std::mem::offset_of!($name, $field), size_of::<$type>()),
            )*]),
        )*];
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

#[cfg(test)]
mod tests {
    use super::*;
    use naga::{Scalar, ScalarKind, TypeInner};
    use std::path::Path;

    /// `AddPerChannel` as the file is named: `add_per_channel`.
    fn snake_case(name: &str) -> String {
        let letter = |(i, c): (usize, char)| match c {
            c if c.is_uppercase() && i > 0 => format!("_{}", c.to_lowercase()),
            c => c.to_lowercase().to_string(),
        };
        name.chars().enumerate().map(letter).collect()
    }

    /// Name, type and offset of each field of the `Params` of a kernel, by a WGSL compiler.
    fn fields(kernel: &str) -> Vec<(String, &'static str, usize)> {
        let start = kernel.find("struct Params {").expect("a kernel has parameters");
        let end = start + kernel[start..].find('}').expect("a struct ends");
        let module = naga::front::wgsl::parse_str(&kernel[start..=end]).expect("a struct alone is WGSL");
        let members = module.types.iter().find_map(|(_, declared)| match &declared.inner {
            TypeInner::Struct { members, .. } => Some(members),
            _ => None,
        });
        let field = |member: &naga::StructMember| {
            let kind = match module.types[member.ty].inner {
                TypeInner::Scalar(Scalar { kind: ScalarKind::Uint, width: 4 }) => "u32",
                TypeInner::Scalar(Scalar { kind: ScalarKind::Float, width: 4 }) => "f32",
                ref other => panic!("{other:?}"),
            };
            (member.name.clone().unwrap_or_default(), kind, member.offset as usize)
        };
        members.expect("it is a struct").iter().map(field).collect()
    }

    /// Where an array stands here, the kernel has a field for each element.
    #[test]
    fn params_are_laid_out_as_the_kernels_read_them() {
        let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/executor/kernels");
        for (name, layout) in LAYOUTS {
            let file = if *name == "Conv" { "conv_common".to_string() } else { snake_case(name) };
            let kernel = std::fs::read_to_string(kernels.join(&file).with_extension("wgsl")).unwrap();
            let mut found = fields(&kernel).into_iter();
            for &(field, kind, offset, size) in *layout {
                for element in 0..size / 4 {
                    let (theirs, type_, at) = found.next().unwrap_or_else(|| panic!("{file}: no {field}"));
                    assert_eq!(
                        (type_, at),
                        (kind.trim_matches(['[', ']']).split(';').next().unwrap(), offset + 4 * element),
                        "{file}: {field}"
                    );
                    assert!(theirs == field || size > 4, "{file}: {theirs} is {field} here");
                }
            }
            assert_eq!(found.next(), None, "{file} has more");
        }
    }
}
