//! What the authors call each tensor, and how its values differ from ours.

use candle_core::Tensor;
use lddgan::GeneratorConfig;

/// How a tensor of the authors becomes ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversion {
    Same,
    /// The weight of a NIN (in, out), which is a 1x1 convolution (out, in, 1, 1) here.
    Nin,
    /// The bias of an AdaGN's style layer: its first half, the scale, contains the one that we add.
    Style,
}

/// A tensor of the authors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    pub conversion: Conversion,
}

impl Conversion {
    /// The shape that becomes `ours`.
    pub fn source_shape(self, ours: &[usize]) -> Vec<usize> {
        match (self, ours) {
            (Self::Nin, [outputs, inputs, ..]) => vec![*inputs, *outputs],
            _ => ours.to_vec(),
        }
    }

    /// Converts a tensor of the authors.
    pub fn apply(self, tensor: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Same => Ok(tensor.clone()),
            Self::Nin => tensor.t()?.contiguous()?.unsqueeze(2)?.unsqueeze(3),
            Self::Style => {
                let half = tensor.dim(0)? / 2;
                let scale = (tensor.narrow(0, 0, half)? - 1.0)?;
                Tensor::cat(&[scale, tensor.narrow(0, half, half)?], 0)
            }
        }
    }
}

/// The modules of the generator in the order of the authors' `all_modules`, by our names.
fn generator_modules(config: &GeneratorConfig) -> Vec<String> {
    let mut modules = ["time.0", "time.1", "conv_in"].map(String::from).to_vec();
    let levels = config.multipliers.len();
    let attended = |level: usize| config.attention.contains(&config.level_size(level));
    for level in 0..levels {
        for block in 0..config.blocks {
            modules.push(format!("down.{level}.block.{block}"));
            if attended(level) {
                modules.push(format!("down.{level}.attention.{block}"));
            }
        }
        if level + 1 < levels {
            modules.extend(["downsample", "pyramid"].map(|name| format!("down.{level}.{name}")));
        }
    }
    modules.extend(["block1", "attention", "block2"].map(|name| format!("middle.{name}")));
    for level in (0..levels).rev() {
        modules.extend((0..=config.blocks).map(|block| format!("up.{level}.block.{block}")));
        if attended(level) {
            modules.push(format!("up.{level}.attention"));
        }
        if level > 0 {
            modules.push(format!("up.{level}.upsample"));
        }
    }
    modules.extend(["norm_out", "conv_out"].map(String::from));
    modules
}

/// The part of a generator's module that `layer` (ours) is.
fn generator_layer(module: &str, layer: &str, wavelet: bool) -> String {
    let attention = module.contains("attention");
    let (layer, parameter) = layer.rsplit_once('.').unwrap_or(("", layer));
    let nin = |index| format!(".NIN_{index}.{}", if parameter == "weight" { "W" } else { "b" });
    let name = match layer {
        "query" => return nin(0),
        "key" => return nin(1),
        "value" => return nin(2),
        "out" => return nin(3),
        "norm" if attention => ".GroupNorm_0",
        "norm1.style" => ".GroupNorm_0.style",
        "conv1" => ".Conv_0",
        "time" => ".Dense_0",
        "norm2.style" => ".GroupNorm_1.style",
        "conv2" => ".Conv_1",
        "shortcut" => ".Conv_2",
        "fine" => ".convH_0",
        "" if module.ends_with("pyramid") && !wavelet => ".Conv2d_0",
        other => other,
    };
    format!("{name}.{parameter}")
}

/// The authors' tensor for each of `ours`, names of the generator's tensors without the network's name.
pub fn generator(config: &GeneratorConfig, ours: &str) -> Option<Source> {
    let projection = ours.contains("attention.") && ours.ends_with(".weight") && !ours.ends_with("norm.weight");
    let conversion = match ours {
        _ if projection => Conversion::Nin,
        name if name.ends_with("style.bias") => Conversion::Style,
        _ => Conversion::Same,
    };
    if let Some(layer) = ours.strip_prefix("z_mapping.") {
        let (index, parameter) = layer.split_once('.')?;
        // Linear layers alternate with activations, after the pixel norm.
        let index = 2 * index.parse::<usize>().ok()? + 1;
        return Some(Source { name: format!("z_transform.{index}.{parameter}"), conversion });
    }
    let modules = generator_modules(config);
    let (index, layer) = modules.iter().enumerate().find_map(|(index, module)| {
        let layer = ours.strip_prefix(module.as_str())?.strip_prefix('.')?;
        Some((index, generator_layer(module, layer, config.wavelet)))
    })?;
    Some(Source { name: format!("all_modules.{index}{layer}"), conversion })
}

/// The authors' name of a discriminator's tensor.
pub fn discriminator(ours: &str) -> Option<Source> {
    let (layer, parameter) = ours.rsplit_once('.')?;
    let parts: Vec<&str> = layer.split('.').collect();
    let name = match parts[..] {
        ["time", index] => format!("t_embed.main.{}", 2 * index.parse::<usize>().ok()?),
        ["block", index, layer] => {
            let layer = match layer {
                "conv1" => "conv1.0",
                "conv2" => "conv2.0",
                "time" => "dense_t1",
                "shortcut" => "skip.0",
                _ => return None,
            };
            format!("conv{}.{layer}", index.parse::<usize>().ok()? + 1)
        }
        _ => layer.to_string(),
    };
    Some(Source { name: format!("{name}.{parameter}"), conversion: Conversion::Same })
}

/// The authors' name of an autoencoder's tensor; `ours` starts with `encoder.` or `decoder.`.
pub fn autoencoder(ours: &str) -> Source {
    let outside = ours.strip_prefix("encoder.quant_conv").map(|rest| format!("quant_conv{rest}"));
    let outside =
        outside.or_else(|| ours.strip_prefix("decoder.post_quant_conv").map(|rest| format!("post_quant_conv{rest}")));
    let inside = || {
        let middle = ours.contains(".middle.");
        let part = |part| match part {
            "middle" => "mid",
            "block1" => "block_1",
            "block2" => "block_2",
            "attention" if middle => "attn_1",
            "attention" => "attn",
            "query" => "q",
            "key" => "k",
            "value" => "v",
            "out" => "proj_out",
            "shortcut" => "nin_shortcut",
            "downsample" => "downsample.conv",
            "upsample" => "upsample.conv",
            part => part,
        };
        ours.split('.').map(part).collect::<Vec<_>>().join(".")
    };
    let name = match ours {
        "decoder.codebook" => "quantize.embedding.weight".to_string(),
        _ => outside.unwrap_or_else(inside),
    };
    Source { name, conversion: Conversion::Same }
}
