//! Starts real nodes as processes, each in a directory and on ports of its own, and ends them as gently or as roughly
//! as a test wants. Knows the command line and the ready line only; never what is inside.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Error, Read, Result},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::random::Random;

/// A node must be ready within this, even on a busy machine and unoptimised.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// How to start a node: the binary, where it keeps things, what it is told.
#[derive(Clone, Debug)]
pub struct Starter {
    binary: PathBuf,
    data_dir: PathBuf,
    through: Vec<String>,
    set: Vec<(String, String)>,
}

impl Starter {
    /// A node of `binary` in `data_dir`, on free ports of 127.0.0.1, with cheap password hashes.
    pub fn new(binary: impl Into<PathBuf>, data_dir: impl Into<PathBuf>) -> Starter {
        let (binary, data_dir) = (binary.into(), data_dir.into());
        let starter = Starter { binary, data_dir, through: Vec::new(), set: Vec::new() };
        ["listen.client", "listen.admin", "listen.peer"]
            .iter()
            .fold(starter, |starter, key| starter.set(key, "127.0.0.1:0"))
            .set("auth.password_memory_kib", "64")
            .set("auth.password_passes", "1")
    }

    /// One key of the configuration; a later value for the same key wins.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl ToString) -> Starter {
        self.set.push((key.to_owned(), value.to_string()));
        self
    }

    /// Run by another program that becomes it, such as `nsenter` or `env`, so that the process stays the node's.
    #[must_use]
    pub fn through(mut self, program: &[&str]) -> Starter {
        self.through = program.iter().map(ToString::to_string).collect();
        self
    }

    /// On ports that it finds free again after a restart.
    ///
    /// # Errors
    /// There are none.
    pub fn keeping_ports(self) -> Result<Starter> {
        ["listen.client", "listen.admin"].iter().try_fold(self, |starter, key| Ok(starter.set(key, free_address()?)))
    }

    /// The command, to be run to its end when a test wants its output or a refusal. Nothing of this process's
    /// environment or directory decides what it does.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut words = self.through.iter().map(OsStr::new).chain([self.binary.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args(arguments).args(["--config", "/dev/null"]);
        command.arg("--set").arg(format!("node.data_dir={}", self.data_dir.display()));
        for (key, value) in &self.set {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("STARLING_")) {
            command.env_remove(name);
        }
        command
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, or ends or stays silent instead of getting ready; with what it said on stderr.
    pub fn start(&self) -> Result<Node> {
        let started = Instant::now();
        let mut child =
            self.command(&["serve"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let log = Arc::new(Mutex::new(String::new()));
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        gather(stderr, log.clone());
        let ready = first_line(stdout);
        let mut node = Node {
            starter: self.clone(),
            child,
            client: String::new(),
            admin: String::new(),
            ready_after: Duration::ZERO,
            log,
        };
        let line = ready.recv_timeout(READY_TIMEOUT).unwrap_or_default();
        let word = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)).map(str::to_owned);
        let (Some(client), Some(admin)) = (word("client="), word("admin=")) else {
            node.kill();
            return Err(Error::other(format!("the node did not get ready: {line:?}\n{}", node.log())));
        };
        (node.client, node.admin, node.ready_after) = (client, admin, started.elapsed());
        Ok(node)
    }
}

/// A running node. Dropping it kills it.
#[derive(Debug)]
pub struct Node {
    starter: Starter,
    child: Child,
    /// Where clients connect, `http://address:port`.
    pub client: String,
    /// Where operators connect, `http://address:port`.
    pub admin: String,
    /// From the start of the process to its ready line.
    pub ready_after: Duration,
    log: Arc<Mutex<String>>,
}

impl Node {
    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it keeps things.
    pub fn data_dir(&self) -> &Path {
        &self.starter.data_dir
    }

    /// `host:port` of the clients' side.
    pub fn client_address(&self) -> &str {
        self.client.split("://").nth(1).unwrap_or("")
    }

    /// `host:port` of the operators' side.
    pub fn admin_address(&self) -> &str {
        self.admin.split("://").nth(1).unwrap_or("")
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by name: `TERM`, `HUP`, `STOP`, `CONT`.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status()?;
        if status.success() { Ok(()) } else { Err(Error::other("the node is gone")) }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It goes on for longer than `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if started.elapsed() > timeout {
                return Err(Error::other(format!("the node has not ended\n{}", self.log())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// As [`Node::wait`].
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.wait(timeout)
    }

    /// Kills it and starts it anew in the same directory and on the same ports, so that clients find it again.
    ///
    /// # Errors
    /// As [`Starter::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let same = [("listen.client", self.client_address()), ("listen.admin", self.admin_address())];
        let starter = same.iter().fold(self.starter.clone(), |starter, (key, address)| starter.set(key, address));
        *self = starter.start()?;
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads on forever, or the process would block on a full pipe.
fn gather(from: impl Read + Send + 'static, into: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut log = into.lock().unwrap_or_else(PoisonError::into_inner);
            log.push_str(&line);
            log.push('\n');
        }
    });
}

/// An address of 127.0.0.1 on which nobody listens, for a server that may come back to it: below those which the system
/// hands out to whoever connects, as a client that tries to come back would sooner or later be given its server's own
/// port, and meet itself there. One process is never given the same twice.
///
/// Found by knocking, not by listening: what listens here goes on listening in every process that another thread is just
/// starting, until that has become its program.
///
/// # Errors
/// No port is free.
pub fn free_address() -> Result<SocketAddr> {
    static FIRST: LazyLock<u64> = LazyLock::new(|| Random::unseeded().bits());
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = || FIRST.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
    let ports = (0..100).filter_map(|_| u16::try_from(10_000 + next()).ok());
    let mut addresses = ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let refuses = |address: &SocketAddr| TcpStream::connect(address).is_err();
    addresses.find(refuses).ok_or_else(|| Error::other("no port is free"))
}

fn first_line(from: impl Read + Send + 'static) -> std::sync::mpsc::Receiver<String> {
    let (say, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(from).lines().map_while(Result::ok);
        let _ = say.send(lines.next().unwrap_or_default());
        lines.for_each(drop);
    });
    hear
}
