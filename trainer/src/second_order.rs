//! Threads in which gradients can be differentiated again.
//!
//! Candle detaches gradients from the graph unless `CANDLE_GRAD_DO_NOT_DETACH` is set, which it reads once in each thread. Set
//! everywhere, every backward pass would keep a graph of its own, at several times the memory.

use std::sync::OnceLock;

use candle_core::{Device, Var};
use rayon::{ThreadPool, ThreadPoolBuilder};

const VARIABLE: &str = "CANDLE_GRAD_DO_NOT_DETACH";

/// As many threads as elsewhere: what is computed in one of them uses the others.
fn pool() -> Option<&'static ThreadPool> {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    POOL.get_or_init(|| ThreadPoolBuilder::new().build().ok()).as_ref()
}

/// One thread for GPUs, whose libraries keep what they need in each thread that calls them.
fn gpu_thread() -> Option<&'static ThreadPool> {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    POOL.get_or_init(|| ThreadPoolBuilder::new().num_threads(1).build().ok()).as_ref()
}

/// Starts the threads.
///
/// # Safety
///
/// The program has no other thread yet: this changes the environment.
pub unsafe fn start() {
    // SAFETY: the caller's.
    unsafe { std::env::set_var(VARIABLE, "1") };
    for pool in [pool(), gpu_thread()].into_iter().flatten() {
        pool.broadcast(|_| {
            // A backward pass makes the thread read the variable; nothing is wanted of it.
            let pass = || Var::zeros((), candle_core::DType::F32, &Device::Cpu)?.as_tensor().sqr()?.backward();
            drop(pass());
        });
    }
    // SAFETY: the threads of the pool have read it, and wait.
    unsafe { std::env::remove_var(VARIABLE) };
}

/// Runs `f`, which computes on `device`, in one of the threads; in this one if there are none.
pub fn run<T: Send>(device: &Device, f: impl FnOnce() -> T + Send) -> T {
    let pool = if device.is_cpu() { pool() } else { gpu_thread() };
    let f = || {
        #[cfg(feature = "cuda")]
        let _kept = lddgan::KeptParameters::on(device);
        f()
    };
    match pool {
        Some(pool) => pool.install(f),
        None => f(),
    }
}
