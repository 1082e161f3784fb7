//! The form of a token request (RFC 6749 section 3.2): parameters by name, each once, to a request.

use std::fmt;
use std::net::IpAddr;

use super::client_auth::{Caller, Credentials};
use super::device::DeviceRequest;
use super::error::{Error, Reason};
use super::exchange::{Exchange, TokenType};
use super::token::TokenRequest;

/// The longest body of a request that a host should read, in bytes. What is in it is bounded by
/// itself, but for its number of parameters.
pub const FORM_LEN_MAX: usize = 64 * 1024;
/// The most parameters of a form.
const PARAMETERS_MAX: usize = 64;

/// The parameters of a token request, decoded once. Unknown ones are left out. `Debug` shows no secret.
///
/// # Examples
/// ```
/// use mintage::authority::{Authority, Client, TokenForm};
/// # use mintage::root_key::RootKey;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let root = RootKey::from_bytes(1, [7; 32]);
/// # let authority = Authority::builder("https://login.example.com").in_memory(root)?;
/// # let reports = authority.register(Client::confidential("reports").scopes(["api"])).wait()?;
/// # let secret = reports.client_secret.ok_or("none")?;
/// // What a form parser made of the body:
/// let pairs = [
///     ("grant_type", "client_credentials"),
///     ("client_id", "reports"),
///     ("client_secret", secret.expose()),
/// ];
/// let form = TokenForm::from_pairs(pairs)?;
/// let caller = authority.caller(&form.credentials(None, None))?;
/// let issued = authority.token(&form.request(&caller)?).wait()?;
/// println!("{}", issued.to_json().expose());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Default)]
pub struct TokenForm<'a> {
    grant_type: Option<&'a str>,
    code: Option<&'a str>,
    redirect_uri: Option<&'a str>,
    code_verifier: Option<&'a str>,
    refresh_token: Option<&'a str>,
    scope: Option<&'a str>,
    resource: Option<&'a str>,
    client_id: Option<&'a str>,
    client_secret: Option<&'a str>,
    client_assertion_type: Option<&'a str>,
    client_assertion: Option<&'a str>,
    assertion: Option<&'a str>,
    device_code: Option<&'a str>,
    response_type: Option<&'a str>,
    subject_token: Option<&'a str>,
    subject_token_type: Option<&'a str>,
    actor_token: Option<&'a str>,
    actor_token_type: Option<&'a str>,
    requested_token_type: Option<&'a str>,
    token_handler: Option<&'a str>,
    username: Option<&'a str>,
    password: Option<&'a str>,
}

impl fmt::Debug for TokenForm<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenForm")
            .field("grant_type", &self.grant_type)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

