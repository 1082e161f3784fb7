//! Bytes of the log: segments of a fixed length, zeroed ahead, holding groups of records.
//!
//! A segment begins with one block (4,096 bytes) that names it. Groups follow at block boundaries.
//! A group is a head of 128 bytes and whole record frames, padded with zeros to the next block. Its
//! chain value is a keyed hash over head, records and the chain value of the group before, so a
//! group is only ever valid in its place.

use super::Lsn;
use crate::time::Timestamp;

/// Groups begin at multiples of this many bytes; no acknowledged block is ever written again.
pub(crate) const BLOCK: usize = 4_096;
/// What a device writes whole or not at all.
const SECTOR: usize = 512;
pub(crate) const HEAD_LEN: usize = 128;
/// The longest group, head included; in short segments half a segment.
pub(crate) const GROUP_LEN_MAX: usize = 256 * 1024;
/// The shortest segment: half of it holds the longest unit.
pub(crate) const SEGMENT_LEN_MIN: usize = if cfg!(mintage_sim) { 32 * 1024 } else { 128 * 1024 };
const SEGMENT_MAGIC: &[u8; 8] = b"MINTSEG\x01";
const GROUP_MAGIC: &[u8; 4] = b"GRP\x01";

/// Chain value before the first group of a log.
pub(crate) const CHAIN_START: [u8; 16] = [0; 16];

pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:016x}.log")
}

pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// The first block of a segment.
pub(crate) fn segment_head(number: u64, store_id: &[u8; 16]) -> Vec<u8> {
    let mut head = Vec::with_capacity(BLOCK);
    head.extend_from_slice(SEGMENT_MAGIC);
    head.extend_from_slice(&number.to_le_bytes());
    head.extend_from_slice(store_id);
    head.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
    head.resize(BLOCK, 0);
    head
}

/// Whether `block` is the first block of that segment of that store.
pub(crate) fn is_segment_head(block: &[u8], number: u64, store_id: &[u8; 16]) -> bool {
    block.get(..BLOCK) == Some(segment_head(number, store_id).as_slice())
}

/// The head of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHead {
    pub(crate) segment: u64,
    /// Block of numbers in use when it was written.
    pub(crate) incarnation: u64,
    pub(crate) first: Lsn,
    pub(crate) count: u32,
    pub(crate) body_len: u32,
    /// The log was known to be on disk up to here when this was written.
    pub(crate) synced_through: Lsn,
    pub(crate) high_water: Timestamp,
    pub(crate) previous: [u8; 16],
    pub(crate) chain: [u8; 16],
}

impl GroupHead {
    /// Writes the head into the first bytes of `group`, whose records stand behind it already, and
    /// pads the group to a block. Returns the chain value.
    pub(crate) fn seal(mut self, key: &[u8; 32], group: &mut Vec<u8>) -> [u8; 16] {
        let body_len = group.len().saturating_sub(HEAD_LEN);
        self.body_len = u32::try_from(body_len).unwrap_or(u32::MAX);
        let mut head = self.encode();
        self.chain = chain(key, &head, group.get(HEAD_LEN..).unwrap_or(&[]));
        if let Some(slot) = head.get_mut(80..96) {
            slot.copy_from_slice(&self.chain);
        }
        let crc = crc32fast::hash(head.get(8..).unwrap_or(&[]));
        if let Some(slot) = head.get_mut(4..8) {
            slot.copy_from_slice(&crc.to_le_bytes());
        }
        if let Some(slot) = group.get_mut(..HEAD_LEN) {
            slot.copy_from_slice(&head);
        }
        group.resize(group.len().next_multiple_of(BLOCK), 0);
        self.chain
    }

    fn encode(&self) -> [u8; HEAD_LEN] {
        let mut out = Vec::with_capacity(HEAD_LEN);
        out.extend_from_slice(GROUP_MAGIC);
        out.extend_from_slice(&[0; 4]);
        for number in [self.segment, self.incarnation, self.first.0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.body_len.to_le_bytes());
        out.extend_from_slice(&self.synced_through.0.to_le_bytes());
        out.extend_from_slice(&self.high_water.0.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.previous);
        out.resize(HEAD_LEN, 0);
        out.first_chunk::<HEAD_LEN>().copied().unwrap_or([0; HEAD_LEN])
    }

