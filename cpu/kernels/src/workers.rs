//! Threads that share the work of a step.

use std::marker::PhantomData;
use std::ops::Range;

use bytemuck::Zeroable;
use pulp::Arch;

use crate::layout::Block;

/// Operations below which a second thread costs more than it brings.
const SHARE: u64 = 2_000_000;

/// Threads, each with memory of its own. WebAssembly has one.
#[derive(Debug, Default)]
pub struct Workers {
    /// The instructions that they use.
    pub arch: Arch,
    memory: Vec<Vec<Block>>,
}

impl Workers {
    /// As many as there are cores, with so many blocks each.
    pub fn new(arch: Arch, blocks: usize) -> Self {
        Self { arch, memory: vec![vec![Block::zeroed(); blocks]; threads()] }
    }

    /// Gives each so many blocks at least.
    pub fn grow(&mut self, blocks: usize) {
        self.memory.resize(threads(), Vec::new());
        for memory in self.memory.iter_mut().filter(|memory| memory.len() < blocks) {
            memory.resize(blocks, Block::zeroed());
        }
    }

    /// Bytes of the memory of all.
    pub fn bytes(&self) -> u64 {
        self.memory.iter().map(|memory| size_of_val(memory.as_slice()) as u64).sum()
    }

    /// In how many parts, at most `most`, so many operations are divided.
    pub fn parts(flops: u64, most: usize) -> usize {
        // Several for each thread, so that none waits long for the last.
        let useful = (flops / SHARE).clamp(1, most.max(1) as u64) as usize;
        if threads() == 1 { 1 } else { useful.min(4 * threads()) }
    }

    /// Calls `f` with each of so many parts' numbers, and with memory that nobody else uses.
    pub fn run(&mut self, parts: usize, f: impl Fn(usize, &mut [Block]) + Sync) {
        #[cfg(not(target_family = "wasm"))]
        if parts > 1 && self.memory.len() > 1 {
            use rayon::prelude::*;
            use std::sync::atomic::{AtomicUsize, Ordering};
            let next = AtomicUsize::new(0);
            return self.memory.par_iter_mut().take(parts).for_each(|memory| {
                loop {
                    match next.fetch_add(1, Ordering::Relaxed) {
                        part if part < parts => f(part, memory),
                        _ => break,
                    }
                }
            });
        }
        (0..parts).for_each(|part| f(part, &mut self.memory[0]));
    }
}

/// Calls `f` on one of the threads, if there are several: they help each other sooner than a thread that is none of them.
pub fn on_worker(f: impl FnOnce() + Send) {
    #[cfg(not(target_family = "wasm"))]
    if threads() > 1 {
        return rayon::scope(|_| f());
    }
    f();
}

/// How many there are.
pub fn threads() -> usize {
    #[cfg(not(target_family = "wasm"))]
    return rayon::current_num_threads();
    #[cfg(target_family = "wasm")]
    1
}

/// The range of part `i` of `parts` equal ones of `count` things.
pub fn share(count: usize, parts: usize, i: usize) -> Range<usize> {
    count * i / parts..count * (i + 1) / parts
}

/// Memory that several threads write to, each to places of its own.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    start: *mut Block,
    len: usize,
    memory: PhantomData<&'a mut [Block]>,
}

// SAFETY: a place is written through `get` alone, whose callers see to it that no other thread uses it.
unsafe impl Send for Parts<'_> {}
// SAFETY: as above.
unsafe impl Sync for Parts<'_> {}

impl<'a> Parts<'a> {
    /// All of this memory.
    pub fn new(memory: &'a mut [Block]) -> Self {
        Self { start: memory.as_mut_ptr(), len: memory.len(), memory: PhantomData }
    }

    /// Some of the blocks.
    ///
    /// # Safety
    /// While they are in use, nobody else may use one of them.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "what is written belongs to nobody else, by the caller's promise")]
    pub unsafe fn get(&self, range: Range<usize>) -> &mut [Block] {
        assert!(range.start <= range.end && range.end <= self.len, "beyond the memory");
        // SAFETY: inside the slice that this was made of; alone by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.end - range.start) }
    }
}
