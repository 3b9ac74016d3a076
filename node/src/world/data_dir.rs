//! The directory a node keeps everything in: locked against a second process, readable by nobody else. Holds the
//! node's name, its secret and the clock's mark; the stores keep their own files beside them.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use actors::Random;

use super::SecureRandom;

/// A data directory that belongs to this process while this lives.
pub(crate) struct DataDir {
    path: PathBuf,
    /// Locked until the process ends, however it ends.
    _lock: File,
}

impl DataDir {
    /// Makes it if it is not there, and locks it. The error is one line for the operator.
    pub(crate) fn open(path: &str) -> Result<DataDir, String> {
        let cannot = |what: &str, error: std::io::Error| format!("cannot {what} node.data_dir {path}: {error}");
        let directory = PathBuf::from(path);
        if directory.exists() && !directory.is_dir() {
            return Err(format!("cannot use node.data_dir {path}: it is not a directory; name another"));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(|e| cannot("make", e))?;
        let lock = private(&directory.join("node.lock")).map_err(|e| cannot("write to", e))?;
        match lock.try_lock() {
            Ok(()) => Ok(DataDir { path: directory, _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => {
                Err(format!("cannot use node.data_dir {path}: another process uses it; stop that one or name another"))
            }
            Err(std::fs::TryLockError::Error(error)) => Err(cannot("lock", error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the clock's mark is kept.
    pub(crate) fn clock_mark(&self) -> PathBuf {
        self.path.join("clock")
    }

    /// The name kept here; made if there is none yet.
    pub(crate) fn node_id(&self) -> Result<String, String> {
        self.kept("node.id", || format!("n{}", random_hex(4)))
    }

    /// The secret kept here, 64 hexadecimal digits; made if there is none yet.
    pub(crate) fn auth_secret(&self) -> Result<String, String> {
        self.kept("auth.secret", || random_hex(32))
    }

    fn kept(&self, name: &str, make: impl Fn() -> String) -> Result<String, String> {
        let path = self.path.join(name);
        let cannot = |what: &str, error: std::io::Error| format!("cannot {what} {}: {error}", path.display());
        match std::fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
            Ok(_) => return Err(format!("{} is empty; restore it from a backup, or remove it", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot("read", error)),
        }
        let made = make();
        let fresh = path.with_extension("new");
        let written = private(&fresh).and_then(|mut file| {
            file.set_len(0)?;
            writeln!(file, "{made}")?;
            file.sync_all()?;
            std::fs::rename(&fresh, &path)?;
            File::open(&self.path)?.sync_all()
        });
        written.map_err(|error| cannot("write", error))?;
        Ok(made)
    }
}

/// Opens a file that only this user may read, making it if it is not there.
fn private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn random_hex(n_bytes: usize) -> String {
    let mut bytes = vec![0; n_bytes];
    SecureRandom.fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn names_and_secrets_are_kept_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/data");
        let open = || DataDir::open(path.to_str().unwrap());
        let (id, secret) = {
            let data = open().unwrap();
            (data.node_id().unwrap(), data.auth_secret().unwrap())
        };
        assert_eq!(secret.len(), 64);
        let data = open().unwrap();
        assert_eq!((data.node_id().unwrap(), data.auth_secret().unwrap()), (id, secret));
        let mode = |name: &str| std::fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("auth.secret")), (0o700, 0o600));
    }

    #[test]
    fn a_second_process_and_a_file_are_refused_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        let _first = DataDir::open(path).unwrap();
        assert!(DataDir::open(path).err().unwrap().contains("another process uses it"));
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(DataDir::open(file.to_str().unwrap()).err().unwrap().contains("not a directory"));
    }
}
