//! What the page's address says: which faces, of which model, made how and by which executor.

use lddgan::{Fork, Forks, Mix, Name, Recipe, Shifts, Truncation};
use lddgan_webgpu::executor::Dtype;

use crate::choices::{ExecutorChoice, parse_dtype, parse_executor, parse_seed, parse_switch};

/// The numbers of faces that can be shown at once.
pub const COUNTS: [usize; 4] = [1, 4, 16, 64];
/// More denoising steps than any model has.
const MAX_STEPS: usize = 1000;
/// Beyond the greatest value of truncation there is next to nothing to cut.
pub const TRUNCATIONS: std::ops::RangeInclusive<f32> = 0.1..=3.0;
/// The model that an address without one names.
pub const DEFAULT_MODEL: &str = "faces256";

const DEFAULT_COUNT: usize = 16;

/// What differs from face to face; the rest is that of one seed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Vary {
    #[default]
    All,
    /// z, while x_T and the noise of the posterior are those of this seed.
    Z(u64),
    /// x_T and the noise of the posterior, while z is that of this seed.
    X(u64),
}

/// The parameters of the page's address.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The seeds of the faces; none in an address that leaves them to chance.
    pub seeds: Vec<u64>,
    /// One of [`COUNTS`].
    pub count: usize,
    /// Denoising steps; none: all that the model has.
    pub steps: Option<usize>,
    pub truncation: Truncation,
    pub vary: Vary,
    /// The step from x_t to which varying z is limited.
    pub z_step: Option<usize>,
    /// How far the faces are moved along directions.
    pub shifts: Shifts,
    /// Where their noise becomes that of other seeds.
    pub forks: Forks,
    /// Whether the page opens the tree of the first face.
    pub tree: bool,
    /// Whose face was asked for last; the seed of the face says whether it is shown.
    pub name: Option<Name>,
    pub executor: ExecutorChoice,
    /// Whether the convolution kernels are timed; none: where a GPU computes.
    pub tune: Option<bool>,
    /// The numbers of the images between the kernels of WebGPU.
    pub dtype: Dtype,
    /// The model file's name without its ending.
    pub model: String,
    /// What suits the model.
    pub model_truncation: Option<f32>,
    /// The name of a file of the visitor's in its place, which no address can bring back.
    pub file: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seeds: Vec::new(),
            count: DEFAULT_COUNT,
            steps: None,
            truncation: Truncation::Model,
            vary: Vary::All,
            z_step: None,
            shifts: Shifts::default(),
            forks: Forks::default(),
            tree: false,
            name: None,
            executor: ExecutorChoice::Auto,
            tune: None,
            dtype: Dtype::F32,
            model: DEFAULT_MODEL.to_owned(),
            model_truncation: None,
            file: None,
        }
    }
}

impl Settings {
    /// Reads the decoded names and values of a query. A value that cannot be used leaves the default, with a sentence
    /// that says so.
    pub fn parse(parameters: impl IntoIterator<Item = (String, String)>) -> (Self, Vec<String>) {
        let mut settings = Self::default();
        let (mut first, mut count) = (None, None);
        let mut problems = Vec::new();
        for (name, value) in parameters {
            let set = match name.as_str() {
                "seed" => parse_seed(&value).map(|seed| first = Some(seed)),
                "count" => parse_count(&value).map(|value| count = Some(value)),
                name => settings.set(name, &value),
            };
            if let Err(wanted) = set {
                problems.push(format!("The address says “{name}={value}”, but {wanted}. The default is used."));
            }
        }
        let named = settings.name.as_ref().filter(|_| first.is_none()).map(Name::seed);
        settings.count = count.unwrap_or(if named.is_some() { 1 } else { settings.count });
        if let Some(first) = first.or(named) {
            settings.follow(first);
        } else if !settings.seeds.is_empty() {
            settings.count = settings.seeds.len();
        }
        (settings, problems)
    }

