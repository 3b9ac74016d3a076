//! A data directory that cannot be used says why in one line, and what to do.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use crate::common::{Log, conversation};
use protocol::{Kind, Seq};
use rusqlite::Connection;
use storage::{OpenError, Store};

fn refusal(dir: &Path) -> OpenError {
    let Err(error) = Store::open_sqlite(dir) else { panic!("{} was opened", dir.display()) };
    let line = error.to_string();
    assert!(!line.contains('\n') && line.contains(&dir.display().to_string()), "{line}");
    error
}

fn database(dir: &Path) -> Connection {
    Connection::open(dir.join("starling.db")).unwrap()
}

#[tokio::test]
async fn a_new_directory_is_made_for_its_owner_only_and_reopened() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("new/data");
    let store = Store::open_sqlite(&dir).unwrap();
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    let mut log = Log::create(&store, 1, Kind::Group, &[1]).await;
    log.post(1, "x").await;
    drop((store, log));
    let store = Store::open_sqlite(&dir).unwrap();
    assert_eq!(store.log.standing(conversation(1)).await.unwrap().unwrap().head.seq, Seq(2));
}

#[test]
fn a_file_in_its_place_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("data");
    fs::write(&file, "x").unwrap();
    assert!(matches!(refusal(&file), OpenError::NotADirectory { .. }));
    assert!(matches!(refusal(&file.join("below")), OpenError::Directory { .. }));
}

#[test]
fn a_second_user_of_the_directory_is_refused_as_long_as_the_first_lives() {
    let dir = tempfile::tempdir().unwrap();
    let first = Store::open_sqlite(dir.path()).unwrap();
    assert!(matches!(refusal(dir.path()), OpenError::InUse { .. }));
    // The other faces keep the directory too.
    let tokens = first.tokens.clone();
    drop(first);
    assert!(matches!(refusal(dir.path()), OpenError::InUse { .. }));
    drop(tokens);
    Store::open_sqlite(dir.path()).unwrap();
}

#[test]
fn damage_is_named() {
    for (name, spoil) in [
        ("its beginning", (|bytes: &mut Vec<u8>| bytes[..64].fill(0x5a)) as fn(&mut Vec<u8>)),
        ("its middle", |bytes| bytes[4096..40_960].fill(0x5a)),
        ("its end", |bytes| bytes.truncate(8192)),
        ("another format", |bytes| *bytes = b"not a database at all".repeat(100)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open_sqlite(dir.path()).unwrap());
        let file = dir.path().join("starling.db");
        let mut bytes = fs::read(&file).unwrap();
        spoil(&mut bytes);
        fs::write(&file, bytes).unwrap();
        assert!(matches!(refusal(dir.path()), OpenError::Damaged { .. }), "{name}");
    }
}

#[test]
fn a_database_of_a_newer_release_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open_sqlite(dir.path()).unwrap());
    database(dir.path()).execute("INSERT INTO schema_migrations VALUES (999, '0999_later.sql', 'x', 0)", []).unwrap();
    assert!(matches!(refusal(dir.path()), OpenError::Newer { found: 999, .. }));
}

#[test]
fn a_migration_that_was_changed_is_named() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open_sqlite(dir.path()).unwrap());
    database(dir.path()).execute("UPDATE schema_migrations SET sha256 = 'x' WHERE number = 1", []).unwrap();
    assert!(matches!(refusal(dir.path()), OpenError::Drifted { file: "0001_start.sql", .. }));
}

#[test]
fn somebody_elses_database_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    database(dir.path()).execute("CREATE TABLE theirs (x)", []).unwrap();
    assert!(matches!(refusal(dir.path()), OpenError::Foreign { .. }));
}

#[test]
fn a_read_only_mount_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let Some(_mount) = Mount::tmpfs(root.path(), "size=1m,ro") else { return };
    assert!(matches!(refusal(&root.path().join("data")), OpenError::Directory { .. }));
    assert!(matches!(refusal(root.path()), OpenError::Directory { .. }));
}

/// A small file system of its own, gone when dropped.
pub(crate) struct Mount<'a>(&'a Path);

impl Mount<'_> {
    /// `None`, said loudly, where one may not mount.
    pub(crate) fn tmpfs<'a>(at: &'a Path, options: &str) -> Option<Mount<'a>> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Mount(at));
        }
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "NOT TESTED: mounting a tmpfs needs root");
        assert!(std::env::var_os("CI").is_none(), "CI must be able to mount a tmpfs");
        None
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}
