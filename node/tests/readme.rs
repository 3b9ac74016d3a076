//! README, held to the code: its transcripts are run word for word against real nodes, its links and verbs must exist.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use loadtest::{
    random::Random,
    servers::{self, Cql, Prefix},
    starter::free_address,
};

/// For one line of the transcript, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Ends the output of a command.
const MARK: &str = "-- the command has ended --";

#[test]
fn the_transcript_works_word_for_word() {
    let transcript = transcript("Two people, four devices, one crash");
    assert!(transcript.len() > 20, "README has lost its transcript");
    assert_eq!(transcript[0].command, "cargo build --release", "what this test stands in for comes first");
    let ports = ["127.0.0.1:8080", "127.0.0.1:8081", "127.0.0.1:7946"]
        .map(|shown| (shown, free_address().unwrap().to_string()));
    let keys = ["CLIENT", "ADMIN", "PEER"].map(|key| format!("STARLING_LISTEN__{key}"));
    let environment: Vec<_> = keys.iter().zip(&ports).map(|(key, (_, at))| (key.as_str(), at.as_str())).collect();
    follow(&transcript[1..], &environment, |line| {
        ports.iter().fold(line.to_owned(), |line, (shown, real)| line.replace(shown, real))
    });
}

#[test]
fn the_cluster_by_hand_works_word_for_word() {
    let transcript = transcript("Run a cluster");
    let stands_in_for = ["make servers", ". target/servers/env", "cargo build --release"];
    let first: Vec<_> = transcript[..3].iter().map(|step| step.command.as_str()).collect();
    assert_eq!(first, stands_in_for);
    let keyspace = Cql::started().keyspace();
    let _prefix = Prefix { url: servers::redis_url(), name: keyspace.name.clone() };
    let environment =
        [("STARLING_STORAGE__CQL__KEYSPACE", keyspace.name.as_str()), ("STARLING_CLUSTER__NAME", &keyspace.name)];
    let ports = free_ports();
    follow(&transcript[3..], &environment, |line| line.replace("127.0.0.1:81", &ports));
}

