//! The authorization endpoint (RFC 6749 section 3.1) without HTTP: a request is checked, the host is
//! told what to show, and what the user agrees to becomes a code.
//!
//! ```text
//! AuthorizationRequest --authorize--> Authorization --next_step--> Step --approve--> redirect with a code
//! ```
//! The host authenticates the user, draws the pages and keeps the browser's session; nothing here
//! does. An [`Authorization`] may be made again from the same parameters at every page.
//!
//! # Examples
//! ```
//! use mintage::authority::{
//!     Authority, AuthorizationRequest, Caller, Client, GrantType, Login, Step, TokenRequest,
//! };
//! # use mintage::root_key::RootKey;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = RootKey::from_bytes(1, [7; 32]);
//! # let authority = Authority::builder("https://login.example.com").in_memory(root)?;
//! let app = Client::public("app")
//!     .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
//!     .redirect_uris(["https://app.example/cb"])
//!     .scopes(["api", "refresh_token"]);
//! authority.register(app).wait()?;
//!
//! // GET /authorize?...
//! let request = AuthorizationRequest::from_pairs([
//!     ("response_type", "code"),
//!     ("client_id", "app"),
//!     ("redirect_uri", "https://app.example/cb"),
//!     ("state", "xyz"),
//!     ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
//!     ("code_challenge_method", "S256"),
//! ])?;
//! let authorization = authority.authorize(&request)?;
//! assert_eq!(authority.next_step(&authorization, None).wait()?, Step::Login);
//!
//! // The user has logged in ...
//! let login = Login::now("user-42", &authority)?;
//! let step = authority.next_step(&authorization, Some(&login)).wait()?;
//! assert!(matches!(step, Step::Consent { .. }));
//!
//! // ... and agrees to all that is asked for.
//! let scope = authorization.scope().as_str().to_owned();
//! let redirect = authority.approve(&authorization, &login, &scope).wait()?;
//! assert!(redirect.expose().starts_with("https://app.example/cb?code=mac_"));
//!
//! // POST /token
//! let code = redirect.expose().split(['=', '&']).nth(1).ok_or("no code")?;
//! let caller = Caller::public("app");
//! let request = TokenRequest::code(code, &caller)
//!     .redirect_uri("https://app.example/cb")
//!     .code_verifier("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
//! let issued = authority.token(&request).wait()?;
//! assert_eq!(issued.subject.as_str(), "user-42");
//! # Ok(())
//! # }
//! ```

mod approve;
mod code;
mod front;
mod pkce;
mod pushed;
mod redirect;
mod request;
mod response_type;
mod step;

pub use approve::Login;
pub use pushed::{PUSHED_SECS, Pushed};
pub use redirect::{REDIRECT_URIS_LEN_MAX, REDIRECT_URIS_MAX};
pub use request::{
    Authorization, AuthorizationError, AuthorizationRequest, NONCE_LEN_MAX, STATE_LEN_MAX,
};
pub use step::Step;

pub(super) use redirect::{is_redirect_uri, push_encoded};
pub(super) use request::Via;
pub(super) use response_type::needs_tokens_in_front;
