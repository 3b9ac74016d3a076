//! A server of one test's own, which may be killed, comes back on the same data and port, and may have its clock off.
//! Never shared, and gone with its data when it is dropped.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use super::Cql;

/// See the module.
#[derive(Debug)]
pub struct Server {
    script: PathBuf,
    dir: PathBuf,
    environment: Vec<(&'static str, String)>,
    address: String,
}

impl Server {
    /// A Cassandra that answers once what it was told is on disk. By default it writes down where its log ends every
    /// 100 ms only, and what it has acknowledged since then is gone with its process, if nobody else has it.
    ///
    /// # Panics
    /// It cannot be started; why is on stderr.
    #[track_caller]
    pub fn cassandra() -> Server {
        Server::start("cassandra", vec![("CASSANDRA_SYNC", "batch".to_owned())])
    }

    /// The same with a clock that is ahead by so many seconds, or behind. It stays so until [`Server::set_clock`].
    ///
    /// # Panics
    /// As [`Server::cassandra`].
    #[track_caller]
    pub fn cassandra_off_by(seconds: i64) -> Server {
        let clock = ("CASSANDRA_CLOCK", seconds.to_string());
        Server::start("cassandra", vec![("CASSANDRA_SYNC", "batch".to_owned()), clock])
    }

    /// A Redis that keeps nothing.
    ///
    /// # Panics
    /// As [`Server::cassandra`].
    #[track_caller]
    pub fn redis() -> Server {
        Server::start("redis", Vec::new())
    }

    #[track_caller]
    fn start(name: &str, environment: Vec<(&'static str, String)>) -> Server {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("servers").join(name);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("starling-{name}-{}-{number}", std::process::id()));
        let mut server = Server { script, dir, environment, address: String::new() };
        server.address = server.run(&["start"]);
        server
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A Cassandra, as its clients see it: everybody may.
    pub fn cql(&self) -> Cql {
        Cql { node: self.address.clone(), username: None, password: None }
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// As [`Server::restart`].
    #[track_caller]
    pub fn kill(&self) {
        self.run(&["kill"]);
    }

    /// Waits until it answers again.
    ///
    /// # Panics
    /// It does not; why is on stderr.
    #[track_caller]
    pub fn restart(&self) {
        let port = self.address.rsplit(':').next().unwrap_or_default();
        self.run(&["start", port]);
    }

    /// Kills a Cassandra and starts it with a clock that is off by so many seconds; 0 puts it right.
    ///
    /// # Panics
    /// As [`Server::restart`].
    #[track_caller]
    pub fn set_clock(&mut self, seconds: i64) {
        self.kill();
        self.environment.retain(|(name, _)| *name != "CASSANDRA_CLOCK");
        self.environment.push(("CASSANDRA_CLOCK", seconds.to_string()));
        self.restart();
    }

    /// The script's verb and what follows the directory; answers what it prints.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", self.script.display()));
        assert!(output.status.success(), "{} {arguments:?}: {}", self.script.display(), output.status);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.script);
        command.arg(arguments[0]).arg(&self.dir).args(&arguments[1..]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stderr(Stdio::inherit());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that has failed must not fail again here.
        let _ = self.command(&["kill"]).output();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
