//! The hash maps whose order can show in what is decided. In tests the same story has the same order every time, so that
//! a simulation replays exactly; elsewhere nobody can know it, and nobody may rely on it.

#[cfg(not(test))]
pub(crate) use std::collections::{HashMap, HashSet};

#[cfg(test)]
use std::hash::{BuildHasherDefault, DefaultHasher};

#[cfg(test)]
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<DefaultHasher>>;
#[cfg(test)]
pub(crate) type HashSet<K> = std::collections::HashSet<K, BuildHasherDefault<DefaultHasher>>;
