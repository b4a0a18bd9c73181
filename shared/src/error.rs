//! The errors of this crate.

use lddgan_kernels::layout::NotAnImage;

/// What can go wrong in this crate; every message says what was wrong, where, and where it helps what to do.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    /// A setting that no network can be built from.
    #[error("configuration field `{field}`: {reason}")]
    Config { field: String, reason: String },
    /// A model file that cannot be used.
    #[error("{file}: {reason}")]
    ModelFile { file: String, reason: String },
    /// Tensors that do not fit the network that the configuration describes.
    #[error("{file}: the tensors do not fit the configuration:\n{}", .problems.join("\n"))]
    Tensors { file: String, problems: Vec<String> },
    /// An operation was given a value of the wrong shape.
    #[error("{op}: {reason}")]
    Shape { op: &'static str, reason: String },
    /// A graph that cannot be executed, or an output that it does not have.
    #[error("graph: {0}")]
    Graph(String),
    /// Values for an input that do not fit the graph.
    #[error("input `{name}`: {reason}")]
    Input { name: String, reason: String },
    /// An error of Candle, the tensor library.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn config(field: &str, reason: impl Into<String>) -> Self {
        Self::Config { field: field.to_string(), reason: reason.into() }
    }

    pub(crate) fn shape(op: &'static str, reason: impl Into<String>) -> Self {
        Self::Shape { op, reason: reason.into() }
    }
}

impl From<NotAnImage> for Error {
    fn from(error: NotAnImage) -> Self {
        Self::Graph(error.to_string())
    }
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
