//! The grammar of RFC 8259, read in one pass; members are noted as they come.
//!
//! Places are passed by value and returned, so that they stay in registers.

use super::escape::escape_at;
use super::marks::Places;
use super::members::{Found, Kind, Members, Slot};
use super::{JSON_DEPTH_MAX, JsonError};

/// `PLAIN` texts have no backslash and no control character, so that every mark is a quote or the
/// end. Recursion is bounded by [`JSON_DEPTH_MAX`], so a small stack will do.
pub(super) struct Reader<'t, const PLAIN: bool> {
    text: &'t [u8],
    members: &'t mut Members,
    /// The quotes that were not read yet, in plain texts.
    quotes: Places,
    objects: u64,
    escapes: Escapes,
}

/// Which strings have escapes.
#[derive(Clone, Copy, Default)]
pub(super) struct Escapes {
    /// Some name, at any level.
    pub(super) in_names: bool,
    /// A name or a value on the outermost level.
    pub(super) outermost: bool,
}

struct Value {
    kind: Kind,
    start: usize,
    end: usize,
    /// Where what follows it starts.
    next: usize,
    number: u64,
    escaped: bool,
}

impl<'t, const PLAIN: bool> Reader<'t, PLAIN> {
    pub(super) fn new(text: &'t [u8], members: &'t mut Members) -> Reader<'t, PLAIN> {
        let quotes = Places::of(&members.marks);
        Reader { text, members, quotes, objects: 0, escapes: Escapes::default() }
    }

    /// Reads the one object that the text must be. Bytes beyond ASCII are not looked at.
    pub(super) fn document(mut self) -> Result<Escapes, JsonError> {
        let at = self.skip_space(0);
        if self.byte(at) != b'{' {
            return Err(JsonError::Syntax);
        }
        let at = self.object(at, 1)?;
        let at = self.skip_space(at);
        if at != self.text.len() {
            return Err(JsonError::Syntax);
        }
        if self.escapes.in_names {
            self.members.refuse_same_meaning(self.text)?;
        }
        Ok(self.escapes)
    }

    /// The object whose brace is at `at`; returns the place after it.
    fn object(&mut self, at: usize, depth: usize) -> Result<usize, JsonError> {
        if depth > JSON_DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        let object = self.objects;
        self.objects += 1;
        let mut at = self.skip_space(at + 1);
        if self.byte(at) == b'}' {
            return Ok(at + 1);
        }
        loop {
            at = self.member(at, object, depth)?;
            if self.byte(at) <= b' ' {
                at = self.skip_more_space(at);
            }
            match self.byte(at) {
                b',' if self.byte(at + 1) == b'"' => at += 1,
                b',' => at = self.skip_space(at + 1),
                b'}' => return Ok(at + 1),
                _ => return Err(JsonError::Syntax),
            }
        }
    }

    /// The member that starts at `at`; returns the place after it. What nests in its value is noted
    /// before it.
    #[inline(always)]
    fn member(&mut self, at: usize, object: u64, depth: usize) -> Result<usize, JsonError> {
        if self.byte(at) != b'"' {
            return Err(JsonError::Syntax);
        }
        let name = self.string(at + 1)?;
        // Most writers put no space around a colon, and most values are strings.
        let value = match self.three(name.end) {
            [_, b':', b'"'] => self.string(name.end + 3)?,
            [_, b':', b'0'..=b'9'] => self.number(name.end + 2)?,
            _ => self.value_of(name.next, depth)?,
        };
        let found =
            |value: &Value| Found { start: value.start, end: value.end, escaped: value.escaped };
        let (name_at, value_at) = (found(&name), found(&value));
        let slot = Slot::new(self.text, object, name_at, value_at, value.kind, value.number);
        self.members.add(self.text, slot)?;
        if name.escaped || value.escaped {
            self.escapes.in_names |= name.escaped;
            self.escapes.outermost |= object == 0;
        }
        Ok(value.next)
    }

    /// What follows a name that ends before `at`.
    #[inline(never)]
    fn value_of(&mut self, at: usize, depth: usize) -> Result<Value, JsonError> {
        let at = self.skip_space(at);
        if self.byte(at) != b':' {
            return Err(JsonError::Syntax);
        }
        self.value(self.skip_space(at + 1), depth)
    }

    /// A value inside an object or array of level `depth`.
    fn value(&mut self, at: usize, depth: usize) -> Result<Value, JsonError> {
        match self.byte(at) {
            b'"' => self.string(at + 1),
            b'0'..=b'9' => self.number(at),
            _ => self.other(at, depth),
        }
    }

    fn other(&mut self, at: usize, depth: usize) -> Result<Value, JsonError> {
        let (kind, end) = match self.byte(at) {
            b'{' => (Kind::Object, self.object(at, depth + 1)?),
            b'[' => (Kind::Array, self.array(at, depth + 1)?),
            b't' => (Kind::True, self.word(at, b"true")?),
            b'f' => (Kind::False, self.word(at, b"false")?),
            b'n' => (Kind::Null, self.word(at, b"null")?),
            _ => (Kind::Number, self.any_number(at)?),
        };
        Ok(Value { kind, start: at, end, next: end, number: 0, escaped: false })
    }

    fn array(&mut self, at: usize, depth: usize) -> Result<usize, JsonError> {
        if depth > JSON_DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        let mut at = self.skip_space(at + 1);
        if self.byte(at) == b']' {
            return Ok(at + 1);
        }
        loop {
            at = self.value(at, depth)?.next;
            at = self.skip_space(at);
            match self.byte(at) {
                b',' => at = self.skip_space(at + 1),
                b']' => return Ok(at + 1),
                _ => return Err(JsonError::Syntax),
            }
        }
    }

    fn word(&self, at: usize, word: &[u8]) -> Result<usize, JsonError> {
        let end = at + word.len();
        if self.text.get(at..end) == Some(word) { Ok(end) } else { Err(JsonError::Syntax) }
    }

    /// A number that is digits alone, and then its value; any other one takes longer.
    #[inline(always)]
    fn number(&self, at: usize) -> Result<Value, JsonError> {
        let (mut number, mut end) = match self.text.get(at..).and_then(|rest| rest.first_chunk()) {
            Some(eight) => eight_digits(*eight).map_or((0, at), |number| (number, at + 8)),
            None => (0, at),
        };
        loop {
            let digit = self.byte(end).wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
            end += 1;
        }
        let leading = end - at > 1 && self.byte(at) == b'0';
        // Nineteen digits always fit.
        let mut kind = Kind::Integer;
        if end - at > 19 || leading || matches!(self.byte(end), b'.' | b'e' | b'E') {
            (kind, end) = (Kind::Number, self.any_number(at)?);
        }
        Ok(Value { kind, start: at, end, next: end, number, escaped: false })
    }

    /// RFC 8259 section 6, and within the range of a double (RFC 7493 section 2.2).
    #[inline(never)]
    fn any_number(&self, start: usize) -> Result<usize, JsonError> {
        let whole = start + usize::from(self.byte(start) == b'-');
        let mut at = self.digits(whole)?;
        if at - whole > 1 && self.byte(whole) == b'0' {
            return Err(JsonError::Syntax);
        }
        if self.byte(at) == b'.' {
            at = self.digits(at + 1)?;
        }
        if matches!(self.byte(at), b'e' | b'E') {
            at += 1;
            at = self.digits(at + usize::from(matches!(self.byte(at), b'+' | b'-')))?;
        }
        let text = self.text.get(start..at).and_then(|t| std::str::from_utf8(t).ok());
        let in_range = text.and_then(|t| t.parse::<f64>().ok()).is_some_and(f64::is_finite);
        if in_range { Ok(at) } else { Err(JsonError::Syntax) }
    }

    /// Passes over at least one digit.
    fn digits(&self, at: usize) -> Result<usize, JsonError> {
        let rest = self.text.get(at..).unwrap_or(&[]);
        let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if len == 0 { Err(JsonError::Syntax) } else { Ok(at + len) }
    }

    /// What follows a quote at `at - 1`, up to the quote that ends it.
    #[inline(always)]
    fn string(&mut self, start: usize) -> Result<Value, JsonError> {
        let mut escaped = false;
        let end = if PLAIN {
            // Every quote is read once and in turn: this one is at `start - 1`.
            self.quotes.next(&self.members.marks);
            self.quotes.next(&self.members.marks)
        } else {
            let end = self.members.marks.next(start);
            escaped = self.byte(end) != b'"';
            if escaped { self.escaped_string(end)? } else { end }
        };
        if end >= self.text.len() {
            return Err(JsonError::Syntax);
        }
        Ok(Value { kind: Kind::String, start, end, next: end + 1, number: 0, escaped })
    }

    /// Where the string ends that has its first special byte, no quote, at `at`.
    #[cold]
    fn escaped_string(&self, mut at: usize) -> Result<usize, JsonError> {
        loop {
            match self.byte(at) {
                b'"' => return Ok(at),
                b'\\' => at += escape_at(self.text, at).ok_or(JsonError::Syntax)?.1,
                _ => return Err(JsonError::Syntax),
            }
            at = self.members.marks.next(at);
        }
    }

    #[inline(always)]
    fn skip_space(&self, at: usize) -> usize {
        if self.byte(at) > b' ' { at } else { self.skip_more_space(at) }
    }

    #[inline(never)]
    fn skip_more_space(&self, mut at: usize) -> usize {
        while matches!(self.byte(at), b' ' | b'\t' | b'\n' | b'\r') {
            at += 1;
        }
        at
    }

    /// The bytes at `at`, or zeros at the end.
    #[inline(always)]
    fn three(&self, at: usize) -> [u8; 3] {
        self.text.get(at..).and_then(|rest| rest.first_chunk().copied()).unwrap_or([0; 3])
    }

    /// The byte at `at`, or 0 at the end: NUL stands nowhere in JSON.
    #[inline(always)]
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }
}

