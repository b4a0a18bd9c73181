//! What the random numbers of an image are made of: those of one seed, or of two, mixed, and moved along directions.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::config::GeneratorConfig;
use crate::forks::Forks;
use crate::noise::Stream;
use crate::stage::Stage;

/// Where some draws of an image come from: between those of two seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mix {
    /// The seed at share 0.
    pub from: u64,
    /// The seed at share 1.
    pub to: u64,
    /// How far from the one to the other, 0 to 1.
    pub share: f64,
}

impl Mix {
    fn draw(&self, normals: impl Fn(u64) -> Vec<f32>) -> Vec<f32> {
        match self.share {
            _ if self.from == self.to => normals(self.from),
            0.0 => normals(self.from),
            1.0 => normals(self.to),
            share => slerp(&normals(self.from), &normals(self.to), share),
        }
    }
}

impl From<u64> for Mix {
    fn from(seed: u64) -> Self {
        Self { from: seed, to: seed, share: 0.0 }
    }
}

/// Which values of z are drawn again: less variety, and fewer images that do not hold together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Truncation {
    /// As [`crate::GeneratorConfig::truncation`] says.
    #[default]
    Model,
    /// None.
    Off,
    /// Those beyond this, which is positive.
    At(f32),
}

impl Truncation {
    /// Beyond which values are drawn again, of a model with this generator.
    pub fn limit(self, generator: &GeneratorConfig) -> Option<f32> {
        match self {
            Self::Model => generator.truncation(),
            Self::Off => None,
            Self::At(limit) => Some(limit),
        }
    }
}

impl std::fmt::Display for Truncation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Model => f.write_str("as the model"),
            Self::Off => f.write_str("off"),
            Self::At(limit) => write!(f, "{limit}"),
        }
    }
}

impl FromStr for Truncation {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            _ if text == "off" => Ok(Self::Off),
            Ok(limit) if limit > 0.0 && f32::is_finite(limit) => Ok(Self::At(limit)),
            _ => Err("truncation must be a number above 0, or off"),
        }
    }
}

/// How far an image is moved along directions in its random numbers, in their standard deviations. Where the generator starts
/// from the normal distribution of the data ([`crate::networks::Gaussian`]), direction k is value k of z at the first step:
/// how many standard deviations the image is from the mean along principal mode k of the data. Other models have those
/// directions that were found for them and stand in their files, see [`crate::Directions`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Shifts([(usize, f32); Shifts::MAX]);

impl Shifts {
    /// Along how many directions an image can be moved at once.
    pub const MAX: usize = 8;
    /// How far it can be moved, in standard deviations.
    pub const FARTHEST: f32 = 5.0;

    /// How far the image is moved along a direction.
    pub fn get(&self, mode: usize) -> f32 {
        self.0.iter().find(|(known, _)| *known == mode).map_or(0.0, |(_, amount)| *amount)
    }

    /// Moves the image that far along a direction; the error says why it cannot be.
    pub fn set(&mut self, mode: usize, amount: f32) -> Result<(), String> {
        if !(-Self::FARTHEST..=Self::FARTHEST).contains(&amount) {
            return Err(format!("the amount along a direction must be from -{0} to {0}", Self::FARTHEST));
        }
        let known = self.0.iter().position(|(known, amount)| *known == mode && *amount != 0.0);
        let place = known.or_else(|| self.0.iter().position(|(_, amount)| *amount == 0.0));
        let place = place.ok_or_else(|| format!("an image can be moved along at most {} directions", Self::MAX))?;
        self.0[place] = (mode, amount);
        Ok(())
    }

    /// These, but for one direction.
    pub fn without(mut self, mode: usize) -> Self {
        self.0.iter_mut().filter(|(known, _)| *known == mode).for_each(|shift| *shift = Default::default());
        self
    }

    /// The directions that the image is moved along, and how far.
    pub fn iter(&self) -> impl Iterator<Item = (usize, f32)> {
        self.0.into_iter().filter(|(_, amount)| *amount != 0.0)
    }
}

