//! The verbs that change a store, as values of a fixed shape: no borrowed buffers, nothing secret.

use std::sync::Arc;

use super::Seq;
use crate::ids::{ClientId, DeviceId, Subject};
use crate::locator::{Digest, Locator};
use crate::scope::Scope;
use crate::time::{Reading, Timestamp};

/// The unique pair under which a grant exists at most once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    /// The client.
    pub client: ClientId,
    /// The subject.
    pub subject: Subject,
    /// The device, where the host tells devices apart.
    pub device: Option<DeviceId>,
}

/// Near what an identifier is drawn, so that what changes together lies together.
#[derive(Clone, Copy, Debug)]
pub enum Near<'a> {
    /// The pair that it will belong to.
    Pair(&'a Pair),
    /// Another identifier of the same pair.
    Id(u64),
}

/// How many families (logins) a pair may have at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PairPolicy {
    /// Any number.
    #[default]
    Unlimited,
    /// The newest so many; one more ends the oldest in the same commit.
    Newest(u16),
    /// One; the new one ends the old one in the same commit.
    Replace,
    /// One; while it lives a new one is refused.
    Reject,
    /// The live access token again while it has at least so many seconds left. Access tokens alone.
    Reuse {
        /// Least remaining lifetime, in seconds.
        left_secs_min: u64,
    },
}

/// An access token about to be born.
#[derive(Clone, Debug)]
pub struct AccessBirth {
    /// Address and digest of an opaque token; `None` for a JWT, which has no record of its own.
    pub handle: Option<(Locator, Digest)>,
    /// When it is issued.
    pub issued_at: Timestamp,
    /// The first second at which it is dead.
    pub expires_at: Timestamp,
    /// Its scope, within that of its family.
    pub scope: Scope,
    /// Its audiences, in canonical text (sorted, one space between).
    pub audience: Arc<str>,
    /// What the layer above wants to know of the login again, such as when it was.
    pub tag: u64,
}

/// A refresh token about to be born with its family, or the successor of a redeemed one.
#[derive(Clone, Debug)]
pub struct RefreshBirth {
    /// Digest of the refresh token.
    pub digest: Digest,
    /// When the family ends whatever happens; [`Timestamp::NEVER`] for "until revoked". A successor
    /// never prolongs it.
    pub expires_at: Timestamp,
    /// The family ends when it was not redeemed for so many seconds; 0 for no such limit.
    pub idle_secs: u64,
    /// The audiences of the family, in canonical text, where they are more than those of the access token
    /// that is born with it.
    pub audience: Option<Arc<str>>,
}

/// Birth of an access token, with its grant and family where they are new, and of a refresh token
/// where the client gets one.
#[derive(Clone, Debug)]
pub struct Issue {
    /// Whose grant it hangs from.
    pub pair: Pair,
    /// How many families the pair may have.
    pub policy: PairPolicy,
    /// The least of the counter before authentication and every admission that this derives from.
    pub admission: Seq,
    /// The time.
    pub now: Reading,
    /// Identifier drawn for the family, if a new one is needed.
    pub family: u64,
    /// The family that the token was signed for, where signing came first: it is born in this one
    /// or nothing happens ([`IssueOutcome::Elsewhere`], or [`IssueOutcome::Reused`] with no code
    /// spent). 0 is no family: it only asks for the one.
    pub only_in: Option<u64>,
    /// Identifier drawn for the grant, if a new one is needed.
    pub grant: u64,
    /// Version of the root key that the tokens are born under.
    pub key_version: u8,
    /// Salt of the derivation, drawn for this birth.
    pub salt: [u8; 16],
    /// Digest of the request (client, scope, resource, ...): only an equal one may get the same
    /// token again.
    pub request: [u8; 16],
    /// The access token.
    pub access: AccessBirth,
    /// The first refresh token.
    pub refresh: Option<RefreshBirth>,
    /// The code that it is the redemption of: spent in the same unit, and above the admission.
    pub code: Option<CodeUse>,
}

/// Birth of an authorization code.
#[derive(Clone, Debug)]
pub struct CodeBirth {
    /// Whose tokens it will give.
    pub pair: Pair,
    /// The least of the counter before the subject and its grant were checked and every admission
    /// that this derives from.
    pub admission: Seq,
    /// The time.
    pub now: Reading,
    /// Identifier drawn near the pair.
    pub id: u64,
    /// Its digest.
    pub digest: Digest,
    /// When it is issued.
    pub issued_at: Timestamp,
    /// The first second at which it is dead.
    pub expires_at: Timestamp,
    /// What the layer above needs to redeem it, at most
    /// [`CODE_BODY_LEN_MAX`](super::CODE_BODY_LEN_MAX) bytes.
    pub body: Arc<[u8]>,
}

