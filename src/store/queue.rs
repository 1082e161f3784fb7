//! What waits for the disk: units in the order of their positions, packed into groups, and the groups
//! of the write that is under way.

use std::collections::VecDeque;
use std::sync::Arc;

use super::core::{Appended, Lane};
use super::group::Group;
use super::segment::{BLOCK, HEAD_LEN};
use super::{Lsn, StoreError};
use crate::time::Timestamp;

/// Births are refused while more bytes than this wait for the disk; redeems and kills later.
const QUEUED_LEN_MAX: usize = 16 * 1024 * 1024;
/// Room that the lanes leave to each other, at least, in bytes.
const UNIT_LEN_MAX: u64 = 4 * 1024;
/// The most bytes of groups that one write takes, so that no waiter waits for much more than its own.
const WRITE_LEN_MAX: usize = 1024 * 1024;
/// Buffers of written groups that are kept for the next ones.
const SPARE_MAX: usize = 8;

pub(super) struct Queue {
    pending: VecDeque<Pending>,
    /// The groups of the write under way and their last positions.
    in_flight: Vec<(Lsn, Arc<Group>)>,
    next: Lsn,
    queued_len: usize,
    spare: Vec<Vec<u8>>,
    group_len_max: usize,
    pub(super) high_water: Timestamp,
    pub(super) state: State,
    pub(super) is_closed: bool,
    /// Whether the writer lets the cleaner's records gather.
    pub(super) is_held: bool,
    /// Whether anybody but the cleaner waits for what is pending.
    pub(super) is_wanted: bool,
    pub(super) writer: Writer,
    /// Whether a waiting thread made the last write, and not the writer.
    pub(super) was_led: bool,
}

/// What the writer's thread does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    Works,
    /// It looks again by itself, soon.
    Dozes,
    Sleeps,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    ReadOnly,
}

pub(super) struct Pending {
    /// Room for the head, then record frames.
    pub(super) bytes: Vec<u8>,
    pub(super) first: Lsn,
    pub(super) count: u32,
    pub(super) group: Arc<Group>,
}

impl Pending {
    pub(super) fn last(&self) -> Lsn {
        Lsn(self.first.0 + u64::from(self.count) - 1)
    }

    pub(super) fn padded_len(&self) -> usize {
        self.bytes.len().next_multiple_of(BLOCK)
    }
}

/// Where the log stands, as far as room is concerned.
pub(super) struct Room {
    pub(super) segment_len: u64,
    /// Segments that are ready behind the one in use.
    pub(super) ahead: u64,
    /// Where the next group goes in the segment in use.
    pub(super) offset: u64,
    /// Whether the log holds as many bytes as it may.
    pub(super) is_full: bool,
}

impl Queue {
    pub(super) fn new(next: Lsn, high_water: Timestamp, group_len_max: usize) -> Queue {
        Queue {
            pending: VecDeque::new(),
            in_flight: Vec::new(),
            next,
            queued_len: 0,
            spare: Vec::new(),
            group_len_max,
            high_water,
            state: State::Open,
            is_closed: false,
            is_held: false,
            is_wanted: false,
            writer: Writer::Works,
            was_led: false,
        }
    }