/// `MODE=AMOUNT`, by commas.
impl std::fmt::Display for Shifts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self.iter().map(|(mode, amount)| format!("{mode}={amount}")).collect();
        f.write_str(&parts.join(","))
    }
}

/// The random numbers of one image.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Of the starting noise x_T and the noise of the posterior.
    pub x: Mix,
    /// Of z, the generator's own noise.
    pub z: Mix,
    /// The step from x_t to which `z` is limited; at the others z is that of `x`. None: `z` is that of all steps.
    pub z_step: Option<usize>,
    /// Values of z larger than this are drawn again.
    pub truncation: Option<f32>,
    /// How far it is moved.
    pub shifts: Shifts,
    /// Where its noise becomes that of other seeds.
    pub forks: Forks,
}

impl From<u64> for Recipe {
    fn from(seed: u64) -> Self {
        Mix::from(seed).into()
    }
}

impl From<Mix> for Recipe {
    fn from(mix: Mix) -> Self {
        let (shifts, forks) = Default::default();
        Self { x: mix, z: mix, z_step: None, truncation: None, shifts, forks }
    }
}

impl Recipe {
    /// `count` values of noise, see [`crate::Model::draw`].
    pub fn draw(&self, stage: Stage, count: usize) -> Vec<f32> {
        let name = stage.to_string();
        let stream = |seed| Stream::new(seed, 0, &name);
        let fork = self.forks.seed(stage).map(Mix::from);
        let Stage::Z(t) = stage else {
            return fork.unwrap_or(self.x).draw(|seed| stream(seed).normals(count));
        };
        let is_own = self.z_step.is_none_or(|step| t == step.wrapping_sub(1));
        let mix = fork.unwrap_or(if is_own { self.z } else { self.x });
        match self.truncation {
            None => mix.draw(|seed| stream(seed).normals(count)),
            Some(limit) => mix.draw(|seed| truncated(&mut stream(seed), count, limit)),
        }
    }
}

/// Normal values within ±`limit`, which must be positive: those beyond are drawn again.
fn truncated(stream: &mut Stream, count: usize, limit: f32) -> Vec<f32> {
    // Any limit that is of use is met long before; then the rest is cut.
    const ATTEMPTS: usize = 1000;
    let mut values = stream.normals(count);
    for _ in 0..ATTEMPTS {
        let beyond: Vec<&mut f32> = values.iter_mut().filter(|value| value.abs() > limit).collect();
        if beyond.is_empty() {
            break;
        }
        let again = stream.normals(beyond.len());
        beyond.into_iter().zip(again).for_each(|(value, new)| *value = new);
    }
    values.iter().map(|value| value.clamp(-limit, limit)).collect()
}

