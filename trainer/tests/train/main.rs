//! `lddgan train` as its users run it.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/folder.rs"]
mod folder;
mod logs;
mod run_folder;
mod runs;
#[cfg(unix)]
mod script;
#[cfg(unix)]
mod signals;
mod starts;
