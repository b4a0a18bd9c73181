//! Constants that executors of several graphs have in common, such as those of one model for several batches.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

use candle_core::{Tensor, TensorId};

use crate::error::Result;

/// Constants as executors need them, by what they are made of; each for as long as an executor has it.
#[derive(Debug)]
pub struct SharedConstants<K, V> {
    known: HashMap<K, Weak<V>>,
    /// By the tensors that were put together.
    joined: HashMap<Vec<TensorId>, Tensor>,
}

impl<K, V> Default for SharedConstants<K, V> {
    fn default() -> Self {
        Self { known: HashMap::new(), joined: HashMap::new() }
    }
}

impl<K: Eq + Hash, V> SharedConstants<K, V> {
    /// The constant that is made of this, if an executor has it.
    pub fn get(&self, key: &K) -> Option<Arc<V>> {
        self.known.get(key)?.upgrade()
    }

    /// Makes a constant known to the executors to come.
    pub fn insert(&mut self, key: K, constant: &Arc<V>) {
        self.known.insert(key, Arc::downgrade(constant));
    }

    /// All that executors have now.
    pub fn all(&self) -> impl Iterator<Item = Arc<V>> {
        self.known.values().filter_map(Weak::upgrade)
    }

    /// Lets go of what no executor has any more; to be called before each compilation.
    pub fn clean(&mut self) {
        self.known.retain(|_, constant| constant.strong_count() > 0);
        if self.known.is_empty() {
            self.joined.clear();
        }
    }

    /// Tensors one behind the other, along the first dimension: the same tensor at every call, so that what is made of it
    /// is known again.
    pub fn joined(&mut self, tensors: &[&Tensor]) -> Result<Tensor> {
        let key: Vec<TensorId> = tensors.iter().map(|tensor| tensor.id()).collect();
        if let Some(known) = self.joined.get(&key) {
            return Ok(known.clone());
        }
        let joined = Tensor::cat(tensors, 0)?;
        self.joined.insert(key, joined.clone());
        Ok(joined)
    }
}