    /// Reads a head whose own checksum is right.
    fn decode(bytes: &[u8]) -> Option<GroupHead> {
        let head = bytes.first_chunk::<HEAD_LEN>()?;
        let crc = crc32fast::hash(head.get(8..)?);
        if head.get(..4)? != GROUP_MAGIC || head.get(4..8)? != crc.to_le_bytes() {
            return None;
        }
        let number = |at: usize| {
            head.get(at..).and_then(|b| b.first_chunk::<8>()).map(|b| u64::from_le_bytes(*b))
        };
        let small = |at: usize| {
            head.get(at..).and_then(|b| b.first_chunk::<4>()).map(|b| u32::from_le_bytes(*b))
        };
        let array = |at: usize| head.get(at..).and_then(|b| b.first_chunk::<16>()).copied();
        Some(GroupHead {
            segment: number(8)?,
            incarnation: number(16)?,
            first: Lsn(number(24)?),
            count: small(32)?,
            body_len: small(36)?,
            synced_through: Lsn(number(40)?),
            high_water: Timestamp(number(48)?),
            previous: array(64)?,
            chain: array(80)?,
        })
    }

    fn len(&self) -> usize {
        HEAD_LEN + self.body_len as usize
    }

    /// Length in the segment, padding included.
    pub(crate) fn padded_len(&self) -> usize {
        self.len().next_multiple_of(BLOCK)
    }

    /// Position of the first record, if `block` begins with a group of that segment.
    pub(crate) fn first_in(block: &[u8], segment: u64) -> Option<Lsn> {
        GroupHead::decode(block).filter(|head| head.segment == segment).map(|head| head.first)
    }

    /// Padded length of the group that `block` begins with; `None` where none was written.
    pub(crate) fn padded_len_in(block: &[u8]) -> Option<usize> {
        let len = GroupHead::decode(block)?.padded_len();
        (len <= GROUP_LEN_MAX + BLOCK).then_some(len)
    }

    pub(crate) fn last(&self) -> Lsn {
        Lsn(self.first.0 + u64::from(self.count).saturating_sub(1))
    }
}

/// Over the head up to the previous chain value, and the records.
fn chain(key: &[u8; 32], head: &[u8; HEAD_LEN], body: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(head.get(8..80).unwrap_or(&[]));
    hasher.update(body);
    let mut out = [0; 16];
    hasher.finalize_xof().fill(&mut out);
    out
}

/// Where the next group must stand, and what it must continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) segment: u64,
    /// In bytes from the start of the segment.
    pub(crate) offset: usize,
    pub(crate) next: Lsn,
    /// Chain value of the group before; `None` takes the first group's word for it.
    pub(crate) chain: Option<[u8; 16]>,
}

/// What stands at a position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A group in its place, and its records.
    Group(GroupHead, &'a [u8]),
    /// Zeros to the end of the segment.
    End,
    /// Bytes that an interrupted write may leave: some of its sectors never reached the disk.
    Torn,
    /// Bytes that no interrupted write leaves.
    Damaged(&'static str),
}

/// Reads what stands at `position` in the bytes of its segment.
pub(crate) fn read_group<'a>(key: &[u8; 32], segment: &'a [u8], position: &Position) -> Found<'a> {
    let rest = segment.get(position.offset..).unwrap_or(&[]);
    if rest.iter().all(|byte| *byte == 0) {
        return Found::End;
    }
    let first_sector = rest.get(..SECTOR).unwrap_or(rest);
    if first_sector.iter().all(|byte| *byte == 0) {
        return Found::Torn;
    }
    let Some(head) = GroupHead::decode(rest) else {
        return Found::Damaged("a group's head has a wrong checksum");
    };
    if head.len() > GROUP_LEN_MAX || head.len() > rest.len() {
        return Found::Damaged("a group is longer than its segment");
    }
    let Some(body) = rest.get(HEAD_LEN..head.len()) else {
        return Found::Damaged("a group is longer than its segment");
    };
    if head.chain != chain(key, &head.encode(), body) {
        let group = rest.get(..head.len()).unwrap_or(&[]);
        let missing = group.chunks(SECTOR).any(|s| s.iter().all(|byte| *byte == 0));
        return if missing { Found::Torn } else { Found::Damaged("a group has a wrong checksum") };
    }
    let padding = rest.get(head.len()..head.padded_len()).unwrap_or(&[1]);
    if padding.iter().any(|byte| *byte != 0) {
        return Found::Damaged("a group's padding is not zero");
    }
    let in_place = head.segment == position.segment
        && head.first == position.next
        && head.count > 0
        && position.chain.is_none_or(|chain| chain == head.previous);
    if !in_place {
        return Found::Damaged("a group is out of its place");
    }
    Found::Group(head, body)
}

