//! Compiles graphs for this machine.

use lddgan::{Error, Graph, Result};

use crate::executor::Executor;
use crate::program::Constants;

/// Makes executors that share their weights.
#[derive(Debug, Default)]
pub struct Compiler {
    constants: Constants,
}

impl Compiler {
    /// Bytes of the weights of all its executors, each once.
    pub fn weight_bytes(&self) -> u64 {
        self.constants.all().map(|constant| size_of_val(constant.as_slice()) as u64).sum()
    }
}

impl lddgan::Compiler for Compiler {
    type Executor = Executor;
    type Error = Error;

    async fn compile(&mut self, graph: &Graph) -> Result<Executor> {
        Executor::sharing(graph, &mut self.constants)
    }
}
