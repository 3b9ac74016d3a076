//! The command line as operators and scripts use it: what it prints and how it exits, without a running node.
#![allow(clippy::unwrap_used)]

use std::{
    net::TcpListener,
    process::{Command, Output},
};

use loadtest::Starter;

mod support;

fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn starling(arguments: &[&str]) -> (i32, String, String) {
    run(Command::new(env!("CARGO_BIN_EXE_starling")).args(arguments).args(["--config", "/dev/null"]))
}

#[test]
fn version_and_usage() {
    let (code, out, _) = starling(&["version"]);
    assert_eq!((code, out.as_str()), (0, concat!("starling ", env!("CARGO_PKG_VERSION"), "\n")));
    assert_eq!(starling(&["dance"]).0, 2);
    assert_eq!(starling(&["--help"]).0, 0);
}

#[test]
fn a_mistake_is_one_line_with_key_value_reason_and_remedy_and_exits_2_before_anything_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data_dir = format!("node.data_dir={}", data.display());
    for command in ["serve", "check"] {
        let (code, out, err) = starling(&[command, "--set", &data_dir, "--set", "limits.ping_ms=1"]);
        assert_eq!((code, out.as_str()), (2, ""));
        assert_eq!(
            err,
            "starling: limits.ping_ms = \"1\": not between 100 and 600000; give a number between 100 and 600000 (from flag)\n"
        );
    }
    assert!(!data.exists());
}

#[test]
fn config_print_shows_origins_and_config_check_says_nothing_when_all_is_well() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_starling"));
    command.args(["config", "print", "--config", "/dev/null", "--listen", "127.0.0.1:1"]);
    let (code, out, _) = run(command.env("STARLING_AUTH__SECRET", "ab".repeat(32)));
    assert_eq!(code, 0);
    assert!(out.contains("listen.client = \"127.0.0.1:1\"  # flag\n"), "{out}");
    assert!(out.contains("auth.secret = (secret)  # environment STARLING_AUTH__SECRET\n"), "{out}");
    assert_eq!(starling(&["config", "check"]), (0, String::new(), String::new()));
    assert_eq!(starling(&["config", "check", "--set", "storage.backend=cql"]).0, 2);
    assert_eq!(starling(&["config", "check", "--config", "/does/not/exist"]).0, 2);
}

#[test]
fn who_asks_a_node_that_is_not_there_hears_so_with_exit_code_3() {
    for command in
        [&["status"][..], &["keys", "ls"], &["node", "drain"], &["node", "undrain"], &["user", "show", "ada"]]
    {
        let (code, _, err) = starling(&[command, &["--admin", "127.0.0.1:1"]].concat());
        assert_eq!(code, 3, "{command:?}: {err}");
        assert!(err.contains("no node answers at listen.admin 127.0.0.1:1"), "{err}");
    }
}

/// A start that is refused: exit code 1 and one line that holds these words.
#[track_caller]
fn refused(starter: &Starter, words: &[&str]) {
    let (code, out, err) = run(&mut starter.command(&["serve"]));
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    let lines: Vec<&str> = err.lines().filter(|line| line.starts_with("starling: ")).collect();
    assert_eq!(lines.len(), 1, "{err}");
    for word in words {
        assert!(lines[0].contains(word), "{word:?} is not in {}", lines[0]);
    }
}

#[test]
fn a_port_that_is_taken_is_named_and_exits_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for key in ["listen.client", "listen.admin", "listen.peer"] {
        let (starter, _dir) = support::starter();
        refused(&starter.set(key, address), &[key, &address.to_string(), "in use"]);
    }
}

#[test]
fn a_data_directory_it_cannot_have_is_named_and_exits_1() {
    let (starter, dir) = support::starter();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    refused(&starter.clone().set("node.data_dir", file.display()), &["node.data_dir", "not a directory"]);
    refused(&starter.clone().set("node.data_dir", "/proc/starling"), &["node.data_dir", "/proc/starling"]);
    refused(&starter.set("node.data_dir", file.join("below").display()), &["node.data_dir"]);
}

#[test]
fn a_read_only_mount_is_named_and_exits_1() {
    let (starter, dir) = support::starter();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    // a mount of its own namespace: it is gone with the process
    let mount = format!("mount -t tmpfs -o ro,size=1m none {} && exec \"$@\"", data.display());
    let starter = starter.set("storage.backend", "sqlite").through(&["unshare", "-m", "sh", "-c", &mount, "sh"]);
    refused(&starter, &["node.data_dir", &data.display().to_string(), "ead-only"]);
}

