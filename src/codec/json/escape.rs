//! What stands for what inside a string (RFC 8259 section 7).

/// The characters of the inside of a string that was read already.
pub(super) struct Unescape<'s>(pub(super) &'s str);

impl Iterator for Unescape<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let (character, len) = match self.0.chars().next()? {
            '\\' => escape_at(self.0.as_bytes(), 0)?,
            plain => (plain, plain.len_utf8()),
        };
        self.0 = self.0.get(len..)?;
        Some(character)
    }
}

/// An escape is never shorter than the character it stands for, so writing never overtakes reading.
pub(super) fn unescape_in_place(raw: &mut [u8]) -> usize {
    let (mut read, mut written) = (0, 0);
    while let Some(&byte) = raw.get(read) {
        let mut utf8 = [byte, 0, 0, 0];
        let (len, width) = match escape_at(raw, read) {
            Some((character, len)) => (len, character.encode_utf8(&mut utf8).len()),
            None => (1, 1),
        };
        for byte in utf8.iter().take(width) {
            if let Some(room) = raw.get_mut(written) {
                *room = *byte;
            }
            written += 1;
        }
        read += len;
    }
    raw.get_mut(written..).unwrap_or(&mut []).fill(b' ');
    written
}

/// The character that the escape at `at` stands for and the length of the escape. `None` when there
/// is no escape, or a wrong one; a lone surrogate is wrong (RFC 7493 section 2.1).
pub(super) fn escape_at(text: &[u8], at: usize) -> Option<(char, usize)> {
    if text.get(at) != Some(&b'\\') {
        return None;
    }
    let short = |character| Some((character, 2));
    match text.get(at + 1)? {
        b'"' => short('"'),
        b'\\' => short('\\'),
        b'/' => short('/'),
        b'b' => short('\u{8}'),
        b'f' => short('\u{c}'),
        b'n' => short('\n'),
        b'r' => short('\r'),
        b't' => short('\t'),
        b'u' => {
            let first = hex4(text, at + 2)?;
            if !(0xD800..0xDC00).contains(&first) {
                return Some((char::from_u32(first)?, 6));
            }
            if text.get(at + 6..at + 8) != Some(b"\\u") {
                return None;
            }
            let second = hex4(text, at + 8).filter(|u| (0xDC00..0xE000).contains(u))?;
            let character = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
            Some((char::from_u32(character)?, 12))
        }
        _ => None,
    }
}

fn hex4(text: &[u8], at: usize) -> Option<u32> {
    text.get(at..at + 4)?.iter().try_fold(0, |sum, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        Some(sum << 4 | digit)
    })
}

/// How many bytes at the start of `text` stand for themselves in a string: none of them is a quote,
/// a backslash or a control character. Eight are looked at at once.
pub(in crate::codec) fn plain_len(text: &[u8]) -> usize {
    let (chunks, rest) = text.as_chunks::<8>();
    for (at, chunk) in chunks.iter().enumerate() {
        let special = special_bytes(*chunk);
        if special != 0 {
            return at * 8 + (special.trailing_zeros() / 8) as usize;
        }
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    text.len() - rest.len() + rest.iter().position(special).unwrap_or(rest.len())
}

/// The high bit of each byte that is a quote, a backslash or a control character. Bits above the
/// lowest one set may be false alarms; the lowest one is exact, and it alone is used.
#[inline(always)]
pub(in crate::codec) fn special_bytes(chunk: [u8; 8]) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(chunk);
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let quote = zero(word ^ (ONES * 0x22));
    let backslash = zero(word ^ (ONES * 0x5C));
    let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
    quote | backslash | control
}