/// Each command prints what is shown. `here`: what is shown, with the ports of this test.
fn follow(steps: &[Step], environment: &[(&str, &str)], here: impl Fn(&str) -> String) {
    let mut shell = Shell::start(environment);
    let built = Path::new(env!("CARGO_BIN_EXE_starling")).parent().unwrap();
    for step in steps {
        let command = here(&step.command).replace("$PWD/target/release", &built.display().to_string());
        let expected: Vec<_> = step.output.iter().map(|line| here(line)).collect();
        // what only looks may look again: a person would not be as fast as this
        let looks = ["grep", "have", "for", "starling node ls"].iter().any(|verb| step.command.starts_with(verb));
        let started = Instant::now();
        loop {
            let output = shell.run(&command, expected.len(), looks);
            let same = output.len() == expected.len() && expected.iter().zip(&output).all(|(e, o)| matches(e, o));
            if same {
                break;
            }
            assert!(
                looks && started.elapsed() < PATIENCE,
                "$ {command}\nexpected:\n{}\ngot:\n{}",
                expected.join("\n"),
                output.join("\n")
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn its_links_lead_somewhere_and_its_verbs_and_commands_exist() {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let links: Vec<_> = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    assert!(links.len() > 5);
    for link in links {
        assert!(root().join(link).exists(), "{link}");
    }
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let verbs = text.split("`make ").skip(1).map(|rest| rest.split([' ', '`']).next().unwrap());
    for verb in verbs {
        assert!(makefile.lines().any(|line| line.starts_with(&format!("{verb}:"))), "make {verb}");
    }
    for command in text.split("`starling ").skip(1).map(|rest| rest.split('`').next().unwrap()) {
        let mut asked = Command::new(env!("CARGO_BIN_EXE_starling"));
        let answer = asked.args(command.split(' ')).arg("--help").output().unwrap();
        assert!(answer.status.success(), "starling {command}: {}", String::from_utf8_lossy(&answer.stderr));
    }
}

#[test]
fn the_configurations_that_are_shown_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = [("auth.secret", "5e".repeat(32)), ("cql.password", "p".into()), ("redis.url", "rediss://h/".into())];
    for (name, secret) in secrets {
        let mut file = fs::OpenOptions::new();
        let mut file = file.write(true).create_new(true).mode(0o600).open(dir.path().join(name)).unwrap();
        file.write_all(String::as_bytes(&secret)).unwrap();
    }
    let cluster = dir.path().join("cluster").display().to_string();
    let mut init = Command::new(env!("CARGO_BIN_EXE_starling"));
    assert!(init.args(["cluster", "init", "--out", &cluster, "--node", "n1"]).output().unwrap().status.success());
    for document in ["README.md", "node/OPERATING.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let shown: Vec<_> = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert!(!shown.is_empty(), "{document}");
        for text in shown {
            let path = dir.path().join("node.toml");
            fs::write(&path, text.replace("/etc/starling", &dir.path().display().to_string())).unwrap();
            let mut checked = Command::new(env!("CARGO_BIN_EXE_starling"));
            let checked = checked.args(["config", "check", "--config"]).arg(&path).output().unwrap();
            assert!(checked.status.success(), "{document}: {}", String::from_utf8_lossy(&checked.stderr));
        }
    }
}

/// A command and what it prints.
#[derive(Default)]
struct Step {
    command: String,
    output: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The blocks of a chapter that are marked `console`, one after the other.
fn transcript(chapter: &str) -> Vec<Step> {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let text = text.split("\n## ").find(|text| text.starts_with(chapter)).unwrap();
    let mut steps: Vec<Step> = Vec::new();
    for block in text.split("```console\n").skip(1) {
        for line in block.split("```").next().unwrap().lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                steps.push(Step { command: command.to_owned(), output: Vec::new() });
            } else if let Some(more) = line.strip_prefix("> ") {
                let step = steps.last_mut().unwrap();
                step.command = format!("{}\n{more}", step.command);
            } else {
                steps.last_mut().unwrap().output.push(line.to_owned());
            }
        }
    }
    steps
}

/// True if a line is as README shows it; `…` there stands for anything that is not empty.
fn matches(shown: &str, line: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap()) else { return false };
    let mut open = false;
    for part in parts {
        let at =
            if part.is_empty() { Some(rest.len()) } else { rest.get(1..).and_then(|r| r.find(part)).map(|i| i + 1) };
        let Some(at) = at.filter(|at| *at > 0) else { return false };
        (rest, open) = (&rest[at + part.len()..], part.is_empty());
    }
    rest.is_empty() || open
}

/// What ports 8171 to 8193 begin with here, where all of them are free.
fn free_ports() -> String {
    let mut random = Random::unseeded();
    let mut beginnings = (0..100).map(|_| format!("127.0.0.1:{}", 100 + random.below(200)));
    let is_free = |beginning: &String| (71..=93).all(|end| TcpStream::connect(format!("{beginning}{end}")).is_err());
    beginnings.find(is_free).unwrap()
}

/// A shell as a reader has it, in a session of its own so that nothing outlives it.
struct Shell {
    child: Child,
    commands: ChildStdin,
    lines: Receiver<String>,
}

impl Shell {
    fn start(environment: &[(&str, &str)]) -> Shell {
        let mut command = Command::new("setsid");
        command.arg("bash").current_dir(root()).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.envs(environment.iter().copied());
        let mut child = command.spawn().unwrap();
        let (say, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
        let mut shell = Shell { commands: child.stdin.take().unwrap(), child, lines };
        shell.run("set -m", 0, false); // jobs by name, as at a prompt
        shell
    }

    /// Runs a command to its end; waits for `n_lines`, because what runs in the background prints when it likes.
    fn run(&mut self, command: &str, n_lines: usize, looks: bool) -> Vec<String> {
        writeln!(self.commands, "{command}\necho '{MARK}' $?").unwrap();
        let (mut output, mut ended) = (Vec::new(), false);
        while !ended || output.len() < n_lines {
            // once it has ended, only a background process may still have something to say
            let patience = if ended && !command.contains('&') { Duration::from_millis(1) } else { PATIENCE };
            match self.lines.recv_timeout(patience) {
                Ok(line) if line.starts_with(MARK) => {
                    assert!(looks || line.ends_with(" 0"), "$ {command}\nfailed: {line}");
                    ended = true;
                }
                Ok(line) => output.push(line),
                Err(_) if ended => return output,
                Err(_) => panic!("$ {command}\nhas not ended; so far:\n{}", output.join("\n")),
            }
        }
        output
    }
}

impl Drop for Shell {
    /// Ends everything of the shell's session, and nothing else.
    fn drop(&mut self) {
        let session = self.child.id().to_string();
        let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let of_session = |pid: &String| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(3)) == Some(&session)
        };
        let pids: Vec<_> = processes.filter(of_session).collect();
        let _ = Command::new("kill").arg("-9").args(pids).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}
