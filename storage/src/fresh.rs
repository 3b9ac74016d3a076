//! A file that has its name only when it is whole and on disk. Only this user may read it, and nothing is written over.

use std::{
    fs::{self, File, OpenOptions},
    io::{Error, Result},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Dropped before it is kept, it leaves nothing behind.
pub(crate) struct Fresh {
    path: PathBuf,
    part: PathBuf,
}

impl Fresh {
    /// Begins a file beside its place.
    pub(crate) fn begin(path: &Path) -> Result<(Fresh, File)> {
        must_be_free(path)?;
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        // what an attempt that was interrupted left
        let _ = fs::remove_file(&part);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        Ok((Fresh { path: path.to_owned(), part }, file))
    }

    /// Where it is as long as it is not whole.
    pub(crate) fn part(&self) -> &Path {
        &self.part
    }

    /// Gives it its name. What was written to it is on disk when this returns.
    pub(crate) fn keep(self) -> Result<()> {
        File::open(&self.part)?.sync_all()?;
        must_be_free(&self.path)?;
        fs::rename(&self.part, &self.path)?;
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir)?.sync_all()
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // gone already if it was kept
        let _ = fs::remove_file(&self.part);
    }
}

fn must_be_free(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Ok(_) => Err(Error::other("it is there already; name another file, or move it away")),
        Err(_) => Ok(()),
    }
}
