//! What a store shows to the layer above.

use std::sync::Arc;

use super::{CodeUse, Lsn, Pair, Seq, StoreError};
use crate::ids::{ClientId, DeviceId, Subject};
use crate::scope::Scope;
use crate::time::Timestamp;

/// A token as the store sees it at the moment of the lookup.
#[derive(Clone, Debug)]
pub struct TokenView {
    /// Whether it is live: invariant I4, judged in one place. If not, nothing else here may reach a
    /// caller.
    pub live: bool,
    /// The client it was issued to.
    pub client: ClientId,
    /// The subject it speaks for.
    pub subject: Subject,
    /// The device of its pair.
    pub device: Option<DeviceId>,
    /// Its grant.
    pub grant: u64,
    /// Its family.
    pub family: u64,
    /// Generation of the family that it belongs to.
    pub generation: u32,
    /// The admission it was born with.
    pub admission: Seq,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// The first second at which it is dead by age.
    pub expires_at: Timestamp,
    /// When its family ends by its absolute limit, whatever is done with it.
    pub family_ends_at: Timestamp,
    /// Its scope. For a refresh token and a family: that of the family.
    pub scope: Scope,
    /// Its audiences, in canonical text.
    pub audience: Arc<str>,
    /// [`AccessBirth::tag`](super::AccessBirth::tag) of what its family minted last.
    pub tag: u64,
}

/// A code as the store sees it at the moment of the lookup.
#[derive(Clone, Debug)]
pub struct CodeView {
    /// Whether it may be redeemed.
    pub live: bool,
    /// Whether it was redeemed.
    pub spent: bool,
    /// Whose tokens it gives.
    pub pair: Pair,
    /// The admission it was born with.
    pub admission: Seq,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// The first second at which it is dead.
    pub expires_at: Timestamp,
    /// As given in [`CodeBirth::body`](super::CodeBirth::body).
    pub body: Arc<[u8]>,
}

/// A family with its grant, as a row of a listing (Salesforce's `OauthToken` object).
#[derive(Clone, Debug)]
pub struct GrantView {
    /// The grant.
    pub grant: u64,
    /// The family.
    pub family: u64,
    /// The client.
    pub client: ClientId,
    /// The subject.
    pub subject: Subject,
    /// The device of the pair.
    pub device: Option<DeviceId>,
    /// Scope of the family.
    pub scope: Scope,
    /// Whether the family has a refresh token.
    pub refreshable: bool,
    /// Generation of the refresh token in force; 0 without one.
    pub generation: u32,
    /// When the family was born.
    pub created_at: Timestamp,
    /// When the family ends by its absolute limit.
    pub expires_at: Timestamp,
    /// When it was last used, as far as is known; a crash may forget the latest uses.
    pub last_used_at: Timestamp,
    /// How often it was used, as far as is known; a crash may forget the latest uses.
    pub use_count: u64,
}

/// A document.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its name.
    pub name: Arc<str>,
    /// Its bytes.
    pub body: Arc<[u8]>,
}

/// A row of the revocation feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Where it stands in the feed.
    pub lsn: Lsn,
    /// What kind of thing was revoked.
    pub scope: RevokedScope,
    /// Digest of what was revoked, or its identifier in the first eight bytes.
    pub digest: [u8; 16],
    /// Everything admitted below this number is dead.
    pub revoked_at: Seq,
}

/// What kind of thing a row of the feed speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevokedScope {
    /// Everything.
    Everything,
    /// A client.
    Client,
    /// A subject.
    Subject,
    /// A client and subject.
    Pair,
    /// A grant.
    Grant,
    /// A family.
    Family,
    /// One token.
    Token,
}

/// What is listed.
#[derive(Clone, Debug)]
pub enum Listing {
    /// Live families of a subject, oldest grant first.
    OfSubject(Subject),
    /// Live families of a client, oldest grant first.
    OfClient(ClientId),
    /// Live families of a pair with its device, oldest first.
    OfPair(Pair),
    /// One code.
    Code(CodeUse),
    /// Documents of a kind, by name.
    Documents(u8),
    /// One document.
    Document(u8, Arc<str>),
    /// Revocations in the order of the log. The cursor of the last page resumes it.
    Revocations,
}

/// One page of a listing.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Rows of [`Listing::OfSubject`], [`Listing::OfClient`] and [`Listing::OfPair`].
    pub grants: Vec<GrantView>,
    /// The row of [`Listing::Code`].
    pub code: Option<CodeView>,
    /// Rows of [`Listing::Documents`] and [`Listing::Document`].
    pub documents: Vec<Document>,
    /// Rows of [`Listing::Revocations`].
    pub revocations: Vec<Revocation>,
    /// Where the next page begins; `None` after the last one (the feed always gives one).
    pub next: Option<Vec<u8>>,
}

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Access tokens.
    pub tokens: u64,
    /// Families.
    pub families: u64,
    /// Grants without families.
    pub grants: u64,
    /// Deny entries of JWTs.
    pub denied: u64,
    /// Values that may be used once, and were.
    pub used: u64,
    /// Codes.
    pub codes: u64,
}

/// Counters of a store.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Access tokens held in memory.
    pub tokens_resident: u64,
    /// Families.
    pub families: u64,
    /// Grants.
    pub grants: u64,
    /// Revocation stamps.
    pub stamps: u64,
    /// JWTs revoked one by one and not yet expired.
    pub denied: u64,
    /// Values that may be used once, were, and have not expired.
    pub used: u64,
    /// Codes that have not expired.
    pub codes: u64,
    /// Last position of the log that is on stable storage.
    pub durable: Lsn,
    /// Last position that the checkpoint has applied.
    pub checkpointed: Lsn,
    /// Segments of the log.
    pub segments: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Commit groups written since the store was opened.
    pub groups: u64,
    /// Records written since the store was opened.
    pub records: u64,
    /// Syncs of the log since the store was opened.
    pub syncs: u64,
    /// Families that listings and pair policies went through, one by one. Nothing else that a
    /// request does walks over anything.
    pub rows_walked: u64,
    /// Lookups that went to the checkpoint.
    pub cold_reads: u64,
    /// Whether the store refuses writes.
    pub read_only: bool,
    /// The last error of the checkpoint or of the background work.
    pub last_error: Option<StoreError>,
}
