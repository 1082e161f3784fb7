//! Records: the state of one entity as bytes, the same in the log and in the checkpoint.
//!
//! A record is the whole state of its entity, never a change to it, so redo is "the later position
//! wins" and may be repeated. Frame, little endian: CRC-32 of all that follows (4), payload length
//! (2), kind (1), format (1), payload, zeros up to a multiple of 64 bytes. A frame never begins
//! with eight zero bytes.

use std::sync::Arc;

use super::Seq;
pub(crate) use super::rows::{
    CodeRow, DenyRow, DocumentRow, FamilyRow, GrantRow, MintRow, SetRow, StampKind, StampRow,
    TokenRow, UsedRow,
};
use crate::ids::{ClientId, DeviceId, Subject};
use crate::locator::{Digest, Locator};
use crate::time::Timestamp;

/// Frames begin at multiples of this many bytes.
pub(crate) const RECORD_ALIGN: usize = 64;
/// Bytes before the payload of a frame.
pub(crate) const FRAME_HEAD_LEN: usize = 8;
/// The longest payload, in bytes.
pub(crate) const PAYLOAD_LEN_MAX: usize = 16 * 1024;

const FORMAT: u8 = 1;
/// The longest frame of the records that are written often.
const HOT_LEN_MAX: usize = 256;
/// Set in the kind of a frame that says nothing new.
const AGAIN: u8 = 0x80;

/// The state of one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Token(TokenRow),
    Family(FamilyRow),
    Grant(GrantRow),
    Stamp(StampRow),
    Deny(DenyRow),
    Document(DocumentRow),
    Set(SetRow),
    Used(UsedRow),
    Code(CodeRow),
    /// What the log says again though it is no news: a survivor, a use count. The checkpoint and the
    /// table never see it.
    Again(Box<Record>),
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordError {
    /// The frame does not fit what is there, or its checksum is wrong.
    Damaged,
    /// The frame is whole but of a format or kind that this version does not know.
    Unknown,
}

impl Record {
    /// Bytes of its text where that may be long.
    pub(crate) fn text_len(&self) -> usize {
        match self {
            Record::Document(row) => row.body.as_ref().map_or(0, |body| body.len()),
            Record::Again(record) => record.text_len(),
            _ => 0,
        }
    }

    /// The same, marked as no news.
    pub(crate) fn again(self) -> Record {
        Record::Again(Box::new(self))
    }

