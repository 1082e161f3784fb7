//! A leaf: so many rows of a region in one value of the checkpoint.

use std::collections::BTreeMap;

use super::Lsn;

/// The longest value, in bytes.
const LEAF_LEN_MAX: usize = 16 * 1024;
/// So long are the parts of a leaf that is split.
const FILL_LEN: usize = LEAF_LEN_MAX / 8 * 7;
const HEAD_LEN: usize = 6;

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

    pub(super) fn row_count(&self) -> u32 {
        u32::try_from(self.rows.len()).unwrap_or(u32::MAX)
    }

    /// Its parts, each short enough for one value; itself where that is one.
    pub(super) fn split(mut self) -> Vec<Leaf> {
        let row_len = |id: &Vec<u8>, record: &Vec<u8>| 12 + id.len() + record.len();
        let len: usize = self.rows.iter().map(|(id, (_, record))| row_len(id, record)).sum();
        if HEAD_LEN + len <= LEAF_LEN_MAX {
            return vec![self];
        }
        let mut parts = Vec::new();
        let mut part = Leaf::default();
        let mut part_len = HEAD_LEN;
        // Identifiers mostly count up: leaving all but the last nearly full wastes least.
        while let Some((id, (lsn, record))) = self.rows.pop_first() {
            let row_len = row_len(&id, &record);
            if part_len + row_len > FILL_LEN && !part.rows.is_empty() {
                parts.push(std::mem::take(&mut part));
                part_len = HEAD_LEN;
            }
            part_len += row_len;
            part.rows.insert(id, (lsn, record));
        }
        parts.push(part);
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_leaf_hold_its_rows_and_fit_a_value() {
        for (rows, len) in [(0, 0), (1, 20_000), (200, 1), (117, 120), (4_000, 100), (40, 5_000)] {
            let row = |n: u32| (n.to_be_bytes().to_vec(), (Lsn(u64::from(n)), vec![7; len]));
            let leaf = Leaf { rows: (0..rows).map(row).collect() };
            let parts = leaf.clone().split();
            assert!(parts.len() == 1 || parts.iter().all(|part| !part.rows.is_empty()));
            let is_short = |part: &Leaf| part.encode().len() <= LEAF_LEN_MAX;
            assert!(parts.iter().all(|part| is_short(part) || part.rows.len() == 1));
            let nearly_full = |part: &Leaf| part.encode().len() + len + 16 > FILL_LEN;
            assert!(parts.iter().rev().skip(1).all(nearly_full), "{rows} rows of {len}");
            let all = parts.into_iter().flat_map(|part| part.rows).collect();
            assert_eq!(Leaf { rows: all }, leaf);
        }
    }
}