impl<'a> TokenForm<'a> {
    /// The parameters of a form. RFC 6749 section 3.2: "Parameters sent without a value MUST be
    /// treated as if they were omitted from the request."
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a parameter that is there twice ("Request and response parameters
    /// MUST NOT be included more than once"), and for more than 64 of them.
    pub fn from_pairs(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<TokenForm<'a>, Error> {
        let mut form = TokenForm::default();
        let mut seen = 0;
        for (name, value) in pairs {
            seen += 1;
            if seen > PARAMETERS_MAX {
                return Err(Error::InvalidRequest(Reason::new("too many parameters")));
            }
            let place = match name {
                "grant_type" => &mut form.grant_type,
                "code" => &mut form.code,
                "redirect_uri" => &mut form.redirect_uri,
                "code_verifier" => &mut form.code_verifier,
                "refresh_token" => &mut form.refresh_token,
                "scope" => &mut form.scope,
                "resource" => &mut form.resource,
                "client_id" => &mut form.client_id,
                "client_secret" => &mut form.client_secret,
                "client_assertion_type" => &mut form.client_assertion_type,
                "client_assertion" => &mut form.client_assertion,
                "assertion" => &mut form.assertion,
                "device_code" => &mut form.device_code,
                "response_type" => &mut form.response_type,
                "subject_token" => &mut form.subject_token,
                "subject_token_type" => &mut form.subject_token_type,
                "actor_token" => &mut form.actor_token,
                "actor_token_type" => &mut form.actor_token_type,
                "requested_token_type" => &mut form.requested_token_type,
                "token_handler" => &mut form.token_handler,
                "username" => &mut form.username,
                "password" => &mut form.password,
                _ => continue,
            };
            if place.is_some() {
                return Err(Error::InvalidRequest(Reason::new("a parameter is there twice")));
            }
            // An empty one counts as seen.
            *place = Some(value);
        }
        Ok(form.without_empty())
    }

    fn without_empty(self) -> TokenForm<'a> {
        let some = |text: Option<&'a str>| text.filter(|text| !text.is_empty());
        TokenForm {
            grant_type: some(self.grant_type),
            code: some(self.code),
            redirect_uri: some(self.redirect_uri),
            code_verifier: some(self.code_verifier),
            refresh_token: some(self.refresh_token),
            scope: some(self.scope),
            resource: some(self.resource),
            client_id: some(self.client_id),
            client_secret: some(self.client_secret),
            client_assertion_type: some(self.client_assertion_type),
            client_assertion: some(self.client_assertion),
            assertion: some(self.assertion),
            device_code: some(self.device_code),
            response_type: some(self.response_type),
            subject_token: some(self.subject_token),
            subject_token_type: some(self.subject_token_type),
            actor_token: some(self.actor_token),
            actor_token_type: some(self.actor_token_type),
            requested_token_type: some(self.requested_token_type),
            token_handler: some(self.token_handler),
            username: some(self.username),
            password: some(self.password),
        }
    }

