//! Rows: the whole state of an entity, as tables hold it and records write it.

use std::sync::Arc;

use super::Seq;
use crate::ids::{ClientId, DeviceId, Subject};
use crate::locator::{Digest, Locator};
use crate::time::Timestamp;

/// An opaque access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenRow {
    pub(crate) locator: Locator,
    pub(crate) digest: Digest,
    pub(crate) family: u64,
    pub(crate) generation: u32,
    pub(crate) admission: Seq,
    pub(crate) issued_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) scope: u64,
    pub(crate) audience: u64,
    pub(crate) dead: bool,
}

/// A family: one login, its refresh token and what was minted in it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FamilyRow {
    pub(crate) id: u64,
    pub(crate) grant: u64,
    pub(crate) admission: Seq,
    pub(crate) created_at: Timestamp,
    pub(crate) dead: bool,
    /// Generation of the refresh token in force; 0 without one.
    pub(crate) generation: u32,
    pub(crate) digest: Digest,
    pub(crate) previous: Digest,
    pub(crate) expires_at: Timestamp,
    pub(crate) idle_secs: u64,
    pub(crate) redeemed_at: Timestamp,
    pub(crate) scope: u64,
    pub(crate) audience: u64,
    pub(crate) mint: MintRow,
    /// Until when an access token of this family may live.
    pub(crate) horizon: Timestamp,
    pub(crate) last_used_at: Timestamp,
    pub(crate) use_count: u64,
}

/// What was minted last in a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MintRow {
    pub(crate) generation: u32,
    pub(crate) key_version: u8,
    pub(crate) salt: [u8; 16],
    pub(crate) request: [u8; 16],
    pub(crate) locator: Option<Locator>,
    pub(crate) issued_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) scope: u64,
    pub(crate) audience: u64,
    pub(crate) tag: u64,
}

/// A grant: the standing permission of one client for one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrantRow {
    pub(crate) id: u64,
    pub(crate) created_at: Timestamp,
    pub(crate) revoked_at: Seq,
    /// Family of access tokens that are born without a refresh token; 0 when there is none.
    pub(crate) base_family: u64,
    pub(crate) client: ClientId,
    pub(crate) subject: Subject,
    pub(crate) device: Option<DeviceId>,
}

/// What a stamp stands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum StampKind {
    Everything = 1,
    Client = 2,
    Subject = 3,
    Pair = 4,
    /// A pair with its device: what a grant stands for, also when its row is gone.
    Unique = 5,
}

/// `revoked_at` of everything, a client, a subject or a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StampRow {
    pub(crate) kind: StampKind,
    pub(crate) digest: Digest,
    pub(crate) revoked_at: Seq,
}

/// A JWT that was revoked by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DenyRow {
    pub(crate) jti: Digest,
    pub(crate) expires_at: Timestamp,
}

/// A document of the layer above; without a body it is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DocumentRow {
    pub(crate) kind: u8,
    pub(crate) name: Arc<str>,
    pub(crate) body: Option<Arc<[u8]>>,
}

/// A scope or audience text that many tokens share, under a digest of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SetRow {
    pub(crate) id: u64,
    pub(crate) text: Arc<str>,
}

/// A value that may be used once, and was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UsedRow {
    pub(crate) owner: Digest,
    pub(crate) digest: Digest,
    pub(crate) expires_at: Timestamp,
}

/// An authorization code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CodeRow {
    pub(crate) id: u64,
    pub(crate) digest: Digest,
    pub(crate) admission: Seq,
    pub(crate) issued_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    /// The family that it was redeemed for; 0 while it was not.
    pub(crate) spent_for: u64,
    pub(crate) client: ClientId,
    pub(crate) subject: Subject,
    pub(crate) device: Option<DeviceId>,
    pub(crate) body: Arc<[u8]>,
}
