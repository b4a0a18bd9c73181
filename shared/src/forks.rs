//! Where an image parts from another that began with the same noise.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::stage::Stage;

/// From one step on, the noise is that of another seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The first step with other noise, the one from x_t.
    pub step: usize,
    /// Whose noise it is.
    pub seed: u64,
}

/// `STEP=SEED`
impl FromStr for Fork {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = text.split_once('=').and_then(|(step, seed)| Some((step.parse().ok()?, seed.parse().ok()?)));
        let (step, seed) = read.filter(|(step, _)| *step > 0).ok_or("fork must be a step, = and a seed, as in 3=7")?;
        Ok(Self { step, seed })
    }
}

impl fmt::Display for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.step, self.seed)
    }
}

/// The forks on the way to an image. x_T is always the one that it began with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Forks([Option<Fork>; Forks::MAX]);

impl Forks {
    /// The most forks of one image.
    pub const MAX: usize = 8;

    /// Adds a fork; the error says why that cannot be.
    pub fn add(&mut self, fork: Fork) -> Result<(), String> {
        let same = self.0.iter().position(|known| known.is_some_and(|known| known.step == fork.step));
        let place = same.or_else(|| self.0.iter().position(Option::is_none));
        let place = place.ok_or_else(|| format!("an image can fork at most {} times", Self::MAX))?;
        self.0[place] = Some(fork);
        Ok(())
    }

    /// The forks, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = Fork> {
        self.0.into_iter().flatten()
    }

    /// Whose noise is drawn at a stage; none before the first fork.
    pub(crate) fn seed(&self, stage: Stage) -> Option<u64> {
        let (Stage::Z(drawn) | Stage::Noise(drawn)) = stage else { return None };
        // z/2 belongs to the step from x_3.
        let last = self.iter().filter(|fork| fork.step > drawn).min_by_key(|fork| fork.step);
        last.map(|fork| fork.seed)
    }
}

/// Into how many branches a tree forks, of which the first goes on as before.
pub const BRANCHES: usize = 3;

/// The leaves of a tree that begins with the noise of `seed` and forks at each of `steps`, which go down; from left to right.
/// From a fork on, the noise is that of `seed` and the number of the branch's first leaf together.
pub fn tree(seed: u64, steps: &[usize]) -> Vec<Forks> {
    let leaves = |forks: usize| BRANCHES.pow(forks as u32);
    let forks = |leaf: usize| {
        let mut forks = Forks::default();
        for (row, (place, &step)) in forks.0.iter_mut().zip(steps).enumerate() {
            let first = leaf - leaf % leaves(steps.len() - 1 - row);
            let is_other = !first.is_multiple_of(leaves(steps.len() - row));
            *place = is_other.then_some(Fork { step, seed: seed.wrapping_add(first as u64) });
        }
        forks
    };
    (0..leaves(steps.len())).map(forks).collect()
}

/// `STEP=SEED`, by commas.
impl fmt::Display for Forks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iter().map(|fork| fork.to_string()).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;
    use crate::noise::Stream;

    fn forks(texts: &[&str]) -> Forks {
        let mut forks = Forks::default();
        texts.iter().for_each(|text| forks.add(text.parse().unwrap()).unwrap());
        forks
    }

    #[test]
    fn from_each_fork_on_the_noise_is_that_of_another_seed() {
        let recipe = Recipe { forks: forks(&["1=9", "3=7"]), truncation: None, ..5.into() };
        let seeds = [("x", 5), ("z/3", 5), ("noise/3", 5), ("z/2", 7), ("noise/2", 7), ("noise/1", 7), ("z/0", 9)];
        for (name, seed) in seeds {
            assert_eq!(recipe.draw(name.parse().unwrap(), 9), Stream::new(seed, 0, name).normals(9), "{name}");
        }
    }

    #[test]
    fn a_tree_has_every_way_once() {
        let leaves: Vec<String> = tree(100, &[4, 3]).iter().map(Forks::to_string).collect();
        let expected =
            ["", "3=101", "3=102", "4=103", "4=103,3=104", "4=103,3=105", "4=106", "4=106,3=107", "4=106,3=108"];
        assert_eq!(leaves, expected);
        assert_eq!(tree(5, &[4, 3, 2]).len(), 27);
        assert_eq!(tree(5, &[]), [Forks::default()]);
    }

    #[test]
    fn forks_are_read_as_they_are_written_and_refused() {
        assert_eq!(forks(&["3=7", "2=18446744073709551615", "3=8"]).to_string(), "3=8,2=18446744073709551615");
        for text in ["", "3", "0=1", "3=-1", "3=", "x=1", "3=1=2"] {
            assert!(text.parse::<Fork>().is_err(), "{text}");
        }
        let mut full = forks(&["1=1", "2=1", "3=1", "4=1", "5=1", "6=1", "7=1", "8=1"]);
        assert!(full.add("9=1".parse().unwrap()).unwrap_err().contains("at most 8 times"));
    }
}
