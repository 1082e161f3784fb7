//! A strict JSON reader over a caller's buffer: RFC 8259 within I-JSON (RFC 7493), bounded in depth
//! and members, duplicate members refused at every depth, nothing allocated.
//!
//! Two readers that disagree on a duplicate or on an escaped spelling believe different tokens; a
//! text on which readers could disagree is therefore no text at all.

mod escape;
mod marks;
mod members;
mod reader;

use std::borrow::Cow;
use std::fmt;

use escape::Unescape;
use marks::Marked;
use members::{Kind, Slot};
use reader::Reader;

pub use members::Members;

pub(super) use escape::{plain_len, special_bytes};

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
#[derive(Clone, Copy)]
pub struct Object<'s> {
    text: &'s str,
    members: &'s Members,
}

impl fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.members().map(|(name, _)| name)).finish()
    }
}

impl<'s> Object<'s> {
    /// Reads the one object that `text` must be. Escaped strings on the outermost level are
    /// unescaped in place, which is why `text` is borrowed mutably.
    ///
    /// # Errors
    /// [`JsonError`], with the first thing that is wrong.
    #[inline(always)]
    pub fn read(text: &'s mut [u8], room: &'s mut Members) -> Result<Object<'s>, JsonError> {
        if text.len() > JSON_LEN_MAX {
            return Err(JsonError::TooLong);
        }
        let escapes = match room.clear(text) {
            Marked::Quotes => Reader::<true>::new(text, room).document()?,
            Marked::More => Reader::<false>::new(text, room).document()?,
        };
        if escapes.outermost {
            std::str::from_utf8(text).map_err(|_| JsonError::NotUtf8)?;
            room.unescape_outermost(text);
        }
        let text = std::str::from_utf8(text).map_err(|_| JsonError::NotUtf8)?;
        Ok(Object { text, members: room })
    }

    /// The value of the member `name`.
    #[must_use]
    #[inline]
    pub fn get(&self, name: &str) -> Option<RawValue<'s>> {
        self.members.find(self.text, name).map(|slot| self.value(slot))
    }

    /// The text of the string `name`; `Err` when it is there and is no string.
    #[inline(always)]
    pub(super) fn str(&self, name: &str) -> Result<Option<&'s str>, NotThat> {
        match self.members.find(self.text, name) {
            None => Ok(None),
            Some(slot) if slot.kind() == Kind::String => Ok(Some(slot.value_of(self.text))),
            Some(_) => Err(NotThat),
        }
    }

    /// The value of the number `name`; `Err` when it is there and is no such number.
    #[inline(always)]
    pub(super) fn u64(&self, name: &str) -> Result<Option<u64>, NotThat> {
        match self.members.find(self.text, name) {
            None => Ok(None),
            Some(slot) if slot.kind() == Kind::Integer => Ok(Some(slot.number())),
            Some(slot) => self.value(slot).as_u64().map(Some).ok_or(NotThat),
        }
    }

    /// The members in the order of the text.
    pub fn members(&self) -> impl Iterator<Item = (&'s str, RawValue<'s>)> + use<'s> {
        let object = *self;
        object.members.outermost().map(move |slot| (slot.name_of(object.text), object.value(slot)))
    }

    #[inline]
    fn value(&self, slot: &Slot) -> RawValue<'s> {
        RawValue { text: slot.value_of(self.text), kind: slot.kind(), number: slot.number() }
    }
}

/// A member is there and is something else than was asked for: never to be taken for absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotThat;

/// The value of a member, not yet interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawValue<'s> {
    /// A string without its quotes and unescaped; anything else as it stands in the text.
    text: &'s str,
    kind: Kind,
    /// That of an integer, 0 for anything else.
    number: u64,
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
        match self.kind {
            Kind::Integer => Some(self.number),
            // The grammar of JSON has no plus sign, and a minus sign is no part of an unsigned number.
            Kind::Number => self.text.parse().ok(),
            _ => None,
        }
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

    /// How many elements an array has whose elements are all strings; `None` for anything else.
    /// Nothing is allocated.
    pub(super) fn strings_len(&self) -> Option<usize> {
        RawStrings::of(self)?.try_fold(0, |len, element| element.map(|_| len + 1))
    }

    /// Whether it is an array of strings with `wanted` among them: nothing is allocated.
    pub(super) fn strings_have(&self, wanted: &str) -> bool {
        RawStrings::of(self).is_some_and(|strings| {
            strings.flatten().any(|raw| raw == wanted || Unescape(raw).eq(wanted.chars()))
        })
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
