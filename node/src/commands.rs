//! What each command does. Exit codes: 0 fine, 1 failed, 2 usage or configuration, 3 unreachable.

mod check;
mod client;
mod cluster;
mod house;
mod nodes;
mod operate;

use std::process::ExitCode;

use crate::{
    cli::{self, Cli, Command},
    config::{self, Loaded},
    report::{Failure, complain, say},
    serve,
};

/// Runs what the command line says.
pub(crate) fn run(cli: Cli) -> ExitCode {
    let done = match cli.command.unwrap_or(Command::Serve) {
        Command::Version => {
            say(concat!("starling ", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
        Command::Config(cli::Config::Print { defaults: true }) => {
            say(config::defaults().trim_end());
            Ok(())
        }
        Command::Cluster(cli::Cluster::Init { out, nodes }) => cluster::init(&out, &nodes),
        command => load(&cli.sources).and_then(|loaded| match command {
            Command::Config(cli::Config::Check) => Ok(()),
            Command::Config(_) => {
                say(config::effective(&loaded).trim_end());
                Ok(())
            }
            Command::Check => check::preflight(&loaded.config),
            Command::Migrate { plan: true } => house::plan(&loaded.config),
            Command::Migrate { plan: false } => house::migrate(&loaded.config),
            Command::Backup { file } => house::backup(&loaded.config, &file),
            Command::Export { file } => house::export(&loaded.config, &file),
            Command::Import { file, resume } => house::import(&loaded.config, &file, resume),
            Command::Serve | Command::Version | Command::Cluster(_) => serve::run(loaded.config, cli.sources),
            Command::Status(look) => nodes::status(&loaded.config, &look),
            Command::Node(cli::Node::Ls(look)) => nodes::list(&loaded.config, &look),
            Command::Keys(keys) => operate::keys(&loaded.config, keys),
            Command::User(user) => operate::user(&loaded.config, user),
            Command::Node(cli::Node::Drain) => operate::drain(&loaded.config),
            Command::Node(cli::Node::Undrain) => operate::undrain(&loaded.config),
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(line)) => {
            complain(&line);
            ExitCode::from(1)
        }
        Err(Failure::Configuration) => ExitCode::from(2),
        Err(Failure::Unreachable(line)) => {
            complain(&line);
            ExitCode::from(3)
        }
    }
}

fn load(sources: &config::Sources) -> Result<Loaded, Failure> {
    config::load(sources, config::environment()).map_err(|mistakes| {
        for mistake in mistakes {
            complain(&mistake.to_string());
        }
        Failure::Configuration
    })
}
