//! How many threads Candle computes with.

use std::thread::available_parallelism;

use candle_core::utils::get_num_threads;

/// Limits the threads to the cores that this process may use, in a container or under `taskset`. Candle counts those of
/// the machine, and its threads wait for each other busily. To be called before the program has any other threads: it
/// changes the environment.
pub fn limit() {
    let Ok(available) = available_parallelism() else { return };
    if available.get() < get_num_threads() {
        // SAFETY: there is no other thread that could read the environment.
        unsafe { std::env::set_var("RAYON_NUM_THREADS", available.to_string()) };
    }
}
