//! What a client's owner decides beyond grants and scopes: whose tokens it may have, and from where.

use std::fmt;
use std::net::IpAddr;

use super::audit::Action;
use super::client::{Client, GrantType, RegisteredClient};
use super::clients::Change;
use super::error::{Cause, Error, Reason};
use super::headless::Uvid;
use super::{Authority, Inner};
use crate::ids::{ClientId, Subject};
use crate::store::{Revoke, Store, Target, Ticket, Verb};

/// The most subjects that a client's list can hold; beyond that ask the host.
pub const PERMITTED_SUBJECTS_MAX: usize = 256;
/// The most address ranges of one client.
pub const IP_RANGES_MAX: usize = 128;

/// Whose tokens a client may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PermittedUsers {
    /// Everybody's who consents.
    #[default]
    SelfAuthorized,
    /// Those of a list, at most [`PERMITTED_SUBJECTS_MAX`]; they need not consent.
    Listed(Vec<Subject>),
    /// Those whom the host's [`Approvals`] name; they need not consent.
    AdminApproved,
}

/// The host's word on which subjects an administrator has approved for a client, by their profiles,
/// groups or roles.
pub trait Approvals: Send + Sync + 'static {
    /// Whether `client` may have tokens of `subject`.
    ///
    /// # Blocks
    /// The call is made on the thread of the request, at every issue, redeemed code and refresh.
    /// Answer from memory.
    fn is_approved(&self, client: &ClientId, subject: &Subject) -> bool;
}

impl<F: Fn(&ClientId, &Subject) -> bool + Send + Sync + 'static> Approvals for F {
    fn is_approved(&self, client: &ClientId, subject: &Subject) -> bool {
        self(client, subject)
    }
}

/// Nobody is approved.
pub(super) struct NoApprovals;

impl Approvals for NoApprovals {
    fn is_approved(&self, _: &ClientId, _: &Subject) -> bool {
        false
    }
}

/// Addresses from a first to a last one, both of IPv4 or both of IPv6.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IpRange {
    first: IpAddr,
    last: IpAddr,
}

impl IpRange {
    /// The range from `first` to `last`; `None` when they are of two kinds or in the wrong order.
    #[must_use]
    pub fn new(first: IpAddr, last: IpAddr) -> Option<IpRange> {
        let (first, last) = (first.to_canonical(), last.to_canonical());
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(IpRange { first, last })
    }

    /// Reads `10.0.0.0/8`, `10.0.0.1-10.0.0.9` or a single address.
    #[must_use]
    pub fn parse(text: &str) -> Option<IpRange> {
        if let Some((first, last)) = text.split_once('-') {
            return IpRange::new(first.parse().ok()?, last.parse().ok()?);
        }
        let Some((address, len)) = text.split_once('/') else {
            let address = text.parse().ok()?;
            return IpRange::new(address, address);
        };
        // No sign, no leading zero: a range has one spelling.
        let len = len.parse::<u8>().ok().filter(|number| number.to_string() == len)?;
        let (first, last) = match address.parse().ok()? {
            IpAddr::V4(address) => {
                let host = u32::MAX.checked_shr(u32::from(len)).unwrap_or(0);
                let bits = u32::from(address);
                (len <= 32 && bits & host == 0).then_some(())?;
                (IpAddr::V4(bits.into()), IpAddr::V4((bits | host).into()))
            }
            IpAddr::V6(address) => {
                let host = u128::MAX.checked_shr(u32::from(len)).unwrap_or(0);
                let bits = u128::from(address);
                (len <= 128 && bits & host == 0).then_some(())?;
                (IpAddr::V6(bits.into()), IpAddr::V6((bits | host).into()))
            }
        };
        Some(IpRange { first, last })
    }

    /// Whether an address is in it. An IPv4 address written as IPv6 is the IPv4 address.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && self.first <= address && address <= self.last
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl fmt::Debug for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IpRange({self})")
    }
}

impl Client {
    /// Whose tokens it may have; everybody's who consents by default.
    pub fn permitted_users(mut self, users: PermittedUsers) -> Client {
        self.settings.permitted = users;
        self
    }