    /// The state that it says, news or not.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn bare(&self) -> &Record {
        match self {
            Record::Again(record) => record.bare(),
            record => record,
        }
    }

    /// Appends the frame of this record to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.reserve(HOT_LEN_MAX);
        out.extend_from_slice(&[0; FRAME_HEAD_LEN]);
        self.encode_payload(out);
        let len = out.len() - start - FRAME_HEAD_LEN;
        debug_assert!(len <= PAYLOAD_LEN_MAX, "rows are bounded where they are made");
        let len = u16::try_from(len).unwrap_or(u16::MAX);
        if let Some(head) = out.get_mut(start + 4..start + FRAME_HEAD_LEN) {
            let [low, high] = len.to_le_bytes();
            head.copy_from_slice(&[low, high, self.kind(), FORMAT]);
        }
        let crc = crc32fast::hash(out.get(start + 4..).unwrap_or(&[]));
        if let Some(head) = out.get_mut(start..start + 4) {
            head.copy_from_slice(&crc.to_le_bytes());
        }
        let padded = (out.len() - start).next_multiple_of(RECORD_ALIGN);
        out.resize(start + padded, 0);
    }

    /// Reads the frame at the start of `bytes`; also says how long it is with its padding.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Record, usize), RecordError> {
        Record::decode_marked(bytes).map(|(record, _, len)| (record, len))
    }

    /// As [`Record::decode`]; also says whether it is marked as no news.
    pub(crate) fn decode_marked(bytes: &[u8]) -> Result<(Record, bool, usize), RecordError> {
        let (frame, padded) = frame(bytes)?;
        let (&[kind, format], payload) =
            frame.get(2..).and_then(|b| b.split_first_chunk::<2>()).ok_or(RecordError::Damaged)?;
        let record = Record::decode_parts([kind & !AGAIN, format], payload)?;
        Ok((record, kind & AGAIN != 0, padded))
    }

    /// Appends kind and payload without a frame, for a place that has a checksum of its own.
    pub(crate) fn encode_bare(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.kind(), FORMAT]);
        self.encode_payload(out);
    }

    /// Reads what [`Record::encode_bare`] wrote; `bytes` is all of it.
    pub(crate) fn decode_bare(bytes: &[u8]) -> Result<Record, RecordError> {
        let (head, payload) = bytes.split_first_chunk::<2>().ok_or(RecordError::Damaged)?;
        Record::decode_parts(*head, payload)
    }

    fn decode_parts([kind, format]: [u8; 2], payload: &[u8]) -> Result<Record, RecordError> {
        if format != FORMAT {
            return Err(RecordError::Unknown);
        }
        let mut reader = Reader(payload);
        let record = Record::decode_payload(kind, &mut reader).ok_or(RecordError::Unknown)?;
        if reader.0.is_empty() { Ok(record) } else { Err(RecordError::Unknown) }
    }

    fn kind(&self) -> u8 {
        match self {
            Record::Token(_) => 1,
            Record::Family(_) => 2,
            Record::Grant(_) => 3,
            Record::Stamp(_) => 4,
            Record::Deny(_) => 5,
            Record::Document(_) => 6,
            Record::Set(_) => 7,
            Record::Used(_) => 8,
            Record::Code(_) => 9,
            Record::Again(record) => record.kind() | AGAIN,
        }
    }

    fn encode_payload(&self, out: &mut Vec<u8>) {
        if let Record::Again(record) = self {
            return record.encode_payload(out);
        }
        let mut w = Writer(out);
        match self {
            Record::Token(row) => row.encode(&mut w),
            Record::Family(row) => row.encode(&mut w),
            Record::Grant(row) => row.encode(&mut w),
            Record::Stamp(row) => {
                w.u8(row.kind as u8);
                w.bytes(&row.digest.0);
                w.u64(row.revoked_at.0);
            }
            Record::Deny(row) => {
                w.bytes(&row.jti.0);
                w.u64(row.expires_at.0);
            }
            Record::Document(row) => {
                w.u8(row.kind);
                w.text(&row.name);
                w.u8(u8::from(row.body.is_some()));
                w.bytes(row.body.as_deref().unwrap_or(&[]));
            }
            Record::Set(row) => {
                w.u64(row.id);
                w.bytes(row.text.as_bytes());
            }
            Record::Code(row) => row.encode(&mut w),
            Record::Used(row) => {
                w.bytes(&row.owner.0);
                w.bytes(&row.digest.0);
                w.u64(row.expires_at.0);
            }
            Record::Again(_) => {}
        }
    }

    fn decode_payload(kind: u8, r: &mut Reader<'_>) -> Option<Record> {
        Some(match kind {
            1 => Record::Token(TokenRow::decode(r)?),
            2 => Record::Family(FamilyRow::decode(r)?),
            3 => Record::Grant(GrantRow::decode(r)?),
            4 => Record::Stamp(StampRow {
                kind: match r.u8()? {
                    1 => StampKind::Everything,
                    2 => StampKind::Client,
                    3 => StampKind::Subject,
                    4 => StampKind::Pair,
                    5 => StampKind::Unique,
                    _ => return None,
                },
                digest: Digest(r.array()?),
                revoked_at: Seq(r.u64()?),
            }),
            5 => Record::Deny(DenyRow { jti: Digest(r.array()?), expires_at: Timestamp(r.u64()?) }),
            6 => Record::Document(DocumentRow {
                kind: r.u8()?,
                name: Arc::from(r.text()?),
                body: match r.u8()? {
                    0 if r.0.is_empty() => None,
                    1 => Some(Arc::from(r.rest())),
                    _ => return None,
                },
            }),
            7 => Record::Set(SetRow {
                id: r.u64()?,
                text: Arc::from(std::str::from_utf8(r.rest()).ok()?),
            }),
            9 => Record::Code(CodeRow::decode(r)?),
            8 => Record::Used(UsedRow {
                owner: Digest(r.array()?),
                digest: Digest(r.array()?),
                expires_at: Timestamp(r.u64()?),
            }),
            _ => return None,
        })
    }
}

