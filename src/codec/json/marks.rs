//! Where strings may end: every quote, backslash and control character of a text, found sixteen
//! bytes at a time before the grammar is read.

use wide::u8x16;

use super::JSON_LEN_MAX;

const WORD: usize = 64;

/// As many words as the longest text has, and a power of two, so that no index needs a check.
const WORDS: usize = (JSON_LEN_MAX / WORD + 1).next_power_of_two();

/// One bit for every byte of a text.
#[derive(Clone, Debug)]
pub(super) struct Marks([u64; WORDS]);

/// What is marked in a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Marked {
    /// Nothing but quotes: no string has an escape.
    Quotes,
    /// Backslashes or control characters, too.
    More,
}

impl Marks {
    pub(super) const fn new() -> Marks {
        Marks([0; WORDS])
    }

    /// Marks the special bytes of `text`, which is at most [`JSON_LEN_MAX`] long, and its end.
    pub(super) fn set(&mut self, text: &[u8]) -> Marked {
        let (blocks, rest) = text.as_chunks::<WORD>();
        let mut others = u8x16::splat(0);
        for (word, block) in self.0.iter_mut().zip(blocks) {
            *word = special(block, &mut others);
        }
        let mut block = [b' '; WORD];
        if let Some(room) = block.get_mut(..rest.len()) {
            room.copy_from_slice(rest);
        }
        self.0[blocks.len() % WORDS] = special(&block, &mut others) | 1 << (rest.len() % WORD);
        if others.to_bitmask() == 0 { Marked::Quotes } else { Marked::More }
    }

    /// The first marked place at or after `at`; the end of the text is the last one.
    #[inline(always)]
    pub(super) fn next(&self, at: usize) -> usize {
        let mut index = at / WORD;
        let mut word = self.0[index % WORDS] & (u64::MAX << (at % WORD));
        while word == 0 {
            index += 1;
            word = self.0[index % WORDS];
        }
        index * WORD + word.trailing_zeros() as usize
    }
}

/// Gives the marked places one after the other: none of them depends on what is read there, so that
/// the processor can look ahead.
pub(super) struct Places {
    index: usize,
    /// The marks of this word that were not given yet.
    word: u64,
}

impl Places {
    pub(super) fn of(marks: &Marks) -> Places {
        Places { index: 0, word: marks.0[0] }
    }

    /// The next place. After the end of the text there is none to ask for.
    #[inline(always)]
    pub(super) fn next(&mut self, marks: &Marks) -> usize {
        while self.word == 0 {
            self.index += 1;
            self.word = marks.0[self.index % WORDS];
        }
        let place = self.index * WORD + self.word.trailing_zeros() as usize;
        self.word &= self.word - 1;
        place
    }
}

/// One bit for every special byte; those that are no quotes are added to `others`.
#[inline(always)]
fn special(block: &[u8; WORD], others: &mut u8x16) -> u64 {
    let [quote, backslash, control] = [b'"', b'\\', 0x1F].map(u8x16::splat);
    let mut word = 0;
    for (at, sixteen) in block.as_chunks::<16>().0.iter().enumerate() {
        let bytes = u8x16::from(*sixteen);
        let other = bytes.simd_eq(backslash) | bytes.simd_eq(bytes.min(control));
        *others |= other;
        word |= u64::from((bytes.simd_eq(quote) | other).to_bitmask()) << (16 * at);
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place_is_marked_if_it_is_special() {
        for byte in 0..=u8::MAX {
            for at in 0..WORD {
                let mut block = [b'x'; WORD];
                block[at] = byte;
                block[(at + 7) % WORD] = 0xC3;
                let wanted = u64::from(matches!(byte, b'"' | b'\\' | 0..0x20)) << at;
                let mut others = u8x16::splat(0);
                assert_eq!(special(&block, &mut others), wanted, "{byte}, {at}");
                assert_eq!(others.to_bitmask() != 0, wanted != 0 && byte != b'"', "{byte}, {at}");
            }
        }
    }

    #[test]
    fn the_end_is_marked_at_every_length() {
        let mut marks = Marks::new();
        for len in (0..=JSON_LEN_MAX).rev() {
            let mut text = vec![b'x'; len];
            assert_eq!(marks.set(&text), Marked::Quotes);
            assert_eq!(marks.next(0), len);
            if let Some(last) = text.last_mut() {
                *last = b'"';
                marks.set(&text);
                assert_eq!((marks.next(0), marks.next(len)), (len - 1, len));
            }
        }
    }
}
