//! What a store can answer instead of an outcome.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a store did not do, or cannot say whether it did, what it was asked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// The queue or a stated bound is full; nothing happened. Try again shortly.
    Busy,
    /// A write or sync failed. Whether this unit is durable is unknown until the store is reopened,
    /// and the store refuses writes until then.
    Unknown(Arc<io::Error>),
    /// The store refuses writes since an earlier write or sync failed; nothing happened. Reads go
    /// on. Reopen the store.
    ReadOnly,
    /// The store refuses writes; the revocation is in effect until the process ends, but not durable.
    NotDurable,
    /// The store has been closed.
    Closed,
    /// A cold read could not be answered in time, or the checkpoint is being rebuilt.
    Unavailable,
    /// Another process or another store of this one has the directory open.
    Locked {
        /// The directory.
        path: PathBuf,
        /// What the holder wrote about itself, such as its process id.
        holder: String,
    },
    /// The root key is not the one that the store was made with, or lacks a version that it needs.
    WrongKey {
        /// What is wrong, and what to do.
        reason: &'static str,
    },
    /// The data on disk is damaged.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What was found.
        reason: &'static str,
    },
    /// The data was written by a newer version of this library, or is no store.
    Format {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: &'static str,
    },
    /// The file system refused.
    Io {
        /// What was attempted.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: Arc<io::Error>,
    },
    /// The feed no longer reaches back to this cursor; begin again from a snapshot.
    SnapshotNeeded,
    /// The cursor was not made by this listing.
    BadCursor,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Busy => f.write_str("the store is busy; try again shortly"),
            StoreError::Unknown(_) => f.write_str(
                "a write failed and its outcome is unknown; reopen the store to learn it",
            ),
            StoreError::ReadOnly => {
                f.write_str("the store refuses writes after a failed one; reopen it")
            }
            StoreError::NotDurable => f.write_str(
                "the revocation is in effect until restart, not durable; reopen the store and \
                 repeat it",
            ),
            StoreError::Closed => f.write_str("the store is closed"),
            StoreError::Unavailable => {
                f.write_str("the checkpoint cannot answer now; try again shortly")
            }
            StoreError::Locked { path, holder } => {
                write!(f, "{} is in use by {holder}", path.display())
            }
            StoreError::WrongKey { reason } => write!(f, "wrong root key: {reason}"),
            StoreError::Corrupt { path, offset, reason } => {
                write!(f, "{} is damaged at byte {offset}: {reason}", path.display())
            }
            StoreError::Format { path, reason } => {
                write!(f, "{} cannot be read by this version: {reason}", path.display())
            }
            StoreError::Io { doing, path, .. } => {
                write!(f, "could not {doing} {}", path.display())
            }
            StoreError::SnapshotNeeded => f.write_str("the feed no longer reaches back that far"),
            StoreError::BadCursor => f.write_str("the cursor belongs to no such listing"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StoreError::Unknown(error) | StoreError::Io { error, .. } => Some(error.as_ref()),
            _ => None,
        }
    }
}

impl StoreError {
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.into();
        move |error| StoreError::Io { doing, path, error: Arc::new(error) }
    }
}
