//! The one place that writes to standard output and standard error. A reader that is gone or a full disk never ends the
//! program in the middle of its work, and no name in a file can command the terminal.

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
    if let Err(error) = writeln!(out, "{}", printable(&line.to_string())).and_then(|()| out.flush()) {
        // Later ones follow from the first.
        let _ = FAILED.set(error);
    }
}

/// See the macro of this name. There is nobody to tell if it fails.
pub fn warn(line: Arguments) {
    let _ = writeln!(stderr().lock(), "{}", printable(&line.to_string()));
}

/// With control characters as a programmer writes them; lines and tabs stay. Terminals would obey them.
fn printable(text: &str) -> String {
    let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
    text.chars().map(|c| if obeyed(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Why standard output could not be written, if so.
pub fn failure() -> Option<&'static Error> {
    FAILED.get()
}

/// Whether who read standard output is gone, as with `| head`.
pub fn is_closed() -> bool {
    failure().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(printable("ä\tb\n→"), "ä\tb\n→");
        assert_eq!(printable("a\u{1b}[31mred\u{7}\r\u{9b}"), "a\\u{1b}[31mred\\u{7}\\r\\u{9b}");
    }
}
