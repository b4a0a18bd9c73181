//! Being told to stop: the interrupt key, signals, and a reader of the output that is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};

use crate::output;

/// The numbers of signals, the same on all systems that have them.
pub const SIGINT: u8 = 2;
pub const SIGPIPE: u8 = 13;
pub const SIGTERM: u8 = 15;

/// Watches for what asks the program to stop.
pub struct Interrupts {
    /// The number of the signal that came, or 0.
    signal: Arc<AtomicUsize>,
}

impl Interrupts {
    /// From now on, a signal does not end the program; a second interrupt key does.
    pub fn watch() -> Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        watch(&signal).context("signals cannot be watched")?;
        Ok(Self { signal })
    }

    /// The signal that came; SIGPIPE if the output's reader is gone.
    pub fn signal(&self) -> Option<u8> {
        match self.signal.load(Ordering::SeqCst) as u8 {
            0 => output::is_closed().then_some(SIGPIPE),
            signal => Some(signal),
        }
    }
}

/// SIGTERM comes from schedulers and systems, SIGHUP when a terminal or connection is closed; SIGUSR1 is what mpirun
/// passes on to its processes at once. What is ignored stays so (`nohup`, and Ctrl-C in a script's background).
#[cfg(unix)]
fn watch(first: &Arc<AtomicUsize>) -> std::io::Result<()> {
    use signal_hook::flag;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1] {
        if !is_ignored(signal) {
            flag::register_usize(signal, first.clone(), signal as usize)?;
        }
    }
    if !is_ignored(libc::SIGINT) {
        let again = Arc::new(std::sync::atomic::AtomicBool::new(false));
        flag::register_conditional_shutdown(libc::SIGINT, 128 + libc::SIGINT, again.clone())?;
        flag::register(libc::SIGINT, again)?;
    }
    Ok(())
}

#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    // SAFETY: asks for the present action and sets none; zeros are a valid `sigaction`.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

/// A program can set one handler, so it tells everything that watches.
#[cfg(not(unix))]
fn watch(first: &Arc<AtomicUsize>) -> Result<(), ctrlc::Error> {
    use std::sync::{Mutex, PoisonError};

    static WATCHING: Mutex<Vec<Arc<AtomicUsize>>> = Mutex::new(Vec::new());
    let mut watching = WATCHING.lock().unwrap_or_else(PoisonError::into_inner);
    watching.push(first.clone());
    if watching.len() > 1 {
        return Ok(());
    }
    ctrlc::set_handler(|| {
        for signal in WATCHING.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if signal.swap(usize::from(SIGINT), Ordering::SeqCst) != 0 {
                std::process::exit(128 + i32::from(SIGINT));
            }
        }
    })
}
