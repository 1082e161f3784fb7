//! The members of a text as they were found: a fixed table, searched by the first bytes of a name.

use std::fmt;

use super::escape::{Unescape, unescape_in_place};
use super::marks::{Marked, Marks};
use super::{JSON_MEMBERS_MAX, JsonError};

/// How many places the table of names has.
const PLACES: usize = 64;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    /// At most nineteen digits and nothing else.
    Integer,
    Number,
    True,
    False,
    Null,
    Object,
    Array,
}

impl Kind {
    const ALL: [Kind; 8] = [
        Kind::String,
        Kind::Integer,
        Kind::Number,
        Kind::True,
        Kind::False,
        Kind::Null,
        Kind::Object,
        Kind::Array,
    ];
}

/// One member.
///
/// Whole words, written once: narrow fields would be read back wider than they were written, which
/// stalls the processor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// The first eight bytes of the name.
    head: u64,
    /// The value of an integer.
    number: u64,
    /// Start and end of the name, start and end of the value, sixteen bits each.
    spans: u64,
    /// Object, kind, escapes.
    about: u64,
}

/// A string or another value between two places of the text.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) escaped: bool,
}

const NAME_ESCAPED: u64 = 1 << 8;
const VALUE_ESCAPED: u64 = 1 << 9;
const OBJECT_AT: u32 = 16;

impl Slot {
    const EMPTY: Slot = Slot { head: 0, number: 0, spans: 0, about: 0 };

    /// `object` is counted from the outermost, 0. Places are below
    /// [`JSON_LEN_MAX`](super::JSON_LEN_MAX), so they fit.
    #[inline(always)]
    pub(super) fn new(
        text: &[u8],
        object: u64,
        name: Found,
        value: Found,
        kind: Kind,
        number: u64,
    ) -> Slot {
        let spans = name.start as u64
            | (name.end as u64) << 16
            | (value.start as u64) << 32
            | (value.end as u64) << 48;
        let about = kind as u64
            | (u64::from(name.escaped) * NAME_ESCAPED)
            | (u64::from(value.escaped) * VALUE_ESCAPED)
            | object << OBJECT_AT;
        Slot { head: head_at(text, name.start, name.end), number, spans, about }
    }

    #[inline(always)]
    fn object(&self) -> u64 {
        self.about >> OBJECT_AT
    }

    #[inline(always)]
    pub(super) fn kind(&self) -> Kind {
        Kind::ALL[(self.about & 7) as usize]
    }

    #[inline(always)]
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    #[inline(always)]
    const fn place_at(&self, bits: u32) -> usize {
        (self.spans >> bits & 0xFFFF) as usize
    }

    #[inline(always)]
    const fn name(&self) -> std::ops::Range<usize> {
        self.place_at(0)..self.place_at(16)
    }

    #[inline(always)]
    const fn value(&self) -> std::ops::Range<usize> {
        self.place_at(32)..self.place_at(48)
    }

    #[inline(always)]
    pub(super) fn name_of<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.name()).unwrap_or("")
    }

    #[inline(always)]
    pub(super) fn value_of<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.value()).unwrap_or("")
    }

    /// Whether it is the member `name` of the outermost object; `head` is the head of the name.
    #[inline(always)]
    fn is_outermost(&self, head: u64, name: &str, text: &str) -> bool {
        let range = self.name();
        self.head == head
            && range.end - range.start == name.len()
            && self.object() == 0
            && (name.len() <= 8 || self.name_of(text) == name)
    }

    fn name_bytes<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        text.get(self.name()).unwrap_or(&[])
    }

    /// Whether both are members of one object whose names are equal as they stand.
    fn is_named_as(&self, other: &Slot, text: &[u8]) -> bool {
        self.head == other.head
            && self.object() == other.object()
            && self.name_bytes(text) == other.name_bytes(text)
    }

    /// Whether both are members of one object whose names mean the same.
    fn means_as(&self, other: &Slot, text: &[u8]) -> bool {
        if (self.about | other.about) & NAME_ESCAPED == 0 || self.object() != other.object() {
            return false;
        }
        // A name that is no UTF-8 makes the whole text invalid a little later.
        let name = |slot: &Slot| std::str::from_utf8(slot.name_bytes(text)).ok().map(Unescape);
        name(self).zip(name(other)).is_some_and(|(one, two)| one.eq(two))
    }
}

/// Reusable room for the members of one text.
#[derive(Clone)]
pub struct Members {
    slots: [Slot; JSON_MEMBERS_MAX],
    len: usize,
    /// For each place of a name, one more than the index of the first outermost member that has it.
    places: [u8; PLACES],
    pub(super) marks: Marks,
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Members({})", self.len)
    }
}

impl Default for Members {
    fn default() -> Members {
        Members::new()
    }
}

impl Members {
    /// Room for [`JSON_MEMBERS_MAX`] members.
    #[must_use]
    pub const fn new() -> Members {
        Members {
            slots: [Slot::EMPTY; JSON_MEMBERS_MAX],
            len: 0,
            places: [0; PLACES],
            marks: Marks::new(),
        }
    }

    pub(super) fn clear(&mut self, text: &[u8]) -> Marked {
        self.len = 0;
        self.places = [0; PLACES];
        self.marks.set(text)
    }

    /// Notes a member.
    #[inline(always)]
    pub(super) fn add(&mut self, text: &[u8], slot: Slot) -> Result<(), JsonError> {
        let index = self.len;
        *self.slots.get_mut(index).ok_or(JsonError::TooManyMembers)? = slot;
        let place = place_of(slot.head);
        if self.places[place] == 0 && slot.object() == 0 {
            self.places[place] = numbered(index);
        } else {
            self.refuse_twice(text, index)?;
        }
        self.len += 1;
        Ok(())
    }