/// The number that eight digits write.
#[inline(always)]
fn eight_digits(text: [u8; 8]) -> Option<u64> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(text);
    // A digit has 3 as its high half, also after 6 was added.
    let halves = (word | word.wrapping_add(ONES * 6)) & (ONES * 0xF0);
    if halves != ONES * 0x30 || word & (ONES * 0xF0) != ONES * 0x30 {
        return None;
    }
    // Neighbours are joined: digits to pairs, pairs to fours, fours to eight.
    let pairs = (word & (ONES * 0x0F)).wrapping_mul(1 + (10 << 8)) >> 8 & 0x00FF_00FF_00FF_00FF;
    let fours = pairs.wrapping_mul(1 + (100 << 16)) >> 16 & 0x0000_FFFF_0000_FFFF;
    Some(fours.wrapping_mul(1 + (10_000 << 32)) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_digits_are_a_number_and_nothing_else_is() {
        for number in (0..100_000_000u64).step_by(99_991) {
            let text = format!("{number:08}");
            assert_eq!(text.as_bytes().first_chunk().copied().and_then(eight_digits), Some(number));
        }
        for byte in 0..=u8::MAX {
            for at in 0..8 {
                let mut text = *b"12345678";
                text[at] = byte;
                assert_eq!(eight_digits(text).is_some(), byte.is_ascii_digit(), "{byte} at {at}");
            }
        }
    }
}
