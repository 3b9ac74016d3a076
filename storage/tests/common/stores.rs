//! The stores that every suite runs on.

use storage::Store;

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Memory,
    Sqlite,
}

pub const HISTORIES: [Kind; 2] = [Kind::Memory, Kind::Sqlite];
pub const TOKENS: [Kind; 2] = [Kind::Memory, Kind::Sqlite];

/// Where a store is as long as it is used: dropped after it.
#[derive(Default)]
pub struct Place {
    dir: Option<tempfile::TempDir>,
}

pub async fn open(kind: Kind) -> (Store, Place) {
    match kind {
        Kind::Memory => (Store::memory(), Place::default()),
        Kind::Sqlite => {
            let dir = tempfile::tempdir().unwrap();
            (Store::open_sqlite(dir.path()).unwrap(), Place { dir: Some(dir) })
        }
    }
}
