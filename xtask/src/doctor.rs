//! `cargo xtask doctor`: what is there, what is missing, and how to get it.

use crate::tools::{Purpose, State, tools};
use anyhow::Result;

pub fn run() -> Result<()> {
    let mut lacking = 0;
    println!("{:8}{:24}{:7}state", "", "tool", "for");
    for tool in tools()? {
        let purpose = match tool.purpose {
            Purpose::Page => "page",
            Purpose::Tests | Purpose::EveryTest => "tests",
        };
        let (mark, state) = match tool.state() {
            State::Found(found) => ("ok", found),
            State::Mismatch(found) => ("WRONG", format!("{found}; {}", tool.source)),
            State::Missing => ("MISSING", tool.source.to_string()),
        };
        lacking += usize::from(mark != "ok");
        println!("{mark:8}{:24}{purpose:7}{state}", tool.name);
    }
    match lacking {
        0 => println!("\nNothing is missing."),
        _ => println!("\n`cargo xtask demo` and `cargo xtask test` install what they lack where they can."),
    }
    Ok(())
}