/// What became of a [`CodeBirth`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeOutcome {
    /// Born.
    Born,
    /// The client, subject, pair, grant or everything was revoked since the admission, or the body is
    /// too long; nothing happened.
    Refused,
}

/// A code in the hands of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeUse {
    /// Its identifier.
    pub id: u64,
    /// Its digest.
    pub digest: Digest,
}

/// What was minted last in a family: enough to build the same tokens again, with the secret that
/// the caller presents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mint {
    /// Generation of the refresh token minted with it.
    pub generation: u32,
    /// Version of the root key that it was derived under.
    pub key_version: u8,
    /// Salt of the derivation.
    pub salt: [u8; 16],
    /// Address of the opaque access token; `None` for a JWT.
    pub locator: Option<Locator>,
    /// When the access token was issued.
    pub issued_at: Timestamp,
    /// The first second at which the access token is dead.
    pub expires_at: Timestamp,
    /// Scope of the access token.
    pub scope: Scope,
    /// Audiences of the access token.
    pub audience: Arc<str>,
    /// As given in [`AccessBirth::tag`].
    pub tag: u64,
}

/// What became of an [`Issue`].
#[derive(Clone, Debug)]
pub enum IssueOutcome {
    /// Born.
    Issued {
        /// The family that the token belongs to.
        family: u64,
        /// The grant that the family belongs to.
        grant: u64,
        /// The admission it was born with.
        admission: Seq,
    },
    /// Under [`PairPolicy::Reuse`]: the live token again, to be derived from this mint.
    Reused {
        /// The family that the token belongs to.
        family: u64,
        /// The grant that the family belongs to.
        grant: u64,
        /// The admission it was born with.
        admission: Seq,
        /// What it was minted from.
        mint: Box<Mint>,
    },
    /// Under [`PairPolicy::Reject`]: the pair has a live family already; nothing happened.
    PairTaken,
    /// The client, subject, pair or everything was revoked since the admission; nothing happened.
    Revoked,
    /// The code is unknown, expired, revoked or another pair's; nothing happened.
    CodeDead,
    /// The code was redeemed before: what it gave is dead.
    CodeReplayed,
    /// It would belong to another family than [`Issue::only_in`]; nothing happened.
    Elsewhere {
        /// The family that it would belong to.
        family: u64,
    },
}

/// Redemption of a refresh token: it is spent and its successor is born, or, for a client whose
/// refresh tokens are fixed, an access token is born and the refresh token stays.
#[derive(Clone, Debug)]
pub struct Redeem {
    /// Family of the presented token.
    pub family: u64,
    /// Generation of the presented token.
    pub generation: u32,
    /// Digest of the presented token.
    pub digest: Digest,
    /// The counter before the caller was authenticated: admission, and arrival for the retry rule.
    pub arrival: Seq,
    /// Whether the token was in force when it was looked up, after its arrival: then presenting it
    /// is no replay, however long it took to decide.
    pub was_in_force: bool,
    /// The time.
    pub now: Reading,
    /// Longest time after the redeem at which the same token may be presented again, in seconds.
    pub retry_secs_max: u64,
    /// Version of the root key that the successors are derived under.
    pub key_version: u8,
    /// Salt of the derivation, drawn for this redeem.
    pub salt: [u8; 16],
    /// Digest of the request; a retry must have the same.
    pub request: [u8; 16],
    /// Digest of the next refresh token; `None` leaves the presented one in force.
    pub successor: Option<Digest>,
    /// The access token.
    pub access: AccessBirth,
}

/// What became of a [`Redeem`].
#[derive(Clone, Debug)]
pub enum RedeemOutcome {
    /// Spent; the successors are those that the verb carried.
    Redeemed {
        /// Generation of the refresh token now in force.
        generation: u32,
        /// The admission that the access token was born with.
        admission: Seq,
    },
    /// Presented again within the retry rule: the same tokens, to be derived from this mint.
    Retried {
        /// What they were minted from.
        mint: Box<Mint>,
        /// The admission that the access token was born with.
        admission: Seq,
    },
    /// Presented again outside the retry rule: the family is dead.
    Replayed,
    /// Within the retry rule, but the request is another one; nothing happened.
    OtherRequest,
    /// It was in force when it arrived, and its successor was used meanwhile; nothing happened.
    Overtaken,
    /// The family is unknown, dead or expired; nothing happened.
    Dead,
}

/// What a revocation ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Everything admitted so far.
    Everything,
    /// All of a client.
    Client(ClientId),
    /// All of a subject.
    Subject(Subject),
    /// All of a client for a subject, on every device.
    Pair(ClientId, Subject),
    /// A grant.
    Grant(u64),
    /// A family: its refresh token and every access token born in it.
    Family(u64),
    /// One opaque access token.
    Access(Locator, Digest),
    /// One JWT, by a digest of its `jti`, until it expires.
    Jwt {
        /// Digest of the `jti`.
        jti: Digest,
        /// When the JWT expires.
        expires_at: Timestamp,
    },
}

