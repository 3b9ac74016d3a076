//! The `starling-load` command: drives a server as a crowd would, measures it, and decides whether it kept its word.
//! It only prints and counts here; clients, recordings and the checker are the library.

// printing is what a command does
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod command;

use std::process::ExitCode;

use clap::Parser;
use command::Outcome;

#[derive(Parser)]
#[command(name = "starling-load", version, about = "Load tests of Starling, and the checker of its promises")]
struct Cli {
    #[command(subcommand)]
    command: command::Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("cannot start: {e}");
            return ExitCode::from(4);
        }
    };
    let outcome = runtime.block_on(cli.command.run());
    runtime.shutdown_background();
    match outcome {
        Ok(Outcome::Pass) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(99),
        Ok(Outcome::TooSlow) => ExitCode::from(4),
        Err(e) => {
            eprintln!("starling-load: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}
