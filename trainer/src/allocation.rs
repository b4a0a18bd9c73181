//! How the C library's allocator keeps memory.

/// Keeps freed memory for what is allocated next. Tensors come and go at every step, and the GNU C library gives larger
/// ones back to the system each time, which then has to clear their pages anew. Other allocators are left as they are.
pub fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// The most that the library allows.
        const LARGEST_KEPT: libc::c_int = 32 << 20;
        // SAFETY: sets parameters of the allocator, which may be done at any time; without success, all stays as it was.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST_KEPT);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        }
    }
}