    /// Sets one parameter; the error says what would have been right. Names that mean nothing here are left to others.
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "seeds" => {
                let seeds: Vec<u64> = value.split(',').map(parse_seed).collect::<Result<_, _>>()?;
                self.count = one_of(&COUNTS, seeds.len()).ok_or("seeds must be 1, 4, 16 or 64 numbers")?;
                self.seeds = seeds;
            }
            "name" => self.name = Some(value.parse()?),
            "steps" => {
                self.steps = Some(parse_steps(value).ok_or("steps must be a whole number of 1 or more")?);
            }
            "truncation" => {
                let known = |truncation: &Truncation| match truncation {
                    Truncation::At(limit) => TRUNCATIONS.contains(limit),
                    _ => true,
                };
                let truncation = value.parse().ok().filter(known);
                self.truncation = truncation.ok_or("truncation must be a number from 0.1 to 3, or off")?;
            }
            "z-of" => self.vary = Vary::X(parse_seed(value)?),
            "x-of" => self.vary = Vary::Z(parse_seed(value)?),
            "z-step" => {
                self.z_step = Some(parse_steps(value).ok_or("z-step must be a whole number of 1 or more")?);
            }
            "direction" => {
                let read =
                    value.split_once('=').and_then(|(mode, amount)| Some((mode.parse().ok()?, amount.parse().ok()?)));
                let (mode, amount) = read.ok_or("direction must be a number, = and an amount, as in 3=1.5")?;
                self.shifts.set(mode, amount)?;
            }
            "fork" => self.forks.add(value.parse::<Fork>()?)?,
            "tree" => self.tree = parse_switch("tree", value)?,
            "executor" => self.executor = parse_executor(value)?,
            "tune" => self.tune = Some(parse_switch("tune", value)?),
            "dtype" => self.dtype = parse_dtype(value)?,
            "file" => self.file = Some(file_in_address(value)),
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

    /// Takes the seeds from `first` on.
    pub fn follow(&mut self, first: u64) {
        self.seeds = (first..).take(self.count).collect();
    }

    /// Beyond which values of z are drawn again.
    pub fn limit(&self) -> Option<f32> {
        match self.truncation {
            Truncation::Model => self.model_truncation,
            Truncation::Off => None,
            Truncation::At(limit) => Some(limit),
        }
    }

    /// The random numbers of the face with this seed.
    pub fn recipe(&self, seed: u64) -> Recipe {
        self.blend(seed.into())
    }

    /// The random numbers of a face between two.
    pub fn blend(&self, mix: Mix) -> Recipe {
        let recipe = Recipe { truncation: self.limit(), shifts: self.shifts, forks: self.forks, ..mix.into() };
        match self.vary {
            Vary::All => recipe,
            Vary::Z(fixed) => Recipe { x: fixed.into(), z_step: self.z_step, ..recipe },
            Vary::X(fixed) => Recipe { z: fixed.into(), ..recipe },
        }
    }

    /// The name that was asked for, if its face is the one with this seed.
    pub fn name_of(&self, seed: u64) -> Option<&Name> {
        self.name.as_ref().filter(|name| name.seed() == seed)
    }

    /// The query of these faces, which [`Self::parse`] reads back; defaults that nobody needs to see are left out.
    pub fn query(&self) -> String {
        let follows = self.seeds.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        let mut query = match (self.seeds.first(), follows) {
            (Some(first), true) => match self.name_of(*first) {
                Some(name) => format!("?name={}&count={}", encode(&name.to_string()), self.count),
                None => format!("?seed={first}&count={}", self.count),
            },
            (Some(_), false) => {
                let seeds: Vec<String> = self.seeds.iter().map(u64::to_string).collect();
                format!("?seeds={}", seeds.join(","))
            }
            (None, _) => format!("?count={}", self.count),
        };
        if let Some(steps) = self.steps {
            query += &format!("&steps={steps}");
        }
        if self.truncation != Truncation::Model {
            query += &format!("&truncation={}", self.truncation);
        }
        match self.vary {
            Vary::All => {}
            Vary::Z(fixed) => {
                query += &format!("&x-of={fixed}");
                if let Some(step) = self.z_step {
                    query += &format!("&z-step={step}");
                }
            }
            Vary::X(fixed) => query += &format!("&z-of={fixed}"),
        }
        for (mode, amount) in self.shifts.iter() {
            query += &format!("&direction={mode}={amount}");
        }
        for fork in self.forks.iter() {
            query += &format!("&fork={fork}");
        }
        if self.tree {
            query += "&tree=1";
        }
        match self.executor {
            ExecutorChoice::Auto => {}
            ExecutorChoice::WebGpu => query += "&executor=webgpu",
            ExecutorChoice::Cpu => query += "&executor=cpu",
        }
        if let Some(tune) = self.tune {
            query += &format!("&tune={}", u8::from(tune));
        }
        if self.dtype != Dtype::F32 {
            query += &format!("&dtype={}", self.dtype.name());
        }
        if let Some(file) = &self.file {
            query += &format!("&file={file}");
        } else if self.model != DEFAULT_MODEL {
            query += &format!("&model={}", self.model);
        }
        query
    }

    /// Leaves out what a model of so many steps does not have; says so for each.
    pub fn limit_steps(&mut self, all: usize) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(steps) = self.steps.take_if(|steps| *steps > all) {
            problems.push(format!("The address says “steps={steps}”, but this model has {all}. All are taken."));
        }
        // All of them need no word.
        self.steps.take_if(|steps| *steps == all);
        if let Some(step) = self.z_step.take_if(|step| *step > all) {
            problems.push(format!("The address says “z-step={step}”, but this model has {all} steps. All vary."));
        }
        problems
    }

    /// Leaves out the directions that a model with so many does not have; says so for each.
    pub fn limit_shifts(&mut self, all: usize) -> Vec<String> {
        let mut problems = Vec::new();
        for (mode, amount) in self.shifts.iter().filter(|(mode, _)| *mode >= all).collect::<Vec<_>>() {
            problems
                .push(format!("The address says “direction={mode}={amount}”, but this model has no such direction."));
            self.shifts = self.shifts.without(mode);
        }
        problems
    }
}

