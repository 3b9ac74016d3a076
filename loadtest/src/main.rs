//! The `starling-load` command.
fn main() {}
