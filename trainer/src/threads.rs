//! How many threads Candle computes with.

use std::thread::available_parallelism;

use candle_core::utils::get_num_threads;

/// Limits the threads to the cores that this process may use, in a container or under `taskset`. Candle counts those of
/// the machine, and its threads wait for each other busily.
///
/// # Safety
///
/// The program has no other thread yet: this changes the environment.
pub unsafe fn limit() {
    let Ok(available) = available_parallelism() else { return };
    if available.get() < get_num_threads() {
        // SAFETY: the caller's.
        unsafe { std::env::set_var("RAYON_NUM_THREADS", available.to_string()) };
    }
}
