//! What a command tells the person who ran it: what was asked for, what went wrong, why it failed. Writes no logs.

/// Why a command did not do what was asked: one line for the operator.
pub(crate) enum Failure {
    /// Exit code 1.
    Failed(String),
    /// Exit code 2, and the lines are out already.
    Configuration,
    /// Exit code 3.
    Unreachable(String),
}

/// To stdout: what was asked for.
#[allow(clippy::print_stdout)]
pub(crate) fn say(text: &str) {
    use std::io::Write;
    // A reader that has gone (`| head`) is no reason to panic.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// To stderr: what went wrong, for people.
#[allow(clippy::print_stderr)]
pub(crate) fn complain(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "starling: {line}");
}
