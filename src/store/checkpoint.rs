//! The seam to the table that follows the log. Nothing acknowledged depends on it: it may at any
//! moment be old, damaged or gone, and is then rebuilt from the log.

use std::fmt;

/// One change of a batch: a key, and its value or `None` to remove it.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// A key and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// An ordered table of small values, owned by one thread.
pub trait Checkpoint: Send {
    /// The greatest key in `low..=key`, with its value.
    ///
    /// # Errors
    /// [`CheckpointError`].
    fn last_up_to(&self, low: &[u8], key: &[u8]) -> Result<Option<KeyValue>, CheckpointError>;

    /// Hands every pair in `low..high` to `each`, in order, until it answers `false`.
    ///
    /// # Errors
    /// [`CheckpointError`].
    fn scan(
        &self,
        low: &[u8],
        high: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), CheckpointError>;

    /// Makes all of `batch` visible at once. A crash keeps all of it or none.
    ///
    /// # Errors
    /// [`CheckpointError`]; the table is then rebuilt.
    fn write(&mut self, batch: Vec<Change>) -> Result<(), CheckpointError>;

    /// Puts what was written on stable storage, as far as the engine can. It bounds the time of the
    /// next open; no answer depends on it.
    ///
    /// # Errors
    /// [`CheckpointError`].
    fn harden(&mut self) -> Result<(), CheckpointError>;
}

/// Where a [`Checkpoint`] lives.
pub trait CheckpointHome: Send + Sync + fmt::Debug + 'static {
    /// Opens the table, empty if there is none.
    ///
    /// # Errors
    /// [`CheckpointError`]; the table is then destroyed and rebuilt.
    fn open(&self) -> Result<Box<dyn Checkpoint>, CheckpointError>;

    /// Removes the table with all its files. Nothing has it open.
    ///
    /// # Errors
    /// [`CheckpointError`].
    fn destroy(&self) -> Result<(), CheckpointError>;
}

/// Why the checkpoint is of no use right now.
#[derive(Debug)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The engine refused or panicked.
    Engine(Box<dyn std::error::Error + Send + Sync>),
    /// What it holds does not add up.
    Damaged(&'static str),
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckpointError::Engine(_) => f.write_str("the checkpoint's engine failed"),
            CheckpointError::Damaged(what) => write!(f, "the checkpoint is damaged: {what}"),
        }
    }
}

impl std::error::Error for CheckpointError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CheckpointError::Engine(error) => Some(error.as_ref()),
            CheckpointError::Damaged(_) => None,
        }
    }
}
