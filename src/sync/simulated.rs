//! The simulated ones.

pub(crate) use crate::sim::lock::{
    Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
pub(crate) use crate::sim::time::Instant;
pub(crate) use crate::sim::{atomic, channel};
pub(crate) use shuttle::thread_local;

use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;

pub(crate) type RandomState = BuildHasherDefault<DefaultHasher>;
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;
pub(crate) type HashSet<K> = std::collections::HashSet<K, RandomState>;

pub(crate) mod thread {
    pub(crate) use crate::sim::time::sleep;
    pub(crate) use shuttle::thread::{Builder, JoinHandle, Thread, current, park};
}