/// The numbers of denoising steps to choose from, of a model that has so many.
pub fn step_choices(all: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1usize), |steps| steps.checked_mul(2));
    powers.take_while(|&steps| steps < all).chain([all]).collect()
}

/// The steps from x_t to choose from where z varies at one alone: all of them, or some where they would not fit in a row.
pub fn z_step_choices(all: usize) -> Vec<usize> {
    if all <= 8 { (1..=all).collect() } else { step_choices(all) }
}

fn parse_count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().and_then(|count| one_of(&COUNTS, count));
    count.ok_or_else(|| "count must be 1, 4, 16 or 64".to_owned())
}

/// A value as a query has it: a space is `+`, and other bytes but the plainest are `%` and two digits.
fn encode(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b' ' => "+".to_owned(),
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn parse_steps(text: &str) -> Option<usize> {
    text.parse().ok().filter(|steps| (1..=MAX_STEPS).contains(steps))
}

/// A file's name in an address: letters, digits, `.`, `_` and `-`; everything else becomes `_`.
pub fn file_in_address(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect()
}

fn one_of(allowed: &[usize], value: usize) -> Option<usize> {
    allowed.contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::{MAX_SEED, other_seed};

    fn parse(parameters: &[(&str, &str)]) -> (Settings, Vec<String>) {
        Settings::parse(parameters.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())))
    }

    #[test]
    fn a_query_is_read_back() {
        let all = [
            ("seed", "18446744073709551552"),
            ("count", "64"),
            ("steps", "2"),
            ("truncation", "0.5"),
            ("z-step", "4"),
            ("x-of", "3"),
            ("executor", "webgpu"),
            ("tune", "1"),
            ("direction", "3=-0.5"),
            ("direction", "0=2"),
            ("dtype", "f16"),
            ("model", "tiny-2_x"),
        ];
        let (settings, problems) = parse(&all);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!((settings.seeds[0], settings.seeds.len()), (u64::MAX - 63, 64));
        let query = "?seed=18446744073709551552&count=64&steps=2&truncation=0.5&x-of=3&z-step=4&direction=3=-0.5&direction=0=2&executor=webgpu&tune=1&\
                     dtype=f16&model=tiny-2_x";
        assert_eq!(settings.query(), query);
        assert_eq!(parse(&[("seed", "7")]).0.query(), "?seed=7&count=16");
        assert_eq!(parse(&[("z-of", "7")]).0.query(), "?count=16&z-of=7");
        assert_eq!(parse(&[]).0.query(), "?count=16");
        assert_eq!(parse(&[("executor", "candle")]).0.query(), "?count=16&executor=cpu");
    }

    #[test]
    fn faces_that_do_not_follow_each_other_are_listed() {
        let (settings, problems) = parse(&[("seeds", "9,4,4,7")]);
        assert_eq!((settings.count, problems.len()), (4, 0));
        assert_eq!(settings.query(), "?seeds=9,4,4,7");
    }

    #[test]
    fn a_name_stands_for_its_seed() {
        let (settings, problems) = parse(&[("name", " Zoë  & Co. ")]);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(
            (settings.seeds.as_slice(), settings.count),
            (&["zoë & co.".parse::<Name>().unwrap().seed()][..], 1)
        );
        assert_eq!(settings.query(), "?name=Zo%C3%AB+%26+Co.&count=1");
        assert_eq!(parse(&[("name", "Ada"), ("count", "4")]).0.count, 4);
        // Of two, the seed is the more exact.
        assert_eq!(parse(&[("name", "Ada"), ("seed", "3")]).0.query(), "?seed=3&count=16");
        let mut other = settings;
        other.follow(3);
        assert_eq!(other.query(), "?seed=3&count=1");
    }

    #[test]
    fn faces_fork() {
        let forked = parse(&[("seed", "3"), ("count", "1"), ("fork", "3=7"), ("fork", "1=9")]).0;
        assert_eq!(forked.recipe(3).forks.to_string(), "3=7,1=9");
        assert_eq!(forked.query(), "?seed=3&count=1&fork=3=7&fork=1=9");
        assert_eq!(parse(&[("seed", "3"), ("tree", "1")]).0.query(), "?seed=3&count=16&tree=1");
    }

    #[test]
    fn only_what_should_vary_does() {
        let vary = |name, value| parse(&[(name, value)]).0.recipe(9);
        assert_eq!(vary("count", "4"), 9.into());
        assert_eq!((vary("x-of", "3").x, vary("x-of", "3").z), (3.into(), 9.into()));
        assert_eq!((vary("z-of", "3").x, vary("z-of", "3").z), (9.into(), 3.into()));
        assert_eq!(parse(&[("z-step", "2"), ("x-of", "3")]).0.recipe(9).z_step, Some(2));
        // Without x_T of another face there is nothing to limit.
        assert_eq!(parse(&[("z-step", "2")]).0.recipe(9), 9.into());
    }

    #[test]
    fn broken_values_leave_the_defaults_and_are_named() {
        let broken = [
            ("seed", "-1"),
            ("seed", "18446744073709551553"),
            ("seed", "1e3"),
            ("seeds", "1,2"),
            ("seeds", "1,2,x,4"),
            ("count", "5"),
            ("steps", "0"),
            ("steps", "1001"),
            ("truncation", "0"),
            ("truncation", "NaN"),
            ("x-of", "-"),
            ("z-step", "0"),
            ("direction", "3"),
            ("direction", "light=1"),
            ("direction", "3=9"),
            ("name", " "),
            ("fork", "3"),
            ("tree", "2"),
            ("executor", "cuda"),
            ("tune", "yes"),
            ("dtype", "f64"),
            ("model", "../secret"),
            ("model", ""),
        ];
        for (name, value) in broken {
            let (settings, problems) = parse(&[(name, value)]);
            assert_eq!(settings, Settings::default(), "{name}={value}");
            assert_eq!(problems.len(), 1, "{name}={value}");
            assert!(problems[0].contains(&format!("{name}={value}")), "{problems:?}");
        }
    }

    #[test]
    fn steps_are_those_of_the_model() {
        assert_eq!(step_choices(4), [1, 2, 4]);
        assert_eq!((step_choices(1), step_choices(2)), (vec![1], vec![1, 2]));
        assert_eq!(step_choices(6), [1, 2, 4, 6]);
        assert_eq!((z_step_choices(4), z_step_choices(9)), (vec![1, 2, 3, 4], vec![1, 2, 4, 8, 9]));
        let limited = |name, value, all| {
            let mut settings = parse(&[(name, value)]).0;
            let problems = settings.limit_steps(all);
            (settings.steps, settings.z_step, problems.len())
        };
        assert_eq!(limited("steps", "8", 4), (None, None, 1));
        assert_eq!(limited("steps", "8", 8), (None, None, 0));
        assert_eq!(limited("steps", "2", 8), (Some(2), None, 0));
        assert_eq!(limited("z-step", "3", 2), (None, None, 1));
        assert_eq!(limited("z-step", "8", 8), (None, Some(8), 0));
    }

    #[test]
    fn directions_are_those_of_the_model() {
        let mut settings = parse(&[("direction", "3=1.5"), ("direction", "9=1")]).0;
        assert_eq!(settings.recipe(1).shifts.get(3), 1.5);
        let problems = settings.limit_shifts(9);
        assert!(problems.len() == 1 && problems[0].contains("direction=9=1"), "{problems:?}");
        assert_eq!(settings.query(), "?count=16&direction=3=1.5");
    }

    #[test]
    fn no_seed_comes_before_the_first_and_after_the_last() {
        assert_eq!((other_seed(1, -1), other_seed(0, -1)), (Some(0), None));
        assert_eq!((other_seed(MAX_SEED - 1, 1), other_seed(MAX_SEED, 1)), (Some(MAX_SEED), None));
    }

    #[test]
    fn a_file_of_the_visitors_is_named_in_place_of_a_model() {
        let settings = Settings {
            model: "tiny".to_owned(),
            file: Some(file_in_address("mein Modell&x=1.st")),
            ..Settings::default()
        };
        assert_eq!(settings.query(), "?count=16&file=mein_Modell_x_1.st");
        assert_eq!(parse(&[("file", "a b")]).0.file.as_deref(), Some("a_b"));
    }

    #[test]
    fn truncation_is_that_of_the_model_unless_the_address_says_otherwise() {
        let limit = |truncation: &[(&str, &str)]| {
            let settings = Settings { model_truncation: Some(1.4), ..parse(truncation).0 };
            (settings.recipe(1).truncation, settings.query())
        };
        assert_eq!(limit(&[]), (Some(1.4), "?count=16".to_owned()));
        assert_eq!(limit(&[("truncation", "off")]), (None, "?count=16&truncation=off".to_owned()));
        assert_eq!(limit(&[("truncation", "0.5")]), (Some(0.5), "?count=16&truncation=0.5".to_owned()));
    }

    #[test]
    fn parameters_of_others_are_left_alone() {
        assert_eq!(parse(&[("utm_source", "x")]), parse(&[]));
    }
}
