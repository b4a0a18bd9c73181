//! Tests that cannot run here.

use std::fs::OpenOptions;
use std::io::Write;

/// Names a file that gets a line for each test that was not run; `cargo xtask test` shows them in the end.
const LIST: &str = "LDDGAN_NOT_RUN";

/// Says that the test of this thread, or a part of it, cannot run here, and why. In CI, which sets the variable `CI`, every test
/// can: there it fails.
pub fn not_run(why: &str) {
    let thread = std::thread::current();
    let line = format!("{}: not run: {why}", thread.name().unwrap_or("a test"));
    println!("{line}");
    assert!(std::env::var_os("CI").is_none(), "{line}; in CI every test must run");
    if let Some(path) = std::env::var_os(LIST) {
        let list = OpenOptions::new().append(true).create(true).open(&path);
        list.and_then(|mut list| writeln!(list, "{line}")).unwrap_or_else(|error| panic!("{LIST}: {error}"));
    }
}
