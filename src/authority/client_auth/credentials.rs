//! What a request carries to prove its client, as it stands on the wire: exactly one method.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use base64_simd::STANDARD;

use super::super::Authority;
use super::super::error::{Cause, Error, Reason};
use super::super::profile::Profile;
use super::caller::{Caller, Proof};
use super::secret::CLIENT_SECRET_LEN_MAX;
use crate::ids::{ClientId, IDENTIFIER_LEN_MAX};
use crate::secret::SecretText;
use crate::store::Store;

/// `client_assertion_type` of a JWT (RFC 7523 section 2.2).
pub const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The longest `Authorization` header that is looked at, in bytes: identifier and secret, each byte
/// of them encoded twice.
const HEADER_LEN_MAX: usize = 8 + (IDENTIFIER_LEN_MAX + CLIENT_SECRET_LEN_MAX + 1) * 4;

/// The parts of a request that may prove its client (RFC 6749 section 2.3, RFC 7521 section 4.2,
/// RFC 8705). Form parameters are given decoded once. `Debug` shows no secret.
#[derive(Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The parameter `client_id`.
    pub client_id: Option<&'a str>,
    /// The parameter `client_secret`.
    pub client_secret: Option<&'a str>,
    /// The parameter `client_assertion_type`.
    pub client_assertion_type: Option<&'a str>,
    /// The parameter `client_assertion`.
    pub client_assertion: Option<&'a str>,
    /// The parameter `assertion` of a JWT bearer request (RFC 7523 section 2.1), which says who asks
    /// where nothing else does.
    pub assertion: Option<&'a str>,
    /// SHA-256 thumbprint of the certificate of the connection. The host has checked that the peer
    /// holds the certificate's key.
    pub certificate: Option<[u8; 32]>,
    /// Where the request comes from.
    pub address: Option<IpAddr>,
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("authorization", &self.authorization.is_some())
            .field("client_id", &self.client_id)
            .field("client_secret", &self.client_secret.is_some())
            .field("client_assertion", &self.client_assertion.is_some())
            .finish_non_exhaustive()
    }
}

impl<S: Store> Authority<S> {
    /// The caller of a request, not yet authenticated. More than one method is refused ("The client
    /// MUST NOT use more than one authentication method in each request", RFC 6749 section 2.3);
    /// under [`Profile::Salesforce`] a secret in the body wins over the header, and a secret over an
    /// assertion.
    ///
    /// In the header, identifier and secret are form-encoded (RFC 6749 section 2.3.1). Many clients
    /// send them raw: where both readings differ, either may be the secret, and the raw identifier
    /// counts where no client has the decoded one.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for more than one method and for a `client_id` that is not that of
    /// the header; [`Error::InvalidClient`] for no client at all, a header that is not `Basic` or is
    /// malformed, and an unknown `client_assertion_type`.
    ///
    /// # Examples
    /// ```
    /// use mintage::authority::{Authority, Client, Credentials, TokenRequest};
    /// # use mintage::root_key::RootKey;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let root = RootKey::from_bytes(1, [7; 32]);
    /// # let authority = Authority::builder("https://login.example.com").in_memory(root)?;
    /// let reports = authority.register(Client::confidential("reports").scopes(["api"])).wait()?;
    /// let secret = reports.client_secret.ok_or("none")?;
    ///
    /// // POST /token with client_id and client_secret in the body:
    /// let credentials = Credentials {
    ///     client_id: Some("reports"),
    ///     client_secret: Some(secret.expose()),
    ///     ..Credentials::default()
    /// };
    /// let caller = authority.caller(&credentials)?;
    /// let issued = authority.token(&TokenRequest::client_credentials(&caller)).wait()?;
    /// assert_eq!(issued.scope.as_str(), "api");
    /// # Ok(())
    /// # }
    /// ```
    pub fn caller(&self, credentials: &Credentials<'_>) -> Result<Caller, Error> {
        let caller = credentials.caller(self.inner.profile)?;
        Ok(caller.meant(|id| self.inner.clients.get(id).is_some()))
    }
}

