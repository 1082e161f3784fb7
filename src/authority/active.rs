//! A token that lives, as introspection and live verification show it.

use std::sync::Arc;

use super::confirmation::Confirmation;
use super::read::Jwt;
use crate::codec::handle::{Handle, HandleKind};
use crate::ids::{ClientId, DeviceId, Subject};
use crate::scope::Scope;
use crate::store::{Find, TokenView};
use crate::time::Timestamp;

/// What kind of token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenKind {
    /// An access token, opaque or JWT.
    Access,
    /// A refresh token.
    Refresh,
}

/// A live token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ActiveToken {
    /// What kind of token it is.
    pub kind: TokenKind,
    /// The client that it was issued to.
    pub client_id: ClientId,
    /// Whom it speaks for.
    pub subject: Subject,
    /// The device of its login, where the host tells devices apart.
    pub device: Option<DeviceId>,
    /// Its scope.
    pub scope: Scope,
    /// Its audiences, one space between.
    pub audience: Arc<str>,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// The first second at which it is dead; [`Timestamp::NEVER`] for a refresh token without limit.
    pub expires_at: Timestamp,
    /// `jti` of a JWT.
    pub jti: Option<Arc<str>>,
    /// What its holder must have (`cnf`).
    pub confirmation: Option<Confirmation>,
    /// Who acts for the subject (`act`), the newest first; nobody as a rule.
    pub actors: Vec<String>,
    /// Its grant.
    pub grant: u64,
    /// Its family.
    pub family: u64,
}

impl ActiveToken {
    /// A handle that the store calls live.
    pub(super) fn of_view(
        kind: TokenKind,
        view: TokenView,
        confirmation: Option<Confirmation>,
    ) -> ActiveToken {
        ActiveToken {
            kind,
            client_id: view.client,
            subject: view.subject,
            device: view.device,
            scope: view.scope,
            audience: view.audience,
            issued_at: view.issued_at,
            expires_at: view.expires_at,
            jti: None,
            confirmation,
            actors: Vec::new(),
            grant: view.grant,
            family: view.family,
        }
    }

    /// A JWT that the store calls live: what it says itself, and what it hangs from.
    pub(super) fn of_jwt(jwt: Jwt, view: TokenView) -> ActiveToken {
        ActiveToken {
            kind: TokenKind::Access,
            client_id: jwt.client,
            subject: jwt.subject,
            device: view.device,
            scope: jwt.scope,
            audience: jwt.audience,
            issued_at: jwt.issued_at,
            expires_at: jwt.expires_at,
            jti: Some(jwt.jti),
            confirmation: jwt.confirmation,
            actors: jwt.actors.subjects().map(str::to_owned).collect(),
            grant: view.grant,
            family: view.family,
        }
    }
}

/// The question whether a handle's token lives, and what it is; `None` for a handle that is no
/// token.
pub(super) fn find_handle(handle: &Handle, used: bool) -> Option<(TokenKind, Find)> {
    let (locator, digest) = (handle.locator, handle.digest);
    match handle.kind {
        HandleKind::Access => Some((TokenKind::Access, Find::Access { locator, digest, used })),
        HandleKind::Refresh => Some((
            TokenKind::Refresh,
            Find::Refresh { family: locator.id, generation: locator.bucket, digest },
        )),
        _ => None,
    }
}
