//! A leaf: so many rows of a region in one value of the checkpoint.

use std::collections::BTreeMap;

use super::Lsn;

/// The longest value, in bytes.
const LEAF_LEN_MAX: usize = 16 * 1024;

/// The rows of one value: identifier, position of the record, bare record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(super) rows: BTreeMap<Vec<u8>, (Lsn, Vec<u8>)>,
}

impl Leaf {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        let short = |len: usize| u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes();
        out.extend_from_slice(&short(self.rows.len()));
        for (id, (lsn, record)) in &self.rows {
            out.extend_from_slice(&short(id.len()));
            out.extend_from_slice(id);
            out.extend_from_slice(&lsn.0.to_le_bytes());
            out.extend_from_slice(&short(record.len()));
            out.extend_from_slice(record);
        }
        let crc = crc32fast::hash(out.get(4..).unwrap_or(&[]));
        if let Some(head) = out.get_mut(..4) {
            head.copy_from_slice(&crc.to_le_bytes());
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Leaf> {
        fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
            let (len, after) = rest.split_first_chunk::<2>()?;
            let (part, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
            *rest = after;
            Some(part)
        }
        let (crc, body) = bytes.split_first_chunk::<4>()?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (count, mut rest) = body.split_first_chunk::<2>()?;
        let mut rows = BTreeMap::new();
        for _ in 0..u16::from_le_bytes(*count) {
            let id = part(&mut rest)?.to_vec();
            let (lsn, after) = rest.split_first_chunk::<8>()?;
            rest = after;
            let record = part(&mut rest)?.to_vec();
            // In order and once each, so that a leaf has one encoding.
            if rows.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return None;
            }
            rows.insert(id, (Lsn(u64::from_le_bytes(*lsn)), record));
        }
        rest.is_empty().then_some(Leaf { rows })
    }

    pub(super) fn len(&self) -> usize {
        6 + self.rows.iter().map(|(id, (_, r))| 12 + id.len() + r.len()).sum::<usize>()
    }

    /// The upper half, once the leaf is too long for one value.
    pub(super) fn split(&mut self) -> Option<Leaf> {
        if self.len() <= LEAF_LEN_MAX || self.rows.len() < 2 {
            return None;
        }
        // Identifiers mostly count up: leaving the lower leaf nearly full wastes least.
        let at = (self.rows.len() * 7 / 8).max(1);
        let key = self.rows.keys().nth(at).cloned()?;
        Some(Leaf { rows: self.rows.split_off(&key) })
    }
}
