//! Images for training and evaluation: from folders, archives and databases to pixels of one size.

mod cifar10;
mod decode;
mod error;
mod folder;
mod guard;
mod image_file;
mod image_set;
mod jpeg;
mod kind;
mod lmdb;
pub mod manifest;
mod names;
mod options;
mod parquet;
mod planes;
mod prefetch;
mod prepare;
mod prepared;
mod reader;
pub mod report;
mod source;
mod split;
mod square;
mod tar;
mod zip;

pub use decode::decode;
pub use error::DataError;
pub use image_set::ImageSet;
pub use options::{ChoiceOptions, DataOptions};
pub use planes::picture;
pub use prefetch::prefetch;
pub use prepare::{Selection, prepare, select};
pub use prepared::Prepared;
pub use source::Source;