    /// For these grant types it need not prove who it is, though it could: an app that has its secret on
    /// a server and refreshes on a phone. Refresh tokens must then rotate, and codes need PKCE;
    /// `client_credentials` always takes a proof.
    pub fn secret_optional(mut self, grants: impl IntoIterator<Item = GrantType>) -> Client {
        self.settings.secret_optional = grants.into_iter().collect();
        self
    }

    /// Whether its authorization requests need a code challenge (RFC 7636); they do by default, as
    /// RFC 9700 section 2.1.1 has it for public clients and recommends for others.
    pub fn pkce_required(mut self, required: bool) -> Client {
        self.settings.pkce_required = required;
        self
    }

    /// Its authorization requests must be pushed (RFC 9126 section 6): what a browser brings is
    /// refused.
    pub fn pushed_required(mut self, required: bool) -> Client {
        self.settings.pushed_required = required;
        self
    }

    /// Where its token requests may come from, at most [`IP_RANGES_MAX`] ranges; anywhere by
    /// default. The host says where a request comes from ([`Caller::from_address`](super::Caller::from_address)),
    /// and where a browser is that tokens come through ([`Login::from_address`](super::Login::from_address)).
    pub fn ip_ranges(mut self, ranges: impl IntoIterator<Item = IpRange>) -> Client {
        self.settings.ip_ranges = ranges.into_iter().collect();
        self
    }

    /// Refreshes may come from anywhere, in spite of [`Client::ip_ranges`].
    pub fn ip_relaxed_for_refresh(mut self) -> Client {
        self.settings.ip_relaxed_for_refresh = true;
        self
    }

    /// Where answers to its authorization requests may go: whole URIs, compared byte for byte; a
    /// loopback address without a port may be named with any. At most [`REDIRECT_URIS_MAX`] with
    /// [`REDIRECT_URIS_LEN_MAX`] bytes.
    ///
    /// [`REDIRECT_URIS_MAX`]: super::REDIRECT_URIS_MAX
    /// [`REDIRECT_URIS_LEN_MAX`]: super::REDIRECT_URIS_LEN_MAX
    pub fn redirect_uris<T: Into<String>>(mut self, uris: impl IntoIterator<Item = T>) -> Client {
        self.settings.redirect_uris = uris.into_iter().map(Into::into).collect();
        self
    }

    /// Where the host tells it that a subject has logged out; an `https` URL.
    pub fn logout_url(mut self, url: impl Into<String>) -> Client {
        self.settings.logout_url = Some(url.into());
        self
    }

    /// The client that registered it, which may introspect its tokens with
    /// [`Introspects::OwnAndChildren`](super::Introspects::OwnAndChildren).
    pub fn parent(mut self, parent: &ClientId) -> Client {
        self.settings.parent = Some(parent.clone());
        self
    }

    /// Whom its `client_credentials` tokens speak for, such as an integration user, if not for the
    /// client itself. Revoking that subject ends them.
    pub fn run_as(mut self, subject: impl AsRef<str>) -> Client {
        match Subject::new(subject) {
            Ok(subject) => self.settings.run_as = Some(subject),
            Err(_) => self.problem = Some("whom it runs as is malformed"),
        }
        self
    }
}

impl RegisteredClient {
    /// Whether it was blocked.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.settings.blocked
    }

    /// Where answers to its authorization requests may go.
    #[must_use]
    pub fn redirect_uris(&self) -> &[String] {
        &self.settings.redirect_uris
    }

    /// Where the host tells it that a subject has logged out.
    #[must_use]
    pub fn logout_url(&self) -> Option<&str> {
        self.settings.logout_url.as_deref()
    }

    /// The client that registered it.
    #[must_use]
    pub fn parent(&self) -> Option<&ClientId> {
        self.settings.parent.as_ref()
    }

    /// Whether a host should serve this client at this address: its ranges hold it, or it has none.
    /// Token requests are checked by the authority; the use of access tokens is the host's to check.
    #[must_use]
    pub fn permits_address(&self, address: IpAddr) -> bool {
        let ranges = &self.settings.ip_ranges;
        ranges.is_empty() || ranges.iter().any(|range| range.has(address))
    }

    /// Refuses a token request from elsewhere. Without an address there is no telling, so it is
    /// refused too.
    pub(super) fn check_address(
        &self,
        address: Option<IpAddr>,
        refresh: bool,
    ) -> Result<(), Error> {
        let relaxed = refresh && self.settings.ip_relaxed_for_refresh;
        let permitted = address.is_some_and(|address| self.permits_address(address));
        match permitted || relaxed || self.settings.ip_ranges.is_empty() {
            true => Ok(()),
            false => Err(Error::AccessDenied(Reason::new("the address is not permitted"))),
        }
    }
}