/// The bytes of the frame at the start of `bytes` after its checksum, once that is right, and its
/// length with padding.
fn frame(bytes: &[u8]) -> Result<(&[u8], usize), RecordError> {
    let (crc, rest) = bytes.split_first_chunk::<4>().ok_or(RecordError::Damaged)?;
    let len = rest.first_chunk::<2>().map(|b| usize::from(u16::from_le_bytes(*b)));
    let len = len.ok_or(RecordError::Damaged)?;
    let covered = rest.get(..4 + len).ok_or(RecordError::Damaged)?;
    let padded = (FRAME_HEAD_LEN + len).next_multiple_of(RECORD_ALIGN);
    let padding = bytes.get(FRAME_HEAD_LEN + len..padded).ok_or(RecordError::Damaged)?;
    if len > PAYLOAD_LEN_MAX
        || crc32fast::hash(covered) != u32::from_le_bytes(*crc)
        || padding.iter().any(|b| *b != 0)
    {
        return Err(RecordError::Damaged);
    }
    Ok((covered, padded))
}

impl TokenRow {
    fn encode(&self, w: &mut Writer<'_>) {
        w.locator(&self.locator);
        w.bytes(&self.digest.0);
        w.u64(self.family);
        w.u32(self.generation);
        w.u64(self.admission.0);
        w.u64(self.issued_at.0);
        w.u64(self.expires_at.0);
        w.u64(self.scope);
        w.u64(self.audience);
        w.u8(u8::from(self.dead));
    }

    fn decode(r: &mut Reader<'_>) -> Option<TokenRow> {
        Some(TokenRow {
            locator: r.locator()?,
            digest: Digest(r.array()?),
            family: r.u64()?,
            generation: r.u32()?,
            admission: Seq(r.u64()?),
            issued_at: Timestamp(r.u64()?),
            expires_at: Timestamp(r.u64()?),
            scope: r.u64()?,
            audience: r.u64()?,
            dead: r.flag()?,
        })
    }
}

impl FamilyRow {
    fn encode(&self, w: &mut Writer<'_>) {
        w.u64(self.id);
        w.u64(self.grant);
        w.u64(self.admission.0);
        w.u64(self.created_at.0);
        w.u8(u8::from(self.dead));
        w.u32(self.generation);
        w.bytes(&self.digest.0);
        w.bytes(&self.previous.0);
        w.u64(self.expires_at.0);
        w.u64(self.idle_secs);
        w.u64(self.redeemed_at.0);
        w.u64(self.scope);
        w.u64(self.audience);
        self.mint.encode(w);
        w.u64(self.horizon.0);
        w.u64(self.last_used_at.0);
        w.u64(self.use_count);
    }

    fn decode(r: &mut Reader<'_>) -> Option<FamilyRow> {
        Some(FamilyRow {
            id: r.u64()?,
            grant: r.u64()?,
            admission: Seq(r.u64()?),
            created_at: Timestamp(r.u64()?),
            dead: r.flag()?,
            generation: r.u32()?,
            digest: Digest(r.array()?),
            previous: Digest(r.array()?),
            expires_at: Timestamp(r.u64()?),
            idle_secs: r.u64()?,
            redeemed_at: Timestamp(r.u64()?),
            scope: r.u64()?,
            audience: r.u64()?,
            mint: MintRow::decode(r)?,
            horizon: Timestamp(r.u64()?),
            last_used_at: Timestamp(r.u64()?),
            use_count: r.u64()?,
        })
    }
}