impl Credentials<'_> {
    fn caller(&self, profile: Profile) -> Result<Caller, Error> {
        // RFC 6749 section 3.1: "Parameters sent without a value MUST be treated as if they were
        // omitted from the request."
        let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).is_some();
        let (header, secret) = (self.authorization.is_some(), given(self.client_secret));
        let assertion = given(self.client_assertion) || given(self.client_assertion_type);
        let several = [header, secret, assertion].into_iter().filter(|given| *given).count() > 1;
        if several && profile == Profile::Standard {
            return Err(Error::InvalidRequest(Reason::new("more than one way to authenticate")));
        }
        let caller = if secret {
            let id = self.client_id.unwrap_or_default();
            Caller::secret(id, self.client_secret.unwrap_or_default())
        } else if let Some(header) = self.authorization {
            self.of_header(header)?
        } else if assertion {
            self.of_assertion()?
        } else {
            match self.client_id.filter(|id| !id.is_empty()) {
                Some(id) => Caller::public(id),
                None if given(self.assertion) => Caller::nobody(),
                None => return Err(Error::InvalidClient(Reason::new("no client"))),
            }
        };
        Ok(Caller { certificate: self.certificate, address: self.address, ..caller })
    }

    fn of_header(&self, header: &str) -> Result<Caller, Error> {
        let caller = basic(header)?;
        let Some(id) = self.client_id.filter(|id| !id.is_empty()) else { return Ok(caller) };
        let named = ClientId::new(id);
        let is_that = |id: Option<&ClientId>| id.is_some() && id == named.as_ref().ok();
        let decoded = caller.client_id.as_ref().and_then(|id| id.as_ref().ok());
        if !is_that(decoded) && !is_that(caller.raw_id.as_ref()) {
            return Err(Error::InvalidRequest(Reason::new("client_id is not that of the header")));
        }
        Ok(Caller { client_id: Some(named), raw_id: None, ..caller })
    }

    fn of_assertion(&self) -> Result<Caller, Error> {
        let refuse = |why| Error::InvalidClient(Reason::new(why).because(Cause::AssertionType));
        if self.client_assertion_type != Some(JWT_BEARER) {
            return Err(refuse("unknown client_assertion_type"));
        }
        let assertion = self.client_assertion.filter(|text| !text.is_empty());
        let assertion = assertion.ok_or_else(|| refuse("no client_assertion"))?;
        let client_id = self.client_id.filter(|id| !id.is_empty()).map(ClientId::new);
        Ok(Caller { client_id, ..Caller::assertion(assertion) })
    }
}

/// RFC 7617 with the encoding of RFC 6749 section 2.3.1.
fn basic(header: &str) -> Result<Caller, Error> {
    let refuse = |why| Error::InvalidClient(Reason::new(why).because(Cause::BasicHeader));
    if header.len() > HEADER_LEN_MAX {
        return Err(refuse("the Authorization header is too long"));
    }
    let (scheme, encoded) = header.split_once(' ').ok_or_else(|| refuse("no Basic header"))?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(refuse("no Basic header"));
    }
    let bytes = STANDARD.decode_to_vec(encoded.trim_matches(' '));
    let bytes =
        zeroize::Zeroizing::new(bytes.map_err(|_| refuse("the Basic header is no base64"))?);
    let text = std::str::from_utf8(&bytes).map_err(|_| refuse("the Basic header is no UTF-8"))?;
    let (id, secret) = text.split_once(':').ok_or_else(|| refuse("no colon in the header"))?;
    let raw_id = id;
    let id = form_decoded(id).unwrap_or(Cow::Borrowed(id));
    let raw_id = ClientId::new(raw_id).ok().filter(|raw| raw.as_str() != id);
    // RFC 6749 section 2.3.1: "The client MAY omit the parameter if the client secret is an empty
    // string": a public client, then.
    let proof = match form_decoded(secret) {
        _ if secret.is_empty() => Proof::None,
        Some(decoded) if *decoded != *secret => {
            Proof::Secret(SecretText::new(decoded), Some(SecretText::new(secret)))
        }
        _ => Proof::Secret(SecretText::new(secret), None),
    };
    Ok(Caller { proof, raw_id, ..Caller::public(id) })
}