    /// Compares a name with those before it, as they stand in the text.
    #[inline(never)]
    fn refuse_twice(&self, text: &[u8], index: usize) -> Result<(), JsonError> {
        let Some((slot, before)) = self.slots.get(..=index).and_then(<[Slot]>::split_last) else {
            return Ok(());
        };
        match before.iter().any(|old| old.is_named_as(slot, text)) {
            true => Err(JsonError::DuplicateMember),
            false => Ok(()),
        }
    }

    /// Compares names with escapes with all others, as they are meant.
    #[cold]
    pub(super) fn refuse_same_meaning(&self, text: &[u8]) -> Result<(), JsonError> {
        let slots = self.slots.get(..self.len).unwrap_or(&[]);
        let twice = |(at, slot): (usize, &Slot)| slots[..at].iter().any(|s| s.means_as(slot, text));
        if slots.iter().enumerate().any(twice) { Err(JsonError::DuplicateMember) } else { Ok(()) }
    }

    /// Unescapes names and strings of the outermost object; spaces fill what becomes free.
    #[cold]
    pub(super) fn unescape_outermost(&mut self, text: &mut [u8]) {
        self.places = [0; PLACES];
        for (index, slot) in self.slots.iter_mut().take(self.len).enumerate() {
            if slot.object() != 0 {
                continue;
            }
            for (flag, range, end_at) in
                [(NAME_ESCAPED, slot.name(), 16), (VALUE_ESCAPED, slot.value(), 48)]
            {
                if slot.about & flag != 0
                    && let Some(raw) = text.get_mut(range.clone())
                {
                    let end = range.start + unescape_in_place(raw);
                    slot.spans = slot.spans & !(0xFFFF << end_at) | (end as u64) << end_at;
                }
            }
            slot.head = head_of(slot.name_bytes(text));
            let place = &mut self.places[place_of(slot.head)];
            if *place == 0 {
                *place = numbered(index);
            }
        }
    }

    /// The outermost member of that name.
    #[inline(always)]
    pub(super) fn find(&self, text: &str, name: &str) -> Option<&Slot> {
        let head = head_of(name.as_bytes());
        let first = usize::from(self.places[place_of(head)]).checked_sub(1)?;
        let slot = self.slots.get(first)?;
        match slot.is_outermost(head, name, text) {
            true => Some(slot),
            false => self.find_after(first, head, name, text),
        }
    }

    /// Another name took the place first.
    #[cold]
    fn find_after(&self, first: usize, head: u64, name: &str, text: &str) -> Option<&Slot> {
        self.slots.get(first..self.len)?.iter().find(|slot| slot.is_outermost(head, name, text))
    }

    /// The members of the outermost object in the order of the text.
    pub(super) fn outermost(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().take(self.len).filter(|slot| slot.object() == 0)
    }
}

/// The first eight bytes of a name, or all of it.
#[inline(always)]
const fn head_of(name: &[u8]) -> u64 {
    let mut head = 0;
    let mut at = 0;
    while at < 8 && at < name.len() {
        head |= (name[at] as u64) << (8 * at);
        at += 1;
    }
    head
}

/// The same of the name at `start..end` of `text`.
#[inline(always)]
fn head_at(text: &[u8], start: usize, end: usize) -> u64 {
    match text.get(start..).and_then(|rest| rest.first_chunk()) {
        Some(eight) if end - start >= 8 => u64::from_le_bytes(*eight),
        Some(eight) => u64::from_le_bytes(*eight) & !(u64::MAX << (8 * (end - start))),
        None => head_of(text.get(start..end).unwrap_or(&[])),
    }
}

/// The place in the table of a name that starts so.
#[inline(always)]
const fn place_of(head: u64) -> usize {
    // An odd constant carries every byte into the highest bits; this one keeps usual names apart.
    (head.wrapping_mul(0x1E2F_EB89_414C_343D) >> 58) as usize % PLACES
}

/// Indexes are below [`JSON_MEMBERS_MAX`].
#[allow(clippy::cast_possible_truncation)]
const fn numbered(index: usize) -> u8 {
    index as u8 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_starts_the_same_wherever_it_stands() {
        for len in 0..20 {
            let name = &b"abcdefghijklmnopqrst"[..len];
            for after in 0..10 {
                let text = [b"{\"", name, &vec![b'"'; after]].concat();
                assert_eq!(head_at(&text, 2, 2 + len), head_of(name), "{len}, {after}");
            }
        }
    }

    #[test]
    fn a_slot_keeps_what_it_was_given() {
        let text = [b'n'; 8_192];
        let name = Found { start: 8_000, end: 8_100, escaped: true };
        let value = Found { start: 8_110, end: 8_191, escaped: false };
        for kind in Kind::ALL {
            let slot = Slot::new(&text, 63, name, value, kind, u64::MAX);
            assert_eq!((slot.object(), slot.kind(), slot.number()), (63, kind, u64::MAX));
            assert_eq!((slot.name(), slot.value()), (8_000..8_100, 8_110..8_191));
            assert_eq!(slot.about & (NAME_ESCAPED | VALUE_ESCAPED), NAME_ESCAPED);
        }
    }

    #[test]
    fn usual_names_have_places_of_their_own() {
        let mut places = [
            "iss",
            "aud",
            "client_id",
            "sub",
            "scope",
            "iat",
            "nbf",
            "exp",
            "jti",
            "sid",
            "mtg",
            "auth_time",
            "nonce",
            "acr",
            "amr",
            "azp",
            "at_hash",
            "c_hash",
            "email",
            "name",
        ]
        .map(|name| place_of(head_of(name.as_bytes())));
        places.sort_unstable();
        assert!(places.windows(2).all(|two| two[0] != two[1]), "{places:?}");
    }
}