impl MintRow {
    fn encode(&self, w: &mut Writer<'_>) {
        w.u32(self.generation);
        w.u8(self.key_version);
        w.bytes(&self.salt);
        w.bytes(&self.request);
        w.u8(u8::from(self.locator.is_some()));
        w.locator(&self.locator.unwrap_or(Locator { class: 0, bucket: 0, id: 0 }));
        w.u64(self.issued_at.0);
        w.u64(self.expires_at.0);
        w.u64(self.scope);
        w.u64(self.audience);
        w.u64(self.tag);
    }

    fn decode(r: &mut Reader<'_>) -> Option<MintRow> {
        let (generation, key_version) = (r.u32()?, r.u8()?);
        let (salt, request) = (r.array()?, r.array()?);
        let (present, locator) = (r.flag()?, r.locator()?);
        if !present && locator != (Locator { class: 0, bucket: 0, id: 0 }) {
            return None;
        }
        Some(MintRow {
            generation,
            key_version,
            salt,
            request,
            locator: present.then_some(locator),
            issued_at: Timestamp(r.u64()?),
            expires_at: Timestamp(r.u64()?),
            scope: r.u64()?,
            audience: r.u64()?,
            tag: r.u64()?,
        })
    }
}

impl GrantRow {
    fn encode(&self, w: &mut Writer<'_>) {
        w.u64(self.id);
        w.u64(self.created_at.0);
        w.u64(self.revoked_at.0);
        w.u64(self.base_family);
        w.text(self.client.as_str());
        w.text(self.subject.as_str());
        w.text(self.device.as_ref().map_or("", DeviceId::as_str));
    }

    fn decode(r: &mut Reader<'_>) -> Option<GrantRow> {
        Some(GrantRow {
            id: r.u64()?,
            created_at: Timestamp(r.u64()?),
            revoked_at: Seq(r.u64()?),
            base_family: r.u64()?,
            client: ClientId::new(r.text()?).ok()?,
            subject: Subject::new(r.text()?).ok()?,
            device: match r.text()? {
                "" => None,
                device => Some(DeviceId::new(device).ok()?),
            },
        })
    }
}

impl CodeRow {
    fn encode(&self, w: &mut Writer<'_>) {
        w.u64(self.id);
        w.bytes(&self.digest.0);
        w.u64(self.admission.0);
        w.u64(self.issued_at.0);
        w.u64(self.expires_at.0);
        w.u64(self.spent_for);
        w.text(self.client.as_str());
        w.text(self.subject.as_str());
        w.text(self.device.as_ref().map_or("", DeviceId::as_str));
        w.bytes(&self.body);
    }

    fn decode(r: &mut Reader<'_>) -> Option<CodeRow> {
        Some(CodeRow {
            id: r.u64()?,
            digest: Digest(r.array()?),
            admission: Seq(r.u64()?),
            issued_at: Timestamp(r.u64()?),
            expires_at: Timestamp(r.u64()?),
            spent_for: r.u64()?,
            client: ClientId::new(r.text()?).ok()?,
            subject: Subject::new(r.text()?).ok()?,
            device: match r.text()? {
                "" => None,
                device => Some(DeviceId::new(device).ok()?),
            },
            body: Arc::from(r.rest()),
        })
    }
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    fn locator(&mut self, locator: &Locator) {
        self.u8(locator.class);
        self.u32(locator.bucket);
        self.u64(locator.id);
    }

