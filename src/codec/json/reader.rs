//! The grammar of RFC 8259, read in one pass; members are noted as they come.

use super::escape::{Unescape, escape_at, plain_len};
use super::{JSON_DEPTH_MAX, JsonError, Kind, Members, Slot, Span};

/// Recursion is bounded by [`JSON_DEPTH_MAX`], so a small stack will do.
pub(super) struct Reader<'t> {
    text: &'t [u8],
    at: usize,
    members: &'t mut Members,
    objects: u16,
    /// Whether a string on the outermost level has an escape.
    escaped: bool,
}

/// Whole words on their way to a [`Slot`]: narrow fields would be read back wider than they were
/// written, which stalls the processor.
struct Value {
    kind: Kind,
    start: usize,
    end: usize,
    escaped: bool,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t [u8], members: &'t mut Members) -> Reader<'t> {
        Reader { text, at: 0, members, objects: 0, escaped: false }
    }

    /// Reads the one object that the text must be, and says whether a string on its outermost level
    /// has an escape. Bytes beyond ASCII are not looked at.
    pub(super) fn document(mut self) -> Result<bool, JsonError> {
        self.skip_space();
        if self.peek() != b'{' {
            return Err(JsonError::Syntax);
        }
        self.object(1)?;
        self.skip_space();
        if self.at == self.text.len() { Ok(self.escaped) } else { Err(JsonError::Syntax) }
    }

    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth > JSON_DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        let object = self.objects;
        self.objects += 1;
        self.at += 1;
        self.skip_space();
        if self.peek() == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.member(object, depth)?;
            self.skip_space();
            match self.next() {
                b',' => self.skip_space(),
                b'}' => return Ok(()),
                _ => return Err(JsonError::Syntax),
            }
        }
    }

    fn member(&mut self, object: u16, depth: usize) -> Result<(), JsonError> {
        let name = self.string()?;
        let slot = Slot {
            object,
            mark: mark(self.text.get(name.start..name.end).unwrap_or(&[])),
            name: Span::new(name.start, name.end),
            name_escaped: name.escaped,
            ..Slot::EMPTY
        };
        if self.members.slots.iter().take(self.members.len).any(|s| same_name(self.text, s, &slot))
        {
            return Err(JsonError::DuplicateMember);
        }
        let index = self.members.len;
        *self.members.slots.get_mut(index).ok_or(JsonError::TooManyMembers)? = slot;
        self.members.len += 1;
        self.skip_space();
        if self.next() != b':' {
            return Err(JsonError::Syntax);
        }
        self.skip_space();
        let value = self.value(depth)?;
        if let Some(slot) = self.members.slots.get_mut(index) {
            slot.kind = value.kind;
            slot.value = Span::new(value.start, value.end);
            slot.value_escaped = value.escaped;
        }
        self.escaped |= object == 0 && (name.escaped || value.escaped);
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth > JSON_DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        self.at += 1;
        self.skip_space();
        if self.peek() == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth)?;
            self.skip_space();
            match self.next() {
                b',' => self.skip_space(),
                b']' => return Ok(()),
                _ => return Err(JsonError::Syntax),
            }
        }
    }

    /// A value inside an object or array of level `depth`.
    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        let start = self.at;
        let kind = match self.peek() {
            b'"' => return self.string(),
            b'{' => {
                self.object(depth + 1)?;
                Kind::Object
            }
            b'[' => {
                self.array(depth + 1)?;
                Kind::Array
            }
            b't' => self.word(b"true", Kind::True)?,
            b'f' => self.word(b"false", Kind::False)?,
            b'n' => self.word(b"null", Kind::Null)?,
            _ => self.number()?,
        };
        Ok(Value { kind, start, end: self.at, escaped: false })
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Result<Kind, JsonError> {
        let end = self.at + word.len();
        if self.text.get(self.at..end) != Some(word) {
            return Err(JsonError::Syntax);
        }
        self.at = end;
        Ok(kind)
    }

    /// RFC 8259 section 6, and within the range of a double (RFC 7493 section 2.2).
    fn number(&mut self) -> Result<Kind, JsonError> {
        let start = self.at;
        let negative = self.peek() == b'-';
        self.at += usize::from(negative);
        let whole = self.digits()?;
        let leading = self.at - whole;
        if whole > 1 && self.text.get(leading) == Some(&b'0') {
            return Err(JsonError::Syntax);
        }
        let mut plain = whole <= 19;
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
            plain = false;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), b'+' | b'-'));
            self.digits()?;
            plain = false;
        }
        let in_range = plain || {
            let text = self.text.get(start..self.at).and_then(|t| std::str::from_utf8(t).ok());
            text.and_then(|t| t.parse::<f64>().ok()).is_some_and(f64::is_finite)
        };
        if in_range { Ok(Kind::Number) } else { Err(JsonError::Syntax) }
    }

    /// Passes over at least one digit and says over how many.
    fn digits(&mut self) -> Result<usize, JsonError> {
        let rest = self.text.get(self.at..).unwrap_or(&[]);
        let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += len;
        if len == 0 { Err(JsonError::Syntax) } else { Ok(len) }
    }

    /// A string, quotes included; start and end are those of what stands between them.
    #[inline]
    fn string(&mut self) -> Result<Value, JsonError> {
        if self.next() != b'"' {
            return Err(JsonError::Syntax);
        }
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_len(self.text.get(self.at..).unwrap_or(&[]));
            match self.peek() {
                b'"' => break,
                b'\\' => {
                    let (_, len) = escape_at(self.text, self.at).ok_or(JsonError::Syntax)?;
                    self.at += len;
                    escaped = true;
                }
                _ => return Err(JsonError::Syntax),
            }
        }
        let end = self.at;
        self.at += 1;
        Ok(Value { kind: Kind::String, start, end, escaped })
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    fn next(&mut self) -> u8 {
        let byte = self.peek();
        self.at += 1;
        byte
    }

    /// The byte at hand, or 0 at the end: NUL stands nowhere in JSON.
    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }
}

fn mark(name: &[u8]) -> u16 {
    let [len, ..] = name.len().to_le_bytes();
    u16::from_le_bytes([len, name.first().copied().unwrap_or(0)])
}

#[inline]
fn same_name(text: &[u8], a: &Slot, b: &Slot) -> bool {
    let escaped = a.name_escaped || b.name_escaped;
    if a.object != b.object || (a.mark != b.mark && !escaped) {
        return false;
    }
    let (raw_a, raw_b) = (a.name.of_bytes(text), b.name.of_bytes(text));
    if !escaped {
        return raw_a == raw_b;
    }
    // A name that is no UTF-8 makes the whole text invalid a little later.
    match (std::str::from_utf8(raw_a), std::str::from_utf8(raw_b)) {
        (Ok(a), Ok(b)) => Unescape(a).eq(Unescape(b)),
        _ => false,
    }
}