/// A text in `application/x-www-form-urlencoded`, decoded once; `None` when it is not that.
fn form_decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(id_and_secret: &str) -> String {
        format!("Basic {}", STANDARD.encode_to_string(id_and_secret))
    }

    fn secrets(header: &str) -> Option<(String, String, Option<String>)> {
        let caller = basic(header).ok()?;
        let id = caller.client_id?.ok()?.as_str().to_owned();
        match caller.proof {
            Proof::Secret(one, other) => {
                Some((id, one.expose().to_owned(), other.map(|text| text.expose().to_owned())))
            }
            _ => None,
        }
    }

    #[test]
    fn a_header_is_form_decoded_once() {
        let some = |id: &str, one: &str, other: Option<&str>| {
            Some((id.to_owned(), one.to_owned(), other.map(str::to_owned)))
        };
        assert_eq!(secrets(&header("a:b")), some("a", "b", None));
        assert_eq!(secrets(&header("a:b:c")), some("a", "b:c", None));
        assert_eq!(
            secrets(&header("conf%2Dbasic:s%3As")),
            some("conf-basic", "s:s", Some("s%3As"))
        );
        assert_eq!(secrets(&header("a:b+c")), some("a", "b c", Some("b+c")));
        assert_eq!(secrets(&header("a:100%")), some("a", "100%", None));
        assert_eq!(secrets(&header("a:%2525")), some("a", "%25", Some("%2525")));
        assert_eq!(secrets(&header("a:%ff")), some("a", "%ff", None));
        assert_eq!(secrets(&header("a:b").replace("Basic", "bAsIc")), some("a", "b", None));
        assert_eq!(secrets(&header("a:")), None);
        for bad in ["", "Basic", "Basic ", "Basic !", "Bearer abc", "Basic YTpi YTpi", "BasicYTpi"]
        {
            assert!(matches!(basic(bad), Err(Error::InvalidClient(_))), "{bad}");
        }
        assert!(basic(&header("no colon")).is_err());
        assert!(basic(&header(&"x".repeat(HEADER_LEN_MAX))).is_err());
    }

    #[test]
    fn exactly_one_method() {
        let basic = header("a:b");
        let full = Credentials {
            authorization: Some(&basic),
            client_id: Some("a"),
            client_secret: Some("body"),
            client_assertion_type: Some(JWT_BEARER),
            client_assertion: Some("x.y.z"),
            ..Credentials::default()
        };
        let none = |full: Credentials<'_>| {
            (
                full.authorization.is_some(),
                full.client_secret.is_some(),
                full.client_assertion.is_some(),
            )
        };
        for (header, secret, assertion) in
            [(true, true, false), (true, false, true), (false, true, true), (true, true, true)]
        {
            let credentials = Credentials {
                authorization: full.authorization.filter(|_| header),
                client_secret: full.client_secret.filter(|_| secret),
                client_assertion: full.client_assertion.filter(|_| assertion),
                client_assertion_type: full.client_assertion_type.filter(|_| assertion),
                ..full
            };
            let refused = credentials.caller(Profile::Standard);
            assert!(matches!(refused, Err(Error::InvalidRequest(_))), "{:?}", none(credentials));
            // Salesforce: the body's secret, then the header's, then the assertion.
            let taken = credentials.caller(Profile::Salesforce).map(|caller| match caller.proof {
                Proof::Secret(text, _) => text.expose().to_owned(),
                _ => "no secret".to_owned(),
            });
            assert_eq!(taken.ok().as_deref(), Some(if secret { "body" } else { "b" }));
        }
        let other = Credentials {
            client_id: Some("other"),
            authorization: Some(&basic),
            ..Credentials::default()
        };
        assert!(matches!(other.caller(Profile::Standard), Err(Error::InvalidRequest(_))));
        let no_type = Credentials { client_assertion: Some("x.y.z"), ..Credentials::default() };
        assert!(matches!(no_type.caller(Profile::Standard), Err(Error::InvalidClient(_))));
        let nobody = Credentials { client_secret: Some(""), ..Credentials::default() };
        assert!(matches!(nobody.caller(Profile::Standard), Err(Error::InvalidClient(_))));
        let public =
            Credentials { client_id: Some("a"), client_secret: Some(""), ..Credentials::default() };
        let public = public.caller(Profile::Standard).map(|caller| caller.proof);
        assert!(matches!(public, Ok(Proof::None)));
    }
}
