//! The seed of a name or a date, the same everywhere.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// A name, or a date, whose face can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// The most characters of a name.
    pub const LONGEST: usize = 80;

    /// The first 12 hexadecimal digits of the SHA-256 of the name in small letters.
    pub fn seed(&self) -> u64 {
        let hash = Sha256::digest(self.0.to_lowercase());
        hash[..6].iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte))
    }
}

/// Spaces at the ends do not count, and several in a row are one.
impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
        let name = words.collect::<Vec<_>>().join(" ");
        match name.chars().count() {
            1..=Self::LONGEST => Ok(Self(name)),
            _ => Err(format!("name must have 1 to {} characters", Self::LONGEST)),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(text: &str) -> u64 {
        text.parse::<Name>().unwrap().seed()
    }

    /// Of `printf '%s' 'ada lovelace' | sha256sum | cut -c1-12`.
    #[test]
    fn seeds_of_names_are_those_of_sha256sum() {
        assert_eq!(seed("Ada Lovelace"), 0x177f85df57ad);
        assert_eq!(seed("  ada\t LOVELACE\n"), 0x177f85df57ad);
        assert_eq!(seed("ZOË"), 0x2752b8868684);
        assert_eq!(seed("2026-12-01"), 0x50282632e318);
        assert_eq!(seed("李雷"), 0x3a47328a607f);
    }

    #[test]
    fn a_name_is_shown_as_it_was_written_but_for_spaces() {
        assert_eq!(" Ada   Lovelace ".parse::<Name>().unwrap().to_string(), "Ada Lovelace");
        assert!("é".repeat(Name::LONGEST).parse::<Name>().is_ok());
        for text in ["", " \t", &"a".repeat(Name::LONGEST + 1)] {
            assert_eq!(text.parse::<Name>().unwrap_err(), "name must have 1 to 80 characters");
        }
    }
}