#[test]
fn a_database_that_is_damaged_or_newer_is_named_and_exits_1() {
    let (starter, dir) = support::starter();
    let starter = starter.set("storage.backend", "sqlite");
    drop(starter.start().unwrap());
    let database = dir.path().join("data/starling.db");
    let newer = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); \
                 d.execute(\"insert into schema_migrations values (9999, 'x', x'00', 0)\"); d.commit()";
    let newer = Command::new("python3").args(["-c", newer]).arg(&database).output().unwrap();
    assert!(newer.status.success(), "{newer:?}");
    refused(&starter, &["9999"]);
    std::fs::write(&database, "this is not what it was").unwrap();
    refused(&starter, &["starling.db"]);
}

#[test]
fn damaged_secrets_and_certificates_are_named_and_exit_1() {
    let (starter, dir) = support::starter();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    std::fs::write(dir.path().join("data/auth.secret"), "").unwrap();
    refused(&starter, &["auth.secret is empty", "backup"]);
    let (starter, dir) = support::starter();
    let pem = dir.path().join("pem");
    std::fs::write(&pem, "nonsense").unwrap();
    std::process::Command::new("chmod").arg("600").arg(&pem).status().unwrap();
    let starter = starter.set("listen.tls.cert", pem.display()).set("listen.tls.key_file", pem.display());
    refused(&starter, &["listen.tls.cert"]);
}

#[test]
fn the_preflight_check_names_what_is_wrong() {
    let (starter, dir) = support::starter();
    let (code, out, _) = run(&mut starter.command(&["check"]));
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("ok    disk: a synced write takes"), "{out}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let starter = starter.set("listen.client", taken.local_addr().unwrap()).set("node.data_dir", "/proc/starling");
    let (code, out, err) = run(&mut starter.command(&["check"]));
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("FAIL  listen.client") && out.contains("FAIL  node.data_dir"), "{out}");
    drop(dir);
}

#[test]
fn an_authority_and_certificates_are_made_once_and_fit_the_configuration_that_is_printed() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("cluster");
    let init = |nodes: &[&str]| {
        let nodes = nodes.iter().flat_map(|node| ["--node", node]);
        let words: Vec<&str> = ["cluster", "init", "--out", out.to_str().unwrap()].into_iter().chain(nodes).collect();
        starling(&words)
    };
    let (code, printed, err) = init(&["n1", "n2"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for name in ["ca.pem", "ca.key", "n1.pem", "n1.key", "n2.pem", "n2.key"] {
        assert_eq!(std::fs::metadata(out.join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    let checked = |config: &str| {
        let file = dir.path().join("node.toml");
        std::fs::write(&file, config).unwrap();
        run(Command::new(env!("CARGO_BIN_EXE_starling")).args(["config", "check", "--config", file.to_str().unwrap()]))
    };
    let configs: Vec<&str> = printed.split("# into the configuration of ").skip(1).collect();
    let configs: Vec<String> = configs.iter().map(|text| text.split_once('\n').unwrap().1.to_owned()).collect();
    assert_eq!(configs.len(), 2, "{printed}");
    for config in &configs {
        assert_eq!(checked(config), (0, String::new(), String::new()), "{config}");
    }

    let (code, _, err) = checked(&configs[0].replace("id = \"n1\"", "id = \"n3\""));
    assert_eq!(code, 2);
    assert!(err.contains("cluster.tls.cert") && err.contains("it is for n1, and node.id is n3"), "{err}");

    let before = std::fs::read(out.join("n1.pem")).unwrap();
    let (code, _, err) = init(&["n3", "n1"]);
    assert_eq!(code, 1);
    assert!(err.starts_with("starling: will not overwrite") && err.contains("n1.pem"), "{err}");
    assert!(!out.join("n3.pem").exists(), "nothing is made if not all can be");
    assert_eq!(std::fs::read(out.join("n1.pem")).unwrap(), before);
    assert_eq!(init(&["n3"]).0, 0, "a further node, by the same authority");

    assert_eq!(init(&["no name"]).0, 2);
    assert_eq!(init(&["10.0.0.1"]).0, 2);
    std::fs::remove_file(out.join("ca.key")).unwrap();
    let (code, _, err) = init(&["n4"]);
    assert_eq!(code, 1);
    assert!(err.contains("ca.pem is there without") && err.contains("ca.key"), "{err}");
}
