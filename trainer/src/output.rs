//! The one place that writes to standard output and standard error. A reader that is gone or a full disk never ends the
//! program in the middle of its work.

use std::fmt::Arguments;
use std::io::{Error, ErrorKind, Write, stderr, stdout};
use std::sync::OnceLock;

/// The first error of standard output.
static FAILED: OnceLock<Error> = OnceLock::new();

/// Writes a line to standard output, as `println!` does.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { $crate::output::say(format_args!($($text)*)) };
}

/// Writes a line to standard error, as `eprintln!` does.
#[macro_export]
macro_rules! warn {
    ($($text:tt)*) => { $crate::output::warn(format_args!($($text)*)) };
}

/// See the macro of this name.
pub fn say(line: Arguments) {
    let mut out = stdout().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        // Later ones follow from the first.
        let _ = FAILED.set(error);
    }
}

/// See the macro of this name. There is nobody to tell if it fails.
pub fn warn(line: Arguments) {
    let _ = writeln!(stderr().lock(), "{line}");
}

/// Why standard output could not be written, if so.
pub fn failure() -> Option<&'static Error> {
    FAILED.get()
}

/// Whether who read standard output is gone, as with `| head`.
pub fn is_closed() -> bool {
    failure().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