/// The highest position that any valid group after `offset` calls synced. It tells a hole from a
/// torn tail.
pub(crate) fn synced_after(key: &[u8; 32], segment: &[u8], offset: usize) -> Lsn {
    let mut highest = Lsn(0);
    let mut at = offset.next_multiple_of(BLOCK);
    while let Some(rest) = segment.get(at..).filter(|rest| !rest.is_empty()) {
        at += BLOCK;
        let Some(head) = GroupHead::decode(rest) else { continue };
        let Some(body) = rest.get(HEAD_LEN..head.len()) else { continue };
        if head.len() <= GROUP_LEN_MAX && head.chain == chain(key, &head.encode(), body) {
            highest = highest.max(head.synced_through);
        }
    }
    highest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::tests::samples;

    const KEY: [u8; 32] = [7; 32];

    fn group(first: u64, previous: [u8; 16], synced: u64) -> (Vec<u8>, [u8; 16], u32) {
        let mut bytes = vec![0; HEAD_LEN];
        let records = samples();
        for record in &records {
            record.encode(&mut bytes);
        }
        let count = u32::try_from(records.len()).unwrap_or(0);
        let head = GroupHead {
            segment: 1,
            incarnation: 1,
            first: Lsn(first),
            count,
            body_len: 0,
            synced_through: Lsn(synced),
            high_water: Timestamp(5),
            previous,
            chain: [0; 16],
        };
        let chain = head.seal(&KEY, &mut bytes);
        (bytes, chain, count)
    }

    fn start() -> Position {
        Position { segment: 1, offset: 0, next: Lsn(1), chain: Some(CHAIN_START) }
    }

    #[test]
    fn a_group_reads_back_in_its_place_alone() {
        let (mut bytes, chain, count) = group(1, CHAIN_START, 0);
        bytes.resize(4 * BLOCK, 0);
        let Found::Group(head, body) = read_group(&KEY, &bytes, &start()) else {
            unreachable!("the group is whole")
        };
        assert_eq!((head.chain, head.count, head.last()), (chain, count, Lsn(u64::from(count))));
        assert_eq!(body.len() % 64, 0);
        for elsewhere in [
            Position { segment: 2, ..start() },
            Position { next: Lsn(2), ..start() },
            Position { chain: Some([1; 16]), ..start() },
        ] {
            assert!(matches!(read_group(&KEY, &bytes, &elsewhere), Found::Damaged(_)));
        }
        assert!(matches!(read_group(&[8; 32], &bytes, &start()), Found::Damaged(_)));
    }

    #[test]
    fn a_flipped_bit_is_damage_and_a_missing_sector_is_a_torn_write() {
        let (bytes, ..) = group(1, CHAIN_START, 0);
        for bit in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read_group(&KEY, &bent, &start()), Found::Damaged(_)), "bit {bit}");
        }
        let body_end = GroupHead::decode(&bytes).map_or(0, |head| head.len());
        for sector in 0..body_end / SECTOR {
            let mut torn = bytes.clone();
            torn[sector * SECTOR..(sector + 1) * SECTOR].fill(0);
            assert_eq!(read_group(&KEY, &torn, &start()), Found::Torn, "sector {sector}");
        }
        assert_eq!(read_group(&KEY, &vec![0; BLOCK], &start()), Found::End);
    }

    #[test]
    fn later_groups_tell_what_was_synced() {
        let (first, chain, count) = group(1, CHAIN_START, 0);
        let (second, ..) = group(1 + u64::from(count), chain, u64::from(count));
        let bytes = [first, second].concat();
        let next = Position {
            offset: bytes.len() / 2,
            next: Lsn(1 + u64::from(count)),
            chain: Some(chain),
            ..start()
        };
        assert!(matches!(read_group(&KEY, &bytes, &next), Found::Group(..)));
        assert_eq!(synced_after(&KEY, &bytes, 0), Lsn(u64::from(count)));
        assert_eq!(synced_after(&KEY, &bytes, bytes.len()), Lsn(0));
    }
}
