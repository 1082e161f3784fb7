//! A strict JSON reader over a caller's buffer: RFC 8259 within I-JSON (RFC 7493), bounded in depth
//! and members, duplicate members refused at every depth, nothing allocated.
//!
//! Two readers that disagree on a duplicate or on an escaped spelling believe different tokens; a
//! text on which readers could disagree is therefore no text at all.

use std::borrow::Cow;
use std::fmt;

/// The longest text, in bytes.
pub const JSON_LEN_MAX: usize = 8_192;
/// How deep objects and arrays may nest; the outermost object is the first level.
pub const JSON_DEPTH_MAX: usize = 16;
/// The most members in all objects of one text together.
pub const JSON_MEMBERS_MAX: usize = 64;

/// Why a text was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonError {
    /// It is longer than [`JSON_LEN_MAX`].
    TooLong,
    /// It is no UTF-8.
    NotUtf8,
    /// It is no JSON object, or has something before or after it.
    Syntax,
    /// It nests deeper than [`JSON_DEPTH_MAX`].
    TooDeep,
    /// It has more than [`JSON_MEMBERS_MAX`] members.
    TooManyMembers,
    /// One of its objects has two members of one name, however spelt.
    DuplicateMember,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JsonError::TooLong => "the JSON text is too long",
            JsonError::NotUtf8 => "the JSON text is no UTF-8",
            JsonError::Syntax => "the text is no JSON object",
            JsonError::TooDeep => "the JSON text nests too deep",
            JsonError::TooManyMembers => "the JSON text has too many members",
            JsonError::DuplicateMember => "a JSON object has a member twice",
        })
    }
}

impl std::error::Error for JsonError {}

/// An object that was read whole. It borrows the text and the room of [`Object::read`].
#[derive(Clone, Copy, Debug)]
pub struct Object<'s> {
    text: &'s str,
    slots: &'s [Slot],
}

impl<'s> Object<'s> {
    /// Reads the one object that `text` must be. Escaped strings on the outermost level are
    /// unescaped in place, which is why `text` is borrowed mutably.
    ///
    /// # Errors
    /// [`JsonError`], with the first thing that is wrong.
    pub fn read(text: &'s mut [u8], room: &'s mut Members) -> Result<Object<'s>, JsonError> {
        if text.len() > JSON_LEN_MAX {
            return Err(JsonError::TooLong);
        }
        room.len = 0;
        let mut reader = Reader { text, at: 0, members: room, objects: 0, escaped: false };
        reader.document()?;
        let escaped = reader.escaped;
        let slots = room.slots.get_mut(..room.len).unwrap_or(&mut []);
        if escaped {
            std::str::from_utf8(text).map_err(|_| JsonError::NotUtf8)?;
            unescape_outermost(text, slots);
        }
        let text = std::str::from_utf8(text).map_err(|_| JsonError::NotUtf8)?;
        Ok(Object { text, slots })
    }

    /// The value of the member `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<RawValue<'s>> {
        self.members().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The members in the order of the text.
    pub fn members(&self) -> impl Iterator<Item = (&'s str, RawValue<'s>)> + use<'s> {
        let text = self.text;
        self.slots.iter().filter(|slot| slot.object == 0).map(move |slot| {
            let value = RawValue { text: slot.value.of(text), kind: slot.kind };
            (slot.name.of(text), value)
        })
    }
}

/// Reusable room for the members of one text.
#[derive(Clone, Debug)]
pub struct Members {
    slots: [Slot; JSON_MEMBERS_MAX],
    len: usize,
}

impl Members {
    /// Room for [`JSON_MEMBERS_MAX`] members.
    #[must_use]
    pub const fn new() -> Members {
        Members { slots: [Slot::EMPTY; JSON_MEMBERS_MAX], len: 0 }
    }
}

impl Default for Members {
    fn default() -> Members {
        Members::new()
    }
}

/// The value of a member, not yet interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawValue<'s> {
    /// A string without its quotes and unescaped; anything else as it stands in the text.
    text: &'s str,
    kind: Kind,
}

