//! The errors of this crate.

use lddgan_kernels::layout::NotAnImage;

/// What can go wrong on the way from a graph to its results.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    /// Values for an input that do not fit the graph.
    #[error("input `{name}`: {reason}")]
    Input { name: String, reason: String },
    /// A graph that cannot be executed, or an output that it does not have.
    #[error("graph: {0}")]
    Graph(String),
    /// An error of the networks' crate.
    #[error("{0}")]
    Model(String),
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl From<NotAnImage> for Error {
    fn from(error: NotAnImage) -> Self {
        Self::Graph(error.to_string())
    }
}

impl From<lddgan::Error> for Error {
    fn from(error: lddgan::Error) -> Self {
        Self::Model(error.to_string())
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Model(error.to_string())
    }
}