    /// Position of the last record that was enqueued.
    pub(super) fn tail(&self) -> Lsn {
        Lsn(self.next.0 - 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether a group is complete: another one has begun behind it.
    pub(super) fn has_full_group(&self) -> bool {
        self.pending.len() > 1
    }

    pub(super) fn is_writing(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Puts the frames of `count` records into the group at the back, or a new one: a unit never
    /// crosses groups.
    pub(super) fn enqueue(
        &mut self,
        frames: &[u8],
        count: u32,
        new_group: impl FnOnce() -> Arc<Group>,
    ) -> Appended {
        let first = self.next;
        self.next = Lsn(first.0 + u64::from(count));
        self.queued_len += frames.len();
        if let Some(back) = self.pending.back_mut()
            && back.bytes.len() + frames.len() <= self.group_len_max
        {
            back.bytes.extend_from_slice(frames);
            back.count += count;
            return Appended { first, group: Some(Arc::clone(&back.group)) };
        }
        let mut bytes = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK));
        bytes.resize(HEAD_LEN, 0);
        bytes.extend_from_slice(frames);
        self.queued_len += HEAD_LEN;
        let group = new_group();
        self.pending.push_back(Pending { bytes, first, count, group: Arc::clone(&group) });
        Appended { first, group: Some(group) }
    }

    /// Whether the writer may take the oldest group.
    pub(super) fn may_take(&self) -> bool {
        let is_long = |pending: &Pending| pending.bytes.len() >= self.group_len_max / 2;
        match self.pending.len() {
            0 => false,
            1 => !self.is_held || self.is_wanted || self.pending.front().is_some_and(is_long),
            _ => true,
        }
    }

    /// Whether whoever enqueued something must wake the writer; then it is taken for awake.
    pub(super) fn must_wake(&mut self) -> bool {
        let wakes = self.writer != Writer::Works && self.may_take();
        if wakes {
            self.writer = Writer::Works;
        }
        wakes
    }

    /// Whether a unit may be left to the thread that is about to wait for it, as the last one was.
    pub(super) fn is_left_to_leader(&self) -> bool {
        self.writer == Writer::Dozes && self.was_led
    }

    /// Takes what goes to the disk in one write: the oldest group, and those behind it while they
    /// have room in the same segment, of which `here` bytes are left and which has `whole` when it
    /// is new.
    pub(super) fn take(&mut self, here: usize, whole: usize) -> Vec<Pending> {
        let mut batch: Vec<Pending> = Vec::new();
        let mut room = here;
        while self.may_take()
            && let Some(padded) = self.pending.front().map(Pending::padded_len)
        {
            if batch.is_empty() {
                room = if padded > here { whole } else { here }.min(WRITE_LEN_MAX).max(padded);
            }
            if padded > room {
                break;
            }
            room -= padded;
            let Some(pending) = self.pending.pop_front() else { break };
            self.in_flight.push((pending.last(), Arc::clone(&pending.group)));
            batch.push(pending);
        }
        self.is_wanted &= !self.pending.is_empty();
        batch
    }

    /// What was taken is on disk. Its room counted as taken until now.
    pub(super) fn written(&mut self, len: usize, buffers: impl Iterator<Item = Vec<u8>>) {
        self.in_flight.clear();
        self.queued_len = self.queued_len.saturating_sub(len);
        for mut buffer in buffers {
            if self.spare.len() < SPARE_MAX {
                buffer.clear();
                self.spare.push(buffer);
            }
        }
    }

    /// Gives up everything that is not on disk, and refuses what comes.
    pub(super) fn abandon(&mut self) -> Vec<Arc<Group>> {
        self.state = State::ReadOnly;
        self.queued_len = 0;
        let in_flight = std::mem::take(&mut self.in_flight).into_iter().map(|(_, group)| group);
        let pending = std::mem::take(&mut self.pending).into_iter().map(|pending| pending.group);
        in_flight.chain(pending).collect()
    }

    /// The group that holds `lsn`, being written or still pending. Somebody is about to wait for it.
    pub(super) fn group_of(&mut self, lsn: Lsn) -> Option<Arc<Group>> {
        let in_flight = self.in_flight.iter().find(|(last, _)| lsn <= *last);
        if let Some((_, group)) = in_flight {
            return Some(Arc::clone(group));
        }
        let pending = self.pending.iter().find(|pending| lsn <= pending.last())?;
        self.is_wanted = true;
        Some(Arc::clone(&pending.group))
    }

    /// Whether a unit of `lane` may be queued so that every queued group finds its place: births
    /// are refused first, kills last. A segment may end in a rest that is too short for the next
    /// group, so it counts as shorter by the longest one. `texts_len` is what the unit may have over
    /// [`UNIT_LEN_MAX`].
    pub(super) fn admit(&self, lane: Lane, room: &Room, texts_len: u64) -> Result<(), StoreError> {
        if self.is_closed {
            return Err(StoreError::Closed);
        }
        if self.state == State::ReadOnly {
            return Err(StoreError::ReadOnly);
        }
        let (segment, longest) =
            (room.segment_len, self.group_len_max.next_multiple_of(BLOCK) as u64);
        let usable = (segment - BLOCK as u64).saturating_sub(longest);
        let here = segment.saturating_sub(room.offset).saturating_sub(longest);
        let groups = self.pending.len() + self.in_flight.len();
        let padding = (groups as u64 + 3) * BLOCK as u64;
        let taken = self.queued_len as u64 + padding + texts_len;
        let left = (room.ahead * usable + here).saturating_sub(taken);
        let (part, units, queued_max) = match lane {
            Lane::Birth => (4, 4, QUEUED_LEN_MAX),
            Lane::Redeem => (8, 3, QUEUED_LEN_MAX / 4 * 5),
            Lane::Clean => (16, 2, QUEUED_LEN_MAX / 4 * 5),
            Lane::Kill => (u64::MAX, 1, QUEUED_LEN_MAX / 2 * 3),
        };
        let has_room = left > (segment / part).max(units * UNIT_LEN_MAX)
            && self.queued_len < queued_max
            && !(room.is_full && lane == Lane::Birth);
        if has_room { Ok(()) } else { Err(StoreError::Busy) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::group::Committer;
    use std::sync::Weak;

    struct Nobody;

    impl Committer for Nobody {
        fn lead(&self) {}

        fn hurry(&self) {}
    }

    const GROUP_LEN_MAX: usize = 64 * 1024;

    /// A queue with groups of these lengths.
    fn queue(groups: &[usize]) -> Queue {
        let mut queue = Queue::new(Lsn(1), Timestamp(0), GROUP_LEN_MAX);
        for len in groups {
            let frames = vec![1; len - HEAD_LEN];
            enqueue(&mut queue, &frames);
        }
        queue
    }

    fn enqueue(queue: &mut Queue, frames: &[u8]) {
        let nobody = Weak::<Nobody>::new() as Weak<dyn Committer>;
        let _ = queue.enqueue(frames, 1, || Group::new(nobody));
    }

    #[test]
    fn a_write_takes_what_fits_its_segment_and_its_bound() {
        let long = GROUP_LEN_MAX;
        for (groups, here, taken) in [
            (vec![], 1 << 20, 0),
            (vec![long], 1 << 20, 1),
            (vec![long; 4], 3 * long, 3),
            // The next segment has room for more than this one.
            (vec![long; 4], long - BLOCK, 4),
            (vec![long; 40], 40 * long, WRITE_LEN_MAX / long),
        ] {
            let mut queue = queue(&groups);
            let batch = queue.take(here, 40 * long);
            assert_eq!(batch.len(), taken, "{groups:?} {here}");
            assert_eq!(queue.is_writing(), taken > 0);
            let last = batch.last().map_or(Lsn(0), Pending::last);
            assert_eq!(last, Lsn(taken as u64));
            for lsn in 1..=groups.len() as u64 {
                assert!(queue.group_of(Lsn(lsn)).is_some());
            }
            assert!(queue.group_of(Lsn(groups.len() as u64 + 1)).is_none());
        }
    }

    #[test]
    fn what_is_held_stays_until_it_is_long_or_wanted() {
        let mut queue = queue(&[GROUP_LEN_MAX, 1_024]);
        queue.is_held = true;
        assert_eq!(queue.take(1 << 20, 1 << 20).len(), 1, "the full one goes");
        assert!(!queue.may_take());
        queue.is_wanted = true;
        assert_eq!(queue.take(1 << 20, 1 << 20).len(), 1);
        assert!(!queue.is_wanted);
        enqueue(&mut queue, &[1; 64]);
        assert!(!queue.may_take());
        enqueue(&mut queue, &vec![1; GROUP_LEN_MAX / 2]);
        assert!(queue.may_take());
    }

    #[test]
    fn kills_have_room_when_births_have_none() {
        let lanes = [Lane::Kill, Lane::Clean, Lane::Redeem, Lane::Birth];
        let mut refused = 0;
        for offset in (0..=1 << 20).step_by(BLOCK) {
            let queue = queue(&[]);
            let room = Room { segment_len: 1 << 20, ahead: 0, offset, is_full: false };
            let has_room = lanes.map(|lane| queue.admit(lane, &room, 0).is_ok());
            assert!(has_room.is_sorted_by(|kinder, harder| kinder >= harder), "{has_room:?}");
            refused = refused.max(has_room.iter().filter(|has| !**has).count());
        }
        assert_eq!(refused, 4);
        let full = Room { segment_len: 1 << 20, ahead: 2, offset: 0, is_full: true };
        let has_room = lanes.map(|lane| queue(&[]).admit(lane, &full, 0).is_ok());
        assert_eq!(has_room, [true, true, true, false]);
    }
}
