//! A checkpoint in memory, for stores on a simulated disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::checkpoint::{Change, Checkpoint, CheckpointError, CheckpointHome, KeyValue};

type Table = Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>;

/// A table in memory. It outlives the stores that are opened on it, as a directory would.
#[derive(Clone, Debug, Default)]
pub struct MemoryCheckpointHome {
    table: Table,
}

impl MemoryCheckpointHome {
    /// A table of its own with what this one holds now, as a copy of a directory would be.
    #[must_use]
    pub fn copy(&self) -> MemoryCheckpointHome {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner).clone();
        MemoryCheckpointHome { table: Arc::new(Mutex::new(table)) }
    }
}

impl CheckpointHome for MemoryCheckpointHome {
    fn open(&self) -> Result<Box<dyn Checkpoint>, CheckpointError> {
        Ok(Box::new(MemoryCheckpoint(Arc::clone(&self.table))))
    }

    fn destroy(&self) -> Result<(), CheckpointError> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }
}

struct MemoryCheckpoint(Table);

impl Checkpoint for MemoryCheckpoint {
    fn last_up_to(&self, low: &[u8], key: &[u8]) -> Result<Option<KeyValue>, CheckpointError> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = table.range(low.to_vec()..=key.to_vec()).next_back();
        Ok(found.map(|(key, value)| (key.clone(), value.clone())))
    }

    fn scan(
        &self,
        low: &[u8],
        high: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), CheckpointError> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in table.range(low.to_vec()..high.to_vec()) {
            if !each(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn write(&mut self, batch: Vec<Change>) -> Result<(), CheckpointError> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in batch {
            match value {
                Some(value) => table.insert(key, value),
                None => table.remove(&key),
            };
        }
        Ok(())
    }

    fn harden(&mut self) -> Result<(), CheckpointError> {
        Ok(())
    }
}
