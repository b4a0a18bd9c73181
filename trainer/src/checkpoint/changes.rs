//! What a resumed run would do in another way than before, by name.

use std::collections::BTreeMap;

use super::Stage;
use crate::preset::Preset;

/// What a run is made from, besides its preset and its seed: names and values.
pub type Inputs = BTreeMap<String, String>;

/// Inputs that a run may go on with other values of.
const MAY_CHANGE: [&str; 2] = ["precision", "hold-encoder"];
/// As [`MAY_CHANGE`], the ends of the names of a preset's settings.
const SETTINGS_MAY_CHANGE: [&str; 4] = ["name", ".images", "learning_rate", ".gradient_clip"];
/// Numbers that differ by this share of them are the same, written and read again.
const ROUNDING: f64 = 1e-9;

/// A value that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Whether a run may go on with it.
    pub allowed: bool,
    text: String,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// The settings of this stage that differ in two presets.
pub fn of_presets(stage: Stage, before: &Preset, now: &Preset) -> Vec<Change> {
    let (before, now) = (settings(before), settings(now));
    let parts: &[&str] = match stage {
        Stage::Autoencoder => &["name", "autoencoder", "train_autoencoder"],
        Stage::Gan => &["name", "autoencoder", "generator", "diffusion", "discriminator", "train_gan"],
    };
    let of_stage = |name: &&String| name.split('.').next().is_some_and(|part| parts.contains(&part));
    let mut names: Vec<&String> = before.keys().chain(now.keys()).filter(of_stage).collect();
    names.sort_unstable();
    names.dedup();
    let change = |name: &String| {
        let (before, now) = (before.get(name), now.get(name));
        if same(before, now) {
            return None;
        }
        let say = |value: Option<&toml::Value>| value.map_or("none".to_string(), toml::Value::to_string);
        let text = format!("{name} was {}, the preset has {}", say(before), say(now));
        Some(Change { allowed: SETTINGS_MAY_CHANGE.iter().any(|end| name.ends_with(end)), text })
    };
    names.into_iter().filter_map(change).collect()
}

/// The inputs that differ. Those that an earlier program did not note are taken as they are.
pub fn of_inputs(before: &Inputs, now: &Inputs) -> Vec<Change> {
    let change = |(name, now): (&String, &String)| {
        let before = before.get(name).filter(|before| *before != now)?;
        let text = format!("{name} was {before}, now it is {now}");
        Some(Change { allowed: MAY_CHANGE.contains(&name.as_str()), text })
    };
    now.iter().filter_map(change).collect()
}

/// Every setting by its path, as `train_gan.batch`.
fn settings(preset: &Preset) -> BTreeMap<String, toml::Value> {
    fn collect(path: String, value: toml::Value, settings: &mut BTreeMap<String, toml::Value>) {
        match value {
            toml::Value::Table(table) => {
                for (name, value) in table {
                    let path = if path.is_empty() { name } else { format!("{path}.{name}") };
                    collect(path, value, settings);
                }
            }
            value => drop(settings.insert(path, value)),
        }
    }
    let mut settings = BTreeMap::new();
    // A preset came from TOML.
    if let Ok(value) = toml::Value::try_from(preset) {
        collect(String::new(), value, &mut settings);
    }
    settings
}

fn same(before: Option<&toml::Value>, now: Option<&toml::Value>) -> bool {
    match (before, now) {
        (Some(toml::Value::Float(a)), Some(toml::Value::Float(b))) => (a - b).abs() <= ROUNDING * a.abs(),
        (Some(toml::Value::Array(a)), Some(toml::Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(Some(a), Some(b)))
        }
        _ => before == now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_differ_are_named() {
        let before = Preset::load("faces64").unwrap();
        let mut now = before.clone();
        now.train_gan.images += 1;
        now.train_gan.generator_learning_rate /= 2.0;
        now.train_gan.batch *= 2;
        now.generator.channels += 8;
        now.train_gan.r1_gamma *= 1.0 + 1e-12;
        let said = |stage| {
            let changes = of_presets(stage, &before, &now).into_iter();
            changes.map(|change| format!("{} {change}", change.allowed)).collect::<Vec<_>>()
        };
        let expected = [
            format!(
                "false generator.channels was {}, the preset has {}",
                before.generator.channels, now.generator.channels
            ),
            format!("false train_gan.batch was {}, the preset has {}", before.train_gan.batch, now.train_gan.batch),
            format!(
                "true train_gan.generator_learning_rate was {}, the preset has {}",
                before.train_gan.generator_learning_rate, now.train_gan.generator_learning_rate
            ),
            format!("true train_gan.images was {}, the preset has {}", before.train_gan.images, now.train_gan.images),
        ];
        assert_eq!(said(Stage::Gan), expected);
        assert!(said(Stage::Autoencoder).is_empty());
    }

    #[test]
    fn inputs_that_differ_are_named() {
        let inputs = |pairs: &[(&str, &str)]| -> Inputs {
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let before = inputs(&[("data", "a"), ("precision", "f32")]);
        let now = inputs(&[("data", "b"), ("precision", "bf16"), ("encoder", "c")]);
        let changes = of_inputs(&before, &now);
        let said: Vec<_> = changes.iter().map(|change| (change.allowed, change.to_string())).collect();
        let expected = [(false, "data was a, now it is b"), (true, "precision was f32, now it is bf16")];
        assert_eq!(said, expected.map(|(allowed, text)| (allowed, text.to_string())));
    }
}
