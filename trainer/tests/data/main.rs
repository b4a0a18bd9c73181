//! Images as users give them to `lddgan`.

#[path = "../common/mod.rs"]
mod common;

mod columns;
mod decoding;
mod folders;
mod inputs;
mod sources;
