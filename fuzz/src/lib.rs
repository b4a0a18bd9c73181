//! What the fuzz targets share.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;

/// A heap that takes a large request for a finding: no input of some kilobytes needs that much memory at once.
/// libFuzzer's own limit sees only memory that is written to.
pub struct LimitedHeap<const LIMIT: usize = { 64 << 20 }>;

impl<const LIMIT: usize> LimitedHeap<LIMIT> {
    fn check(size: usize) {
        if size > LIMIT {
            eprintln!("{size} bytes asked for at once\n{}", Backtrace::force_capture());
            std::process::abort();
        }
    }
}

// SAFETY: every call is passed on to the system's heap as it came.
unsafe impl<const LIMIT: usize> GlobalAlloc for LimitedHeap<LIMIT> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::check(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::check(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::check(size);
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}
