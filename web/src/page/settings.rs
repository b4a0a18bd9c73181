//! What the page's address says: which faces, of which model, made by which executor.

use serde::{Deserialize, Serialize};

/// The numbers of faces that can be shown at once.
pub const COUNTS: [usize; 4] = [1, 4, 16, 64];
/// The greatest seed that leaves every face of the largest grid a seed of its own.
pub const MAX_SEED: u64 = u64::MAX - 63;

const DEFAULT_COUNT: usize = 16;
const DEFAULT_MODEL: &str = "faces64";

/// The executor to begin with; if it cannot run here, Candle takes over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecutorChoice {
    /// WebGPU if the browser has it and it is no software adapter.
    #[default]
    Auto,
    /// WebGPU, on a software adapter too.
    WebGpu,
    Candle,
}

/// The parameters of the page's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The seed of the first face; none in an address that leaves it to chance.
    pub seed: Option<u64>,
    /// One of [`COUNTS`].
    pub count: usize,
    pub executor: ExecutorChoice,
    /// The model file's name without its ending.
    pub model: String,
}

impl Settings {
    /// Reads the decoded names and values of a query. A value that cannot be used leaves the default, with a sentence
    /// that says so.
    pub fn parse(parameters: impl IntoIterator<Item = (String, String)>) -> (Self, Vec<String>) {
        let mut settings =
            Self { seed: None, count: DEFAULT_COUNT, executor: Default::default(), model: DEFAULT_MODEL.to_owned() };
        let mut problems = Vec::new();
        for (name, value) in parameters {
            if let Err(wanted) = settings.set(&name, &value) {
                problems.push(format!("The address says “{name}={value}”, but {wanted}. The default is used."));
            }
        }
        (settings, problems)
    }

    /// Sets one parameter; the error says what would have been right. Names that mean nothing here are left to others.
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "seed" => self.seed = Some(parse_seed(value)?),
            "count" => {
                let count = value.parse().ok().filter(|count| COUNTS.contains(count));
                self.count = count.ok_or("count must be 1, 4, 16 or 64")?;
            }
            "executor" => self.executor = parse_executor(value)?,
            "model" => {
                let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                if value.is_empty() || !value.chars().all(allowed) {
                    return Err("model must be a name of letters, digits, - and _".to_owned());
                }
                self.model = value.to_owned();
            }
            _ => {}
        }
        Ok(())
    }

    /// The query that [`Self::parse`] reads back; defaults that nobody needs to see are left out.
    pub fn query(&self) -> String {
        let mut query = format!("?count={}", self.count);
        if let Some(seed) = self.seed {
            query = format!("?seed={seed}&count={}", self.count);
        }
        match self.executor {
            ExecutorChoice::Auto => {}
            ExecutorChoice::WebGpu => query += "&executor=webgpu",
            ExecutorChoice::Candle => query += "&executor=candle",
        }
        if self.model != DEFAULT_MODEL {
            query += &format!("&model={}", self.model);
        }
        query
    }
}

/// Reads the name of an executor; the error says what would have been right.
pub fn parse_executor(text: &str) -> Result<ExecutorChoice, String> {
    match text {
        "auto" => Ok(ExecutorChoice::Auto),
        "webgpu" => Ok(ExecutorChoice::WebGpu),
        "candle" => Ok(ExecutorChoice::Candle),
        _ => Err("executor must be webgpu, candle or auto".to_owned()),
    }
}

/// Reads a seed; the error says what would have been right.
pub fn parse_seed(text: &str) -> Result<u64, String> {
    let seed = text.parse().ok().filter(|&seed| seed <= MAX_SEED);
    seed.ok_or_else(|| format!("seed must be a whole number from 0 to {MAX_SEED}"))
}

/// A seed short enough to read aloud.
#[cfg(target_arch = "wasm32")]
pub fn random_seed() -> u64 {
    (js_sys::Math::random() * 1e9) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(parameters: &[(&str, &str)]) -> (Settings, Vec<String>) {
        Settings::parse(parameters.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())))
    }

    #[test]
    fn a_query_is_read_back() {
        let all = [("seed", "18446744073709551552"), ("count", "64"), ("executor", "webgpu"), ("model", "tiny-2_x")];
        let (settings, problems) = parse(&all);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(settings.seed, Some(u64::MAX - 63));
        assert_eq!(settings.query(), "?seed=18446744073709551552&count=64&executor=webgpu&model=tiny-2_x");
        assert_eq!(parse(&[("seed", "7")]).0.query(), "?seed=7&count=16");
        assert_eq!(parse(&[]).0.query(), "?count=16");
    }

    #[test]
    fn broken_values_leave_the_defaults_and_are_named() {
        let broken = [
            ("seed", "-1"),
            ("seed", "18446744073709551553"),
            ("seed", "1e3"),
            ("count", "5"),
            ("executor", "cuda"),
            ("model", "../secret"),
            ("model", ""),
        ];
        for (name, value) in broken {
            let (settings, problems) = parse(&[(name, value)]);
            assert_eq!(settings, parse(&[]).0, "{name}={value}");
            assert_eq!(problems.len(), 1, "{name}={value}");
            assert!(problems[0].contains(&format!("{name}={value}")), "{problems:?}");
        }
    }

    #[test]
    fn parameters_of_others_are_left_alone() {
        assert_eq!(parse(&[("utm_source", "x")]), parse(&[]));
    }
}