    /// Identifiers are at most 255 bytes long, so one byte holds their length.
    fn text(&mut self, text: &str) {
        debug_assert!(text.len() <= 255, "identifiers are bounded where they are made");
        let len = u8::try_from(text.len()).unwrap_or(u8::MAX);
        self.u8(len);
        self.bytes(text.as_bytes().get(..usize::from(len)).unwrap_or(&[]));
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn locator(&mut self) -> Option<Locator> {
        Some(Locator { class: self.u8()?, bucket: self.u32()?, id: self.u64()? })
    }

    fn text(&mut self) -> Option<&'a str> {
        let len = usize::from(self.u8()?);
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn samples() -> Vec<Record> {
        let locator = Locator { class: 3, bucket: 7, id: 0x40 };
        let mint = MintRow {
            generation: 2,
            key_version: 1,
            salt: [5; 16],
            request: [6; 16],
            locator: Some(locator),
            issued_at: Timestamp(10),
            expires_at: Timestamp(20),
            scope: 11,
            audience: 12,
            tag: 13,
        };
        let (Ok(client), Ok(subject)) = (ClientId::new("reports"), Subject::new("user-42")) else {
            return Vec::new();
        };
        let (client_of_code, subject_of_code) = (client.clone(), subject.clone());
        vec![
            Record::Token(TokenRow {
                locator,
                digest: Digest([1; 16]),
                family: 0x80,
                generation: 2,
                admission: Seq(9),
                issued_at: Timestamp(10),
                expires_at: Timestamp(20),
                scope: 11,
                audience: 12,
                dead: false,
            }),
            Record::Family(FamilyRow {
                id: 0x80,
                grant: 0xc0,
                admission: Seq(9),
                created_at: Timestamp(1),
                dead: true,
                generation: 2,
                digest: Digest([2; 16]),
                previous: Digest([3; 16]),
                expires_at: Timestamp::NEVER,
                idle_secs: 30,
                redeemed_at: Timestamp(10),
                scope: 11,
                audience: 12,
                mint,
                horizon: Timestamp(20),
                last_used_at: Timestamp(10),
                use_count: 4,
            }),
            Record::Grant(GrantRow {
                id: 0xc0,
                created_at: Timestamp(1),
                revoked_at: Seq(3),
                base_family: 0,
                client,
                subject,
                device: None,
            }),
            Record::Stamp(StampRow {
                kind: StampKind::Subject,
                digest: Digest([4; 16]),
                revoked_at: Seq(8),
            }),
            Record::Deny(DenyRow { jti: Digest([9; 16]), expires_at: Timestamp(99) }),
            Record::Code(CodeRow {
                id: 0x140,
                digest: Digest([8; 16]),
                admission: Seq(9),
                issued_at: Timestamp(10),
                expires_at: Timestamp(20),
                spent_for: 0x80,
                client: client_of_code,
                subject: subject_of_code,
                device: None,
                body: Arc::from(&b"{}"[..]),
            }),
            Record::Document(DocumentRow {
                kind: 1,
                name: Arc::from("reports"),
                body: Some(Arc::from(&b"{}"[..])),
            }),
            Record::Document(DocumentRow { kind: 1, name: Arc::from("gone"), body: None }),
            Record::Set(SetRow { id: 11, text: Arc::from("api web") }),
            Record::Used(UsedRow {
                owner: Digest([6; 16]),
                digest: Digest([7; 16]),
                expires_at: Timestamp(99),
            }),
        ]
    }

    #[test]
    fn every_record_reads_back_and_no_flipped_bit_does() {
        for record in samples() {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            assert_eq!(bytes.len() % RECORD_ALIGN, 0);
            assert_eq!(Record::decode(&bytes), Ok((record.clone(), bytes.len())));
            for bit in 0..bytes.len() * 8 {
                let mut bent = bytes.clone();
                bent[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Record::decode(&bent), Err(RecordError::Damaged), "bit {bit}");
            }
            for len in 0..bytes.len() {
                assert_eq!(Record::decode(&bytes[..len]), Err(RecordError::Damaged));
            }
        }
    }

    #[test]
    fn hot_records_are_two_and_four_lines_of_64_bytes() {
        let mut lengths = samples().into_iter().map(|record| {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            bytes.len()
        });
        assert_eq!(lengths.next(), Some(128));
        assert_eq!(lengths.next(), Some(256));
    }
}
