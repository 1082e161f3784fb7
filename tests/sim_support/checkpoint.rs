//! A checkpoint that can be damaged as a directory can: gone, older, of two ages, or without a
//! part of itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use mintage::store::{Change, Checkpoint, CheckpointError, CheckpointHome, KeyValue};

use crate::store_support::sim::Random;

type Table = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Default)]
struct Kept {
    table: Table,
    /// As it was some batches ago.
    older: Table,
    batches: u64,
    /// Operations until one fails.
    fails_in: Option<u64>,
}

impl Kept {
    fn call(&mut self) -> Result<(), CheckpointError> {
        if let Some(left) = &mut self.fails_in {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.fails_in = None;
                return Err(CheckpointError::Damaged("injected"));
            }
        }
        Ok(())
    }
}

/// Where it lies. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct SimHome(Arc<Mutex<Kept>>);

impl SimHome {
    /// What a crash leaves of it, in a place of its own: the process that died may still write to
    /// the old one.
    pub fn crash(&self, random: &mut Random) -> SimHome {
        let mut kept = self.0.lock().unwrap();
        let mut table = std::mem::take(&mut kept.table);
        let older = std::mem::take(&mut kept.older);
        match random.below(8) {
            0 => table.clear(),
            1 => table.clone_from(&older),
            2 => {
                // Of two ages: every other key is as it was.
                let keys: Vec<Vec<u8>> = table.keys().chain(older.keys()).cloned().collect();
                for key in keys {
                    if random.one_in(2) {
                        match older.get(&key) {
                            Some(value) => table.insert(key, value.clone()),
                            None => table.remove(&key),
                        };
                    }
                }
            }
            3 => lose_a_bucket(&mut table, random),
            _ => {}
        }
        SimHome(Arc::new(Mutex::new(Kept { table, older, ..Kept::default() })))
    }

    /// The `n`-th operation from now on fails.
    pub fn fail_in(&self, n: u64) {
        self.0.lock().unwrap().fails_in = Some(n);
    }
}

/// All keys of one region of rows are gone, and nothing else.
fn lose_a_bucket(table: &mut Table, random: &mut Random) {
    // A key is class, bucket, part (13 bytes) and the first identifier; classes below 16 are
    // summaries and the position.
    let mut prefixes: Vec<Vec<u8>> = table
        .keys()
        .filter(|key| key.len() > 13 && key[0] >= 16)
        .map(|k| k[..13].to_vec())
        .collect();
    prefixes.dedup();
    if !prefixes.is_empty() {
        let lost = prefixes[random.index(prefixes.len())].clone();
        table.retain(|key, _| !key.starts_with(&lost));
    }
}

impl CheckpointHome for SimHome {
    fn open(&self) -> Result<Box<dyn Checkpoint>, CheckpointError> {
        self.0.lock().unwrap().call()?;
        Ok(Box::new(SimCheckpoint(Arc::clone(&self.0))))
    }

    fn destroy(&self) -> Result<(), CheckpointError> {
        let mut kept = self.0.lock().unwrap();
        kept.call()?;
        kept.table.clear();
        Ok(())
    }
}

struct SimCheckpoint(Arc<Mutex<Kept>>);

impl Checkpoint for SimCheckpoint {
    fn last_up_to(&self, low: &[u8], key: &[u8]) -> Result<Option<KeyValue>, CheckpointError> {
        let mut kept = self.0.lock().unwrap();
        kept.call()?;
        let found = kept.table.range(low.to_vec()..=key.to_vec()).next_back();
        Ok(found.map(|(key, value)| (key.clone(), value.clone())))
    }

    fn scan(
        &self,
        low: &[u8],
        high: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), CheckpointError> {
        let mut kept = self.0.lock().unwrap();
        kept.call()?;
        for (key, value) in kept.table.range(low.to_vec()..high.to_vec()) {
            if !each(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn write(&mut self, batch: Vec<Change>) -> Result<(), CheckpointError> {
        let mut kept = self.0.lock().unwrap();
        kept.call()?;
        kept.batches += 1;
        if kept.batches.is_multiple_of(8) {
            kept.older = kept.table.clone();
        }
        for (key, value) in batch {
            match value {
                Some(value) => kept.table.insert(key, value),
                None => kept.table.remove(&key),
            };
        }
        Ok(())
    }

    fn harden(&mut self) -> Result<(), CheckpointError> {
        self.0.lock().unwrap().call()
    }
}
