//! Being told to stop: the interrupt key, signals, and a reader of the output that is gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::data::DataError;
use crate::output;

/// The numbers of signals, the same on all systems that have them.
pub const SIGINT: u8 = 2;
pub const SIGPIPE: u8 = 13;
pub const SIGTERM: u8 = 15;

/// The number of the signal that came, or 0; there once signals are watched.
static SIGNAL: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// See [`limit`].
static END: Mutex<Option<Instant>> = Mutex::new(None);

/// Why something ended before there was anything to save.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    #[error("interrupted; nothing was written")]
    Signal(u8),
    #[error("the time was over before everything was read; nothing was trained: give more --minutes")]
    OutOfTime,
}

/// Watches for what asks the program to stop: from now on, a signal does not end it; a second interrupt key does.
pub fn watch() -> Result<()> {
    let signal = Arc::new(AtomicUsize::new(0));
    if SIGNAL.set(signal.clone()).is_ok() {
        watch_signals(&signal).context("signals cannot be watched")?;
    }
    Ok(())
}

/// The signal that came; SIGPIPE if the output's reader is gone.
pub fn signal() -> Option<u8> {
    match SIGNAL.get().map_or(0, |signal| signal.load(Ordering::SeqCst)) {
        0 => output::is_closed().then_some(SIGPIPE),
        signal => Some(signal as u8),
    }
}

/// Reading and encoding end at this time, too.
pub fn limit(end: Instant) {
    *END.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
}

/// What ended the program, if an error says that something did.
pub fn stopped(error: &anyhow::Error) -> Option<Stopped> {
    error.chain().find_map(|cause| match cause.downcast_ref::<DataError>() {
        Some(DataError::Stopped(stopped)) => Some(*stopped),
        _ => cause.downcast_ref::<Stopped>().copied(),
    })
}

/// An error where the program is to stop. For what takes long and leaves nothing that could be gone on from.
pub fn check() -> Result<(), Stopped> {
    let end = *END.lock().unwrap_or_else(PoisonError::into_inner);
    match signal() {
        Some(signal) => Err(Stopped::Signal(signal)),
        None if end.is_some_and(|end| end <= Instant::now()) => Err(Stopped::OutOfTime),
        None => Ok(()),
    }
}

/// SIGTERM comes from schedulers and systems, SIGHUP when a terminal or connection is closed; SIGUSR1 is what mpirun
/// passes on to its processes at once. What is ignored stays so (`nohup`, and Ctrl-C in a script's background).
#[cfg(unix)]
fn watch_signals(first: &Arc<AtomicUsize>) -> std::io::Result<()> {
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

#[cfg(not(unix))]
fn watch_signals(first: &Arc<AtomicUsize>) -> Result<(), ctrlc::Error> {
    let first = first.clone();
    ctrlc::set_handler(move || {
        if first.swap(usize::from(SIGINT), Ordering::SeqCst) != 0 {
            std::process::exit(128 + i32::from(SIGINT));
        }
    })
}
