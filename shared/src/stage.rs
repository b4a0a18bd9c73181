//! The named values on the way from noise to an image.

use std::fmt;
use std::str::FromStr;

/// A value on the way from noise to an image. Recordings, executors and golden tensors call it by its `Display`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// `x`: the noise that the first step starts from.
    X,
    /// `z/<t>`: the latent variable of the step that leads from x_{t+1}.
    Z(usize),
    /// `noise/<t>`: the posterior's noise in that step.
    Noise(usize),
    /// `latent/<t>`: x_t, scaled and not quantised.
    Latent(usize),
    /// `image`
    Image,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::X => f.write_str("x"),
            Self::Z(t) => write!(f, "z/{t}"),
            Self::Noise(t) => write!(f, "noise/{t}"),
            Self::Latent(t) => write!(f, "latent/{t}"),
            Self::Image => f.write_str("image"),
        }
    }
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let unknown = || format!("`{name}` is not a stage; stages are x, z/<t>, noise/<t>, latent/<t> or image");
        let Some((kind, t)) = name.split_once('/') else {
            return match name {
                "x" => Ok(Self::X),
                "image" => Ok(Self::Image),
                _ => Err(unknown()),
            };
        };
        let t = t.parse().map_err(|_| unknown())?;
        match kind {
            "z" => Ok(Self::Z(t)),
            "noise" => Ok(Self::Noise(t)),
            "latent" => Ok(Self::Latent(t)),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let stages = [Stage::X, Stage::Z(3), Stage::Noise(12), Stage::Latent(0), Stage::Image];
        assert_eq!(stages.map(|stage| stage.to_string()), ["x", "z/3", "noise/12", "latent/0", "image"]);
        assert_eq!(stages.map(|stage| stage.to_string().parse()), stages.map(Ok));
        for name in ["", "y", "z", "z/", "z/-1", "latent/x", "image/0"] {
            assert!(name.parse::<Stage>().is_err(), "{name}");
        }
    }
}