/// A revocation.
#[derive(Clone, Debug)]
pub struct Revoke {
    /// What ends.
    pub target: Target,
    /// The time.
    pub now: Reading,
}

/// Writes or removes a document of the layer above: a client, a sealed signing key, a setting. All
/// documents are held in memory.
#[derive(Clone, Debug)]
pub struct Put {
    /// Kind of document, chosen by the layer above; 0 to 127.
    pub kind: u8,
    /// Its name within the kind, at most 255 bytes.
    pub name: Arc<str>,
    /// Its bytes, at most [`DOCUMENT_LEN_MAX`](super::DOCUMENT_LEN_MAX); `None` removes it.
    pub body: Option<Arc<[u8]>>,
    /// Whether it must not exist yet.
    pub create: bool,
    /// Whether it takes something away, such as a secret: then it is refused last, like a
    /// revocation, and is in effect until the process ends where it cannot be made durable
    /// ([`StoreError::NotDurable`](super::StoreError::NotDurable)). A removal always does.
    pub ends: bool,
}

/// Longer life for an opaque access token, because it was used. A token never lives longer than its
/// locator's class allows, nor than its family; a shorter life than it has changes nothing.
///
/// # Durability
/// Reads see the longer life at once; a crash before it is durable takes it back.
#[derive(Clone, Copy, Debug)]
pub struct Extend {
    /// Its address.
    pub locator: Locator,
    /// Its digest.
    pub digest: Digest,
    /// The first second at which it is to be dead.
    pub expires_at: Timestamp,
    /// The time.
    pub now: Reading,
}

/// Use of a value that may be used once, such as the `jti` of an assertion. It is remembered until
/// it expires.
#[derive(Clone, Copy, Debug)]
pub struct UseOnce {
    /// Whose value it is, such as an issuer: only so many of its values are remembered.
    pub owner: Digest,
    /// The value, owner included.
    pub digest: Digest,
    /// The first second at which nobody would take the value any more.
    pub expires_at: Timestamp,
    /// The most values of the owner that are remembered at a time.
    pub owner_max: u32,
    /// The time.
    pub now: Reading,
}

/// What became of a [`UseOnce`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseOnceOutcome {
    /// It is the first use, and is remembered.
    First,
    /// It was used before.
    Again,
    /// It has expired, so that nobody knows any more; nothing happened.
    Expired,
    /// The owner has used as many values as are remembered; nothing happened.
    Full,
}

/// A change of state.
#[derive(Clone, Debug)]
pub enum Verb {
    /// See [`Issue`].
    Issue(Box<Issue>),
    /// See [`Redeem`].
    Redeem(Box<Redeem>),
    /// See [`Revoke`].
    Revoke(Revoke),
    /// See [`CodeBirth`].
    Code(Box<CodeBirth>),
    /// See [`Extend`].
    Extend(Extend),
    /// See [`UseOnce`].
    UseOnce(UseOnce),
    /// See [`Put`].
    Put(Put),
}

/// What became of a [`Verb`].
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Of [`Verb::Issue`].
    Issue(IssueOutcome),
    /// Of [`Verb::Redeem`].
    Redeem(RedeemOutcome),
    /// Of [`Verb::Revoke`]: the number taken; `None` when the target does not exist.
    Revoke(Option<Seq>),
    /// Of [`Verb::Code`].
    Code(CodeOutcome),
    /// Of [`Verb::Extend`]: until when it lives; `None` when it is dead, unknown or not in memory.
    Extend(Option<Timestamp>),
    /// Of [`Verb::UseOnce`].
    UseOnce(UseOnceOutcome),
    /// Of [`Verb::Put`]: whether it was written; `false` when `create` met an existing document.
    Put(bool),
}

/// What is looked up.
#[derive(Clone, Copy, Debug)]
pub enum Find {
    /// An opaque access token.
    Access {
        /// Its address.
        locator: Locator,
        /// Its digest.
        digest: Digest,
        /// Whether this lookup counts as a use of the token.
        used: bool,
    },
    /// A refresh token.
    Refresh {
        /// Its family.
        family: u64,
        /// Its generation.
        generation: u32,
        /// Its digest.
        digest: Digest,
    },
    /// A JWT, by what it carries.
    Jwt {
        /// Its family.
        family: u64,
        /// The generation it was born with.
        generation: u32,
        /// The admission it was born with.
        admission: Seq,
        /// Digest of its `jti`.
        jti: Digest,
        /// When it expires.
        expires_at: Timestamp,
        /// Whether this lookup counts as a use of the token.
        used: bool,
    },
    /// A family, whichever of its tokens is at hand.
    Family(u64),
}