    /// What the form proves its client with, beside the `Authorization` header of its request and
    /// where that came from.
    #[must_use]
    pub fn credentials(
        &self,
        authorization: Option<&'a str>,
        address: Option<IpAddr>,
    ) -> Credentials<'a> {
        Credentials {
            authorization,
            client_id: self.client_id,
            client_secret: self.client_secret,
            client_assertion_type: self.client_assertion_type,
            client_assertion: self.client_assertion,
            assertion: self.assertion,
            certificate: None,
            address,
        }
    }

    /// What a device asks for that begins (RFC 8628 section 3.1): all that comes to the device
    /// authorization endpoint, and what Salesforce's devices send to the token endpoint with
    /// `response_type=device_code` ([`TokenForm::begins_device`]).
    pub fn device_request(&self) -> DeviceRequest<'a> {
        let request = DeviceRequest::new().scope(self.scope.unwrap_or_default());
        match self.resource {
            Some(resource) => request.audience(resource),
            None => request,
        }
    }

    /// Whether it is the beginning of Salesforce's device flow, which comes to the token endpoint.
    #[must_use]
    pub fn begins_device(&self) -> bool {
        self.grant_type.is_none() && self.response_type == Some("device_code")
    }

    fn exchange(&self) -> Result<Exchange<'a>, Error> {
        let refuse = |why| Error::InvalidRequest(Reason::new(why));
        let kind = |urn: Option<&str>| {
            let urn = urn.ok_or_else(|| refuse("a token without its type"))?;
            TokenType::from_urn(urn).ok_or_else(|| refuse("unknown token type"))
        };
        let subject = self.subject_token.ok_or_else(|| refuse("no subject_token"))?;
        let exchange = Exchange::of(subject, kind(self.subject_token_type)?)
            .requested(self.requested_token_type.unwrap_or_default())
            .handler(self.token_handler.unwrap_or_default());
        match (self.actor_token, self.actor_token_type) {
            (None, None) => Ok(exchange),
            // RFC 8693 section 2.1: actor_token_type "MUST NOT be included" without an actor_token.
            (None, Some(_)) => Err(refuse("a type without its token")),
            (Some(actor), urn) => Ok(exchange.actor(actor, kind(urn)?)),
        }
    }

    /// The request that it is, of a caller.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] where the grant type, or what it needs, is missing;
    /// [`Error::UnsupportedGrantType`] for another.
    pub fn request(&self, caller: &'a Caller) -> Result<TokenRequest<'a>, Error> {
        let needed = |text: Option<&'a str>, why| {
            text.ok_or_else(|| Error::InvalidRequest(Reason::new(why)))
        };
        let request = match needed(self.grant_type, "no grant_type")? {
            "client_credentials" => TokenRequest::client_credentials(caller),
            "authorization_code" => TokenRequest::code(needed(self.code, "no code")?, caller),
            "refresh_token" => {
                TokenRequest::refresh(needed(self.refresh_token, "no refresh_token")?, caller)
            }
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
                TokenRequest::jwt_bearer(needed(self.assertion, "no assertion")?, caller)
            }
            "urn:ietf:params:oauth:grant-type:device_code" => {
                TokenRequest::device(needed(self.device_code, "no device_code")?, caller)
            }
            "urn:ietf:params:oauth:grant-type:token-exchange" => {
                TokenRequest::exchange(self.exchange()?, caller)
            }
            "password" => TokenRequest::password(
                needed(self.username, "no username")?,
                needed(self.password, "no password")?,
                caller,
            ),
            // Salesforce's spelling.
            "device" => TokenRequest::device(needed(self.code, "no code")?, caller),
            _ => return Err(Error::UnsupportedGrantType(Reason::new("unknown grant_type"))),
        };
        let request = request.redirect_uri(self.redirect_uri.unwrap_or_default());
        let request = request.code_verifier(self.code_verifier.unwrap_or_default());
        let request = request.scope(self.scope.unwrap_or_default());
        Ok(match self.resource {
            Some(resource) => request.audience(resource),
            None => request,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_a_request_or_says_what_is_missing() -> Result<(), Error> {
        let caller = Caller::public("app");
        let named = |pairs: &[(&'static str, &'static str)]| {
            let form = TokenForm::from_pairs(pairs.iter().copied())?;
            form.request(&caller).map(|request| format!("{request:?}"))
        };
        let code = [("grant_type", "authorization_code"), ("code", "c"), ("unknown", "x")];
        assert!(named(&code)?.starts_with("TokenRequest(authorization_code of"));
        assert!(
            named(&[("refresh_token", "r"), ("grant_type", "refresh_token")])?.contains("refresh")
        );
        named(&[("grant_type", "client_credentials"), ("scope", "")])?;
        for (bad, error) in [
            (&[][..], "invalid_request"),
            (&[("grant_type", "")], "invalid_request"),
            (&[("grant_type", "authorization_code")], "invalid_request"),
            (&[("grant_type", "refresh_token"), ("refresh_token", "")], "invalid_request"),
            (&[("grant_type", "password")], "invalid_request"),
            (&[("grant_type", "magic")], "unsupported_grant_type"),
            (&[("scope", "a"), ("scope", "a")], "invalid_request"),
            (&[("scope", ""), ("scope", "a")], "invalid_request"),
        ] {
            assert_eq!(named(bad).map_err(|refused| refused.code()), Err(error), "{bad:?}");
        }
        let many = vec![("x", "y"); PARAMETERS_MAX + 1];
        assert!(TokenForm::from_pairs(many).is_err());
        Ok(())
    }

    #[test]
    fn the_debug_of_a_form_shows_no_secret() -> Result<(), Error> {
        let pairs = [
            ("grant_type", "refresh_token"),
            ("refresh_token", "mrt_secret"),
            ("client_secret", "mcs_secret"),
            ("client_assertion", "a.secret.b"),
            ("password", "a secret"),
            ("code", "mac_secret"),
            ("code_verifier", "secret"),
        ];
        assert!(!format!("{:?}", TokenForm::from_pairs(pairs)?).contains("secret"));
        Ok(())
    }
}