impl<S: Store> Authority<S> {
    /// Blocks a client: it is refused from now on, and all that it holds is revoked. It stays
    /// registered, and [`Authority::unblock_client`] lets it begin anew.
    ///
    /// # Durability
    /// From this call on the client is refused and its tokens are dead; the ticket resolves when
    /// that is on stable storage. Dropping the ticket undoes nothing.
    ///
    /// # Errors
    /// [`Error::InvalidClient`] for an unknown client; [`Error::TemporarilyUnavailable`] when the
    /// store cannot: call again then.
    pub fn block_client(&self, client_id: &ClientId) -> Ticket<(), Error> {
        let inner = &self.inner;
        let blocked = inner.change_client(client_id, Change::Ends, Action::Block, |client| {
            client.settings.blocked = true;
            Ok(())
        });
        if inner.clients.get(client_id).is_none() {
            return blocked;
        }
        // Refused first, revoked next: whoever authenticated before has an admission below.
        let target = Target::Client(client_id.clone());
        let now = inner.clock.read();
        let revoked = inner.store.apply(Verb::Revoke(Revoke { target, now }));
        Ticket::slow(async move {
            blocked.await?;
            revoked.await?;
            Ok(())
        })
    }

    /// Lets a blocked client in again. What it held stays dead.
    ///
    /// # Durability
    /// The ticket resolves when that is on stable storage.
    ///
    /// # Errors
    /// As [`Authority::block_client`].
    pub fn unblock_client(&self, client_id: &ClientId) -> Ticket<(), Error> {
        self.inner.change_client(client_id, Change::Gives, Action::Unblock, |client| {
            client.settings.blocked = false;
            Ok(())
        })
    }
}

impl<S: Store> Inner<S> {
    /// Whether a client may have tokens of a subject.
    pub(super) fn is_permitted(&self, client: &RegisteredClient, subject: &Subject) -> bool {
        if Uvid::of_guest(subject).is_some() {
            return client.settings.guests;
        }
        match &client.settings.permitted {
            PermittedUsers::SelfAuthorized => true,
            PermittedUsers::Listed(subjects) => subjects.contains(subject),
            PermittedUsers::AdminApproved => {
                self.approvals.is_approved(client.client_id(), subject)
            }
        }
    }
}

/// Why a subject's tokens are refused to a client.
pub(super) fn not_permitted() -> Reason {
    Reason::new("the subject is not approved for the client").because(Cause::NotAdminApproved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_what_is_in_it() -> Result<(), Box<dyn std::error::Error>> {
        let table = [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.1.2.3/32", "10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("10.0.0.1-10.0.0.9", "10.0.0.9", "10.0.0.10"),
            ("10.0.0.1", "::ffff:10.0.0.1", "::10.0.0.1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "::1", "10.0.0.1"),
        ];
        for (text, inside, outside) in table {
            let range = IpRange::parse(text).ok_or(text)?;
            assert!(range.has(inside.parse()?), "{text}");
            assert!(!range.has(outside.parse()?), "{text}");
            assert_eq!(IpRange::parse(&range.to_string()), Some(range));
        }
        for bad in [
            "",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.9-10.0.0.1",
            "10.0.0.1-::1",
            "::/129",
            "10.0.0",
            "a-b",
            "10.0.0.0/",
        ] {
            assert_eq!(IpRange::parse(bad), None, "{bad}");
        }
        Ok(())
    }
}
