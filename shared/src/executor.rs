//! What executors of recorded graphs have in common.

use std::collections::BTreeMap;

use crate::error::{self, Error};
use crate::graph::Graph;

/// A graph that was compiled once, to be run many times.
#[allow(async_fn_in_trait, reason = "the futures stay on the thread that made them")]
pub trait Executor {
    /// What can go wrong.
    type Error;

    /// Computes all outputs from the inputs (name, values in the order of the graph's shapes), of which none may be missing.
    /// It may still compute afterwards, until [`Self::finish`] or [`Self::read`].
    fn run<'a>(&mut self, inputs: impl IntoIterator<Item = (&'a str, &'a [f32])>) -> Result<(), Self::Error>;

    /// Waits until the last run is done.
    async fn finish(&self) -> Result<(), Self::Error>;

    /// An output of the last run, in the order of its shape.
    async fn read(&self, output: &str) -> Result<Vec<f32>, Self::Error>;

    /// The shape of an output, batch first.
    fn shape(&self, output: &str) -> Result<&[usize], Self::Error>;

    /// Bytes of all buffers that hold values between operations.
    fn activation_bytes(&self) -> u64;

    /// Bytes of the weights and other constants that it uses, some of them perhaps together with others.
    fn weight_bytes(&self) -> u64;
}

/// The values of every input of a graph, by name. `needed` are the inputs and their numbers of values.
///
/// # Errors
/// [`Error::Input`] for an input that the graph does not have, one that was not given, and a wrong number of values.
pub fn inputs_by_name<'a, 'b>(
    needed: impl IntoIterator<Item = (&'b str, usize)>,
    given: impl IntoIterator<Item = (&'a str, &'a [f32])>,
) -> error::Result<BTreeMap<&'b str, &'a [f32]>> {
    let fail = |name: &str, reason: String| Error::Input { name: name.to_string(), reason };
    let needed: BTreeMap<&str, usize> = needed.into_iter().collect();
    let given: BTreeMap<&str, &[f32]> = given.into_iter().collect();
    if let Some(name) = given.keys().find(|name| !needed.contains_key(*name)) {
        return Err(fail(name, "the graph has no such input".to_string()));
    }
    let find = |(name, count)| {
        let values = *given.get(name).ok_or_else(|| fail(name, "was not given".to_string()))?;
        match values.len() == count {
            true => Ok((name, values)),
            false => Err(fail(name, format!("{} values were given, {count} are needed", values.len()))),
        }
    };
    needed.into_iter().map(find).collect()
}

/// Makes executors for one device. Those of graphs with the same weights share them.
#[allow(async_fn_in_trait, reason = "the futures stay on the thread that made them")]
pub trait Compiler {
    /// What graphs become.
    type Executor: Executor<Error = Self::Error>;
    /// What can go wrong.
    type Error: From<Error>;

    /// Makes an executor of a graph.
    async fn compile(&mut self, graph: &Graph) -> Result<Self::Executor, Self::Error>;

    /// Makes another attempt at a batch possible after an error, if anything helps; else the error is given back.
    async fn recover(&mut self, error: Self::Error, attempt: &mut Attempt) -> Result<(), Self::Error> {
        let _ = attempt;
        Err(error)
    }
}

/// An attempt at a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Images at a time.
    pub batch: usize,
    /// How often the device was lost since a batch was done.
    pub losses: usize,
}
