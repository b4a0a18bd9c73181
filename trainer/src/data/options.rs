//! The options by which every command is given images.

use std::path::PathBuf;

use super::folder::Purpose;
use super::source::{self, Choice, Source};
use super::{DataError, ImageSet};

/// Images that a command reads.
#[derive(Debug, Clone, clap::Args)]
pub struct DataOptions {
    /// Images: folders, image files or files of images (Parquet, tar, zip, CIFAR-10's .bin, LMDB's data.mdb, what `data prepare`
    /// wrote)
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    pub data: Vec<PathBuf>,
    #[command(flatten)]
    pub choice: ChoiceOptions,
}

/// Which images of the paths are taken.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ChoiceOptions {
    /// Split to take from a folder whose files are named by split, or `all` (default: train)
    #[arg(long, value_name = "NAME")]
    pub data_split: Option<String>,
    /// Column of Parquet files that holds the images (default: the only one of a fitting type)
    #[arg(long, value_name = "NAME")]
    pub column: Option<String>,
    /// Leave out images with a shorter side below this (default: the size that is needed, so that none is enlarged)
    #[arg(long, value_name = "PIXELS")]
    pub min_size: Option<u16>,
}

impl ChoiceOptions {
    /// Opens images to train on.
    pub fn open(&self, paths: &[PathBuf]) -> Result<Source, DataError> {
        let choice =
            Choice { split: self.data_split.as_deref(), purpose: Purpose::Training, column: self.column.as_deref() };
        Source::open(paths, choice)
    }

    pub fn min_size(&self, size: usize) -> usize {
        self.min_size.map_or(size, usize::from)
    }
}

impl DataOptions {
    /// What is read, in a few words.
    pub fn name(&self) -> String {
        source::name(&self.data)
    }

    pub fn open(&self) -> Result<Source, DataError> {
        self.choice.open(&self.data)
    }

    /// Loads the images as squares of `size` pixels, and says what was taken and skipped.
    pub fn load(&self, size: usize) -> Result<ImageSet, DataError> {
        ImageSet::load(&self.open()?, size, self.choice.min_size(size))
    }

    /// Loads other images in the same way; from a folder whose files are named by split, those for validation, or else for
    /// tests.
    pub fn load_validation(&self, paths: &[PathBuf], size: usize) -> Result<ImageSet, DataError> {
        let choice = Choice { split: None, purpose: Purpose::Validation, column: self.choice.column.as_deref() };
        ImageSet::load(&Source::open(paths, choice)?, size, self.choice.min_size(size))
    }
}