impl<'s> RawValue<'s> {
    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&'s str> {
        (self.kind == Kind::String).then_some(self.text)
    }

    /// The value of a number that is written as digits alone. `1.0`, `1e3` and `-0` are none.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        if self.kind != Kind::Number {
            return None;
        }
        self.text.bytes().try_fold(0u64, |sum, byte| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            sum.checked_mul(10)?.checked_add(digit)
        })
    }

    /// The value of `true` and `false`.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self.kind {
            Kind::True => Some(true),
            Kind::False => Some(false),
            _ => None,
        }
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.kind == Kind::Null
    }

    /// The JSON text of anything but a string.
    #[must_use]
    pub fn as_json(&self) -> Option<&'s str> {
        (self.kind != Kind::String).then_some(self.text)
    }

    /// The elements of an array whose elements are all strings; `None` for anything else. Only an
    /// element with an escape is allocated.
    #[must_use]
    pub fn as_strings(&self) -> Option<impl Iterator<Item = Cow<'s, str>> + use<'s>> {
        let strings = RawStrings::of(self)?;
        strings.clone().all(|element| element.is_some()).then(|| {
            strings.flatten().map(|raw| {
                if raw.contains('\\') { Cow::Owned(Unescape(raw).collect()) } else { raw.into() }
            })
        })
    }

    /// Whether it is an array of strings with `wanted` among them: nothing is allocated.
    pub(super) fn strings_have(&self, wanted: &str) -> bool {
        RawStrings::of(self).is_some_and(|strings| {
            strings.flatten().any(|raw| raw == wanted || Unescape(raw).eq(wanted.chars()))
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    String,
    Number,
    True,
    False,
    Null,
    Object,
    Array,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: u16,
    end: u16,
}

impl Span {
    const EMPTY: Span = Span { start: 0, end: 0 };

    /// Positions are below [`JSON_LEN_MAX`], so they fit.
    #[allow(clippy::cast_possible_truncation)]
    const fn new(start: usize, end: usize) -> Span {
        Span { start: start as u16, end: end as u16 }
    }

    const fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    fn of(self, text: &str) -> &str {
        text.get(self.range()).unwrap_or("")
    }

    fn of_bytes(self, text: &[u8]) -> &[u8] {
        text.get(self.range()).unwrap_or(&[])
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The object that the member belongs to, counted from the outermost, 0.
    object: u16,
    name: Span,
    value: Span,
    kind: Kind,
    name_escaped: bool,
    value_escaped: bool,
}

impl Slot {
    const EMPTY: Slot = Slot {
        object: 0,
        name: Span::EMPTY,
        value: Span::EMPTY,
        kind: Kind::Null,
        name_escaped: false,
        value_escaped: false,
    };
}

/// Recursion is bounded by [`JSON_DEPTH_MAX`], so a small stack will do.
struct Reader<'t> {
    text: &'t [u8],
    at: usize,
    members: &'t mut Members,
    objects: u16,
    /// Whether a string on the outermost level has an escape.
    escaped: bool,
}

struct Value {
    kind: Kind,
    span: Span,
    escaped: bool,
}

impl Reader<'_> {
    fn document(&mut self) -> Result<(), JsonError> {
        self.skip_space();
        if self.peek() != b'{' {
            return Err(JsonError::Syntax);
        }
        self.object(1)?;
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { Err(JsonError::Syntax) }
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
        let slot = Slot { object, name: name.span, name_escaped: name.escaped, ..Slot::EMPTY };
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
            slot.value = value.span;
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
        Ok(Value { kind, span: Span::new(start, self.at), escaped: false })
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

    /// A string, quotes included; the span is what stands between them.
    fn string(&mut self) -> Result<Value, JsonError> {
        if self.next() != b'"' {
            return Err(JsonError::Syntax);
        }
        let start = self.at;
        let mut escaped = false;
        loop {
            self.skip_plain();
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
        let span = Span::new(start, self.at);
        self.at += 1;
        Ok(Value { kind: Kind::String, span, escaped })
    }

    /// Passes over bytes that stand for themselves in a string, eight at a time.
    fn skip_plain(&mut self) {
        while let Some(chunk) = self.text.get(self.at..).and_then(<[u8]>::first_chunk::<8>) {
            let special = special_bytes(*chunk);
            if special != 0 {
                self.at += (special.trailing_zeros() / 8) as usize;
                return;
            }
            self.at += 8;
        }
        while !matches!(self.peek(), b'"' | b'\\' | 0..0x20) {
            self.at += 1;
        }
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

/// The raw elements of an array, `None` for each that is no string. The array was read already, so
/// its syntax is right.
#[derive(Clone)]
struct RawStrings<'s>(&'s str);

impl<'s> RawStrings<'s> {
    fn of(value: &RawValue<'s>) -> Option<RawStrings<'s>> {
        if value.kind != Kind::Array {
            return None;
        }
        let inside = value.text.strip_prefix('[')?.strip_suffix(']')?;
        Some(RawStrings(inside.trim_ascii()))
    }
}

impl<'s> Iterator for RawStrings<'s> {
    type Item = Option<&'s str>;

    fn next(&mut self) -> Option<Option<&'s str>> {
        if self.0.is_empty() {
            return None;
        }
        let Some(raw) = self.0.strip_prefix('"') else {
            self.0 = "";
            return Some(None);
        };
        let mut escape = false;
        let end = raw.bytes().position(|byte| {
            let quote = byte == b'"' && !escape;
            escape = byte == b'\\' && !escape;
            quote
        });
        let (element, rest) = raw.split_at_checked(end.unwrap_or(raw.len()))?;
        let rest = rest.strip_prefix('"').unwrap_or("").trim_ascii_start();
        self.0 = rest.strip_prefix(',').unwrap_or("").trim_ascii_start();
        Some(Some(element))
    }
}

/// The characters of the inside of a string that was read already.
struct Unescape<'s>(&'s str);

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

fn same_name(text: &[u8], a: &Slot, b: &Slot) -> bool {
    if a.object != b.object {
        return false;
    }
    let (raw_a, raw_b) = (a.name.of_bytes(text), b.name.of_bytes(text));
    if !a.name_escaped && !b.name_escaped {
        return raw_a == raw_b;
    }
    // A name that is no UTF-8 makes the whole text invalid a little later.
    match (std::str::from_utf8(raw_a), std::str::from_utf8(raw_b)) {
        (Ok(a), Ok(b)) => Unescape(a).eq(Unescape(b)),
        _ => false,
    }
}

/// Unescapes names and strings of the outermost object; spaces fill what becomes free.
fn unescape_outermost(text: &mut [u8], slots: &mut [Slot]) {
    for slot in slots.iter_mut().filter(|slot| slot.object == 0) {
        for (escaped, span) in
            [(slot.name_escaped, &mut slot.name), (slot.value_escaped, &mut slot.value)]
        {
            if escaped && let Some(raw) = text.get_mut(span.range()) {
                let len = unescape_in_place(raw);
                *span = Span::new(span.range().start, span.range().start + len);
            }
        }
    }
}

/// An escape is never shorter than the character it stands for, so writing never overtakes reading.
fn unescape_in_place(raw: &mut [u8]) -> usize {
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
fn escape_at(text: &[u8], at: usize) -> Option<(char, usize)> {
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

/// The high bit of each byte that is a quote, a backslash or a control character. Bits above the
/// lowest one set may be false alarms; the lowest one is exact, and it alone is used.
fn special_bytes(chunk: [u8; 8]) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(chunk);
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let quote = zero(word ^ (ONES * 0x22));
    let backslash = zero(word ^ (ONES * 0x5C));
    let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
    quote | backslash | control
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> Option<JsonError> {
        Object::read(&mut text.as_bytes().to_vec(), &mut Members::new()).err()
    }

    #[test]
    fn values_are_told_apart() -> Result<(), JsonError> {
        let mut text = br#" {"s":"a\u00fc\ud83d\ude00\n","n" : 17,"t":true,"f":false,"z":null,
            "o":{"s":"\u0041"},"a":["x","\u0079\"",""],"m":["x",1],"e":[ ],"big":1.5e3} "#
            .to_vec();
        let mut room = Members::new();
        let object = Object::read(&mut text, &mut room)?;
        let get = |name| object.get(name).ok_or(JsonError::Syntax);
        assert_eq!(get("s")?.as_str(), Some("aü😀\n"));
        assert_eq!(get("n")?.as_u64(), Some(17));
        assert_eq!((get("t")?.as_bool(), get("f")?.as_bool()), (Some(true), Some(false)));
        assert!(get("z")?.is_null());
        assert_eq!(get("o")?.as_json(), Some(r#"{"s":"\u0041"}"#));
        let strings: Option<Vec<_>> = get("a")?.as_strings().map(Iterator::collect);
        assert_eq!(strings, Some(vec!["x".into(), "y\"".into(), "".into()]));
        assert!(get("a")?.strings_have("y\"") && !get("a")?.strings_have("y"));
        assert!(get("m")?.as_strings().is_none() && get("o")?.as_strings().is_none());
        assert_eq!(get("e")?.as_strings().map(Iterator::count), Some(0));
        assert_eq!(get("big")?.as_u64(), None);
        assert!(object.get("u").is_none());
        Ok(())
    }

    #[test]
    fn duplicates_are_seen_at_every_depth_and_spelling() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"alg":1,"\u0061lg":1}"#,
            r#"{"\u0061lg":1,"a\u006cg":1}"#,
            r#"{"o":{"a":1,"b":2,"a":3}}"#,
            r#"{"o":[[{"a":1,"\u0061":3}]]}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert_eq!(refusal(text), Some(JsonError::DuplicateMember), "{text}");
        }
        for text in [r#"{"a":1,"o":{"a":1}}"#, r#"{"o":[{"a":1},{"a":1}]}"#, r#"{"a":1,"A":2}"#] {
            assert_eq!(refusal(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "}",
            "[]",
            "null",
            "{}x",
            "{}{}",
            "\u{feff}{}",
            "{\"a\":1,}",
            "{,}",
            "{a:1}",
            "{'a':1}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":[1,]}",
            "{\"a\":[1 2]}",
            "{\"a\":[}",
            "{\"a\":\"\u{1}\"}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12\"}",
            "{\"a\":\"\\u+123\"}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":\"\\udc00\"}",
            "{\"a\":\"\\ud800\\u0041\"}",
            "{\"a\":\"x}",
            "{\"a\":tru}",
            "{\"a\":nulL}",
            "{}\0",
            "{\"a\":1}//",
            "{\"a\":\u{b}1}",
        ] {
            assert_eq!(refusal(text), Some(JsonError::Syntax), "{text:?}");
        }
        for number in [
            "01", "+1", "-", "1.", ".5", "1e", "1e+", "0x1", "NaN", "Infinity", "1_0", "00",
            "1e400",
        ] {
            assert_eq!(
                refusal(&format!("{{\"a\":{number}}}")),
                Some(JsonError::Syntax),
                "{number}"
            );
        }
        for bytes in
            [&b"{\"a\":\"\xff\"}"[..], b"{\"a\":\"\xc0\xaf\"}", b"{\"a\xed\xa0\x80\":\"\\n\"}"]
        {
            let refused = Object::read(&mut bytes.to_vec(), &mut Members::new()).err();
            assert_eq!(refused, Some(JsonError::NotUtf8), "{bytes:?}");
        }
    }

    #[test]
    fn bounds_hold_to_the_one() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(refusal(&nested(JSON_DEPTH_MAX - 1)), None);
        assert_eq!(refusal(&nested(JSON_DEPTH_MAX)), Some(JsonError::TooDeep));
        let open = format!("{{\"a\":{}", "[".repeat(8_000));
        assert_eq!(refusal(&open), Some(JsonError::TooDeep));
        let wide = |members: usize| {
            let members: Vec<_> = (0..members).map(|i| format!("\"{i}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert_eq!(refusal(&wide(JSON_MEMBERS_MAX)), None);
        assert_eq!(refusal(&wide(JSON_MEMBERS_MAX + 1)), Some(JsonError::TooManyMembers));
        assert_eq!(refusal(&" ".repeat(JSON_LEN_MAX + 1)), Some(JsonError::TooLong));
    }

    #[test]
    fn special_bytes_are_found_at_every_place() {
        for special in (0..0x20).chain([b'"', b'\\']) {
            for at in 0..24 {
                let mut text = format!("{{\"a\":\"{}\"}}", "é".repeat(12)).into_bytes();
                text[6 + at] = special;
                let read = Object::read(&mut text, &mut Members::new()).is_ok();
                assert!(!read, "{special} at {at}");
            }
        }
    }
}