/// Spherical interpolation: normal values stay normal on the way, which their mean would not. Without the platform's
/// mathematics, so that frames are the same everywhere.
fn slerp(a: &[f32], b: &[f32], share: f64) -> Vec<f32> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    let angle = libm::acos(cosine.clamp(-1.0, 1.0));
    let sine = libm::sin(angle);
    let (from, to) = match sine {
        // (Nearly) the same direction.
        sine if sine < 1e-6 || sine.is_nan() => (1.0 - share, share),
        sine => (libm::sin((1.0 - share) * angle) / sine, libm::sin(share * angle) / sine),
    };
    a.iter().zip(b).map(|(&a, &b)| (from * f64::from(a) + to * f64::from(b)) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn norm(values: &[f32]) -> f64 {
        values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
    }

    #[test]
    fn the_ends_of_a_mix_are_its_seeds_to_the_bit() {
        for name in ["x", "z/2", "noise/1"] {
            let at = |share| Recipe::from(Mix { from: 3, to: 8, share }).draw(name.parse().unwrap(), 99);
            assert_eq!(at(0.0), Stream::new(3, 0, name).normals(99));
            assert_eq!(at(1.0), Stream::new(8, 0, name).normals(99));
            assert_ne!(at(0.5), at(0.0));
        }
    }

    /// On a quarter circle the middle is the bisector; and equal angles lie between equal shares.
    #[test]
    fn the_way_is_an_arc() {
        let middle = slerp(&[2.0, 0.0], &[0.0, 2.0], 0.5);
        assert!(middle.iter().all(|value| (value - 2f32.sqrt()).abs() < 1e-6), "{middle:?}");
        assert_eq!(slerp(&[1.0, 2.0], &[1.0, 2.0], 0.3), [1.0, 2.0]);
        let third = slerp(&[2.0, 0.0], &[0.0, 2.0], 1.0 / 3.0);
        assert!((third[1] - 1.0).abs() < 1e-6, "{third:?}");
        let noise = Recipe::from(Mix { from: 1, to: 2, share: 0.5 }).draw(Stage::X, 10_000);
        assert!((norm(&noise) - 100.0).abs() < 2.0, "{}", norm(&noise));
    }

    #[test]
    fn x_and_z_can_be_mixed_apart() {
        let recipe = Recipe { x: 5.into(), ..6.into() };
        assert_eq!(recipe.draw(Stage::Noise(2), 9), Stream::new(5, 0, "noise/2").normals(9));
        assert_eq!(recipe.draw(Stage::Z(0), 9), Stream::new(6, 0, "z/0").normals(9));
    }

    #[test]
    fn z_of_one_step_can_be_another() {
        let recipe = Recipe { z: 6.into(), z_step: Some(3), ..5.into() };
        // z/2 belongs to the step from x_3.
        assert_eq!(recipe.draw(Stage::Z(2), 9), Stream::new(6, 0, "z/2").normals(9));
        for name in ["x", "noise/2", "z/3", "z/1", "z/0"] {
            assert_eq!(recipe.draw(name.parse().unwrap(), 9), Stream::new(5, 0, name).normals(9), "{name}");
        }
    }

    #[test]
    fn directions_are_set_and_refused() {
        let mut shifts = Shifts::default();
        assert_eq!((shifts.get(0), shifts.to_string()), (0.0, String::new()));
        for (mode, amount) in [(3, -2.0), (0, 1.5), (3, 0.5), (200, 1.0), (0, 0.0), (7, 0.25)] {
            shifts.set(mode, amount).unwrap();
        }
        assert_eq!((shifts.get(3), shifts.get(0)), (0.5, 0.0));
        assert_eq!(shifts.to_string(), "3=0.5,7=0.25,200=1");
        assert!([f32::NAN, 5.1, -5.1].iter().all(|&amount| shifts.set(1, amount).is_err()));
        assert!((10..15).all(|mode| shifts.set(mode, 1.0).is_ok()));
        assert!(shifts.set(20, 1.0).unwrap_err().contains("at most 8 directions"));
    }

    #[test]
    fn truncation_is_read_and_refused() {
        assert_eq!("off".parse(), Ok(Truncation::Off));
        assert_eq!("1.4".parse(), Ok(Truncation::At(1.4)));
        for text in ["0", "-1", "NaN", "inf", "", "on"] {
            assert!(text.parse::<Truncation>().is_err(), "{text}");
        }
    }

    #[test]
    fn truncation_draws_large_values_of_z_again() {
        let recipe = Recipe { truncation: Some(0.5), ..4.into() };
        let (whole, cut) = (Recipe::from(4).draw(Stage::Z(1), 200), recipe.draw(Stage::Z(1), 200));
        assert!(cut.iter().all(|value| value.abs() <= 0.5));
        assert!(whole.iter().zip(&cut).all(|(a, b)| a.abs() > 0.5 || a == b));
        // Drawn again, not cut off.
        assert!(cut.iter().filter(|value| value.abs() == 0.5).count() == 0);
        assert_eq!(recipe.draw(Stage::X, 200), Recipe::from(4).draw(Stage::X, 200));
        assert!(Recipe { truncation: Some(0.0), ..4.into() }.draw(Stage::Z(1), 20).iter().all(|&value| value == 0.0));
    }
}
