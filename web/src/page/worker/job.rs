//! What the worker has to do.

use std::collections::BTreeMap;

use lddgan::Recipe;

use crate::choices::ExecutorChoice;
use crate::fetch::FileRecord;
use crate::page::protocol::{Order, Request, Source};
use lddgan_webgpu::executor::Dtype;

/// A request and how far it is.
pub enum Job {
    Load { source: ModelSource, executor: ExecutorChoice, tune: Option<bool> },
    Make(Faces),
    Develop { run: u32, recipe: Box<Recipe>, steps: usize, dtype: Dtype },
    Check { url: String, expected: Option<FileRecord> },
    Encode { file: String, size: usize, milliseconds: u16, texts: Vec<(String, String)>, pixels: Vec<u8> },
}

/// Where the bytes of a model are.
pub enum ModelSource {
    Url { url: String, expected: Option<FileRecord>, golden: Option<(String, FileRecord)> },
    Bytes { file: String, bytes: Vec<u8> },
}

/// Faces that are being made.
pub struct Faces {
    pub order: Order,
    /// How many are there.
    pub made: usize,
    /// The time that they took.
    pub milliseconds: f64,
    /// Those from this index on were given to no one yet.
    next: usize,
    /// Were given to a worker that could not make them.
    lost: Vec<usize>,
    /// Were made before others that come before them.
    early: BTreeMap<usize, Vec<u8>>,
}

impl Faces {
    fn new(order: Order) -> Self {
        let (lost, early) = Default::default();
        Self { order, made: 0, milliseconds: 0.0, next: 0, lost, early }
    }

    /// The index of a face that is to be made, which is not given again.
    pub fn take_next(&mut self) -> Option<usize> {
        // WebGPU, which makes them in order, may have made some.
        let next = self.next.max(self.made);
        self.lost.pop().or_else(|| {
            self.next = next + 1;
            (next < self.order.recipes.len()).then_some(next)
        })
    }

    /// The face of this index is to be made by another.
    pub fn give_back(&mut self, index: usize) {
        self.lost.push(index);
    }

    /// Keeps a face until those before it are there.
    pub fn keep(&mut self, index: usize, pixels: Vec<u8>) {
        self.early.insert(index, pixels);
    }

    /// The next face in order and its index, if it is there.
    pub fn take_made(&mut self) -> Option<(usize, Vec<u8>)> {
        let pixels = self.early.remove(&self.made)?;
        self.made += 1;
        Some((self.made - 1, pixels))
    }

    /// The recipes of the next faces, at most so many.
    pub fn next(&self, count: usize) -> &[Recipe] {
        let rest = &self.order.recipes[self.made..];
        &rest[..count.min(rest.len())]
    }
}

impl Job {
    /// `bytes` came beside the request.
    pub fn new(request: Request, bytes: Vec<u8>) -> Self {
        match request {
            Request::Load { source, executor, tune } => {
                let source = match source {
                    Source::Url { url, expected, golden } => ModelSource::Url { url, expected, golden },
                    Source::File(file) => ModelSource::Bytes { file, bytes },
                };
                Self::Load { source, executor, tune }
            }
            Request::Make(order) => Self::Make(Faces::new(order)),
            Request::Develop { run, recipe, steps, dtype } => Self::Develop { run, recipe, steps, dtype },
            Request::Check { url, expected } => Self::Check { url, expected },
            Request::Encode { file, size, milliseconds, texts } => {
                Self::Encode { file, size, milliseconds, texts, pixels: bytes }
            }
        }
    }

    /// Whether this makes faces of the model in use, and need not be done any more when there is another.
    pub fn needs_model(&self) -> bool {
        !matches!(self, Self::Load { .. } | Self::Encode { .. })
    }

    /// Whether this need not be done any more when there is the other, newer one.
    pub fn is_replaced_by(&self, newer: &Self) -> bool {
        match (self, newer) {
            (Self::Make(faces), Self::Make(newer)) => faces.order.place == newer.order.place,
            _ => std::mem::discriminant(self) == std::mem::discriminant(newer),
        }
    }
}
