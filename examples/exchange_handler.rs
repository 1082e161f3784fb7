//! Token exchange: an ID token of an external identity provider for an access token of ours, and a user
//! who is here for the first time is made. Another authority plays the identity provider.
//!
//! `cargo run --example exchange_handler`
#![allow(clippy::print_stdout)]

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use mintage::authority::{
    Authority, Caller, Client, Exchange, ExchangeHandler, GrantType, HandlerOptions, IncomingToken,
    Issue, Mapped, PermittedUsers, RegisteredClient, TokenRefused, TokenRequest, TokenType, User,
    ValidToken,
};
use mintage::codec::assertion::AssertionVerifier;
use mintage::codec::jwk_set::JwkSet;
use mintage::ids::{ClientId, Subject};
use mintage::root_key::RootKey;
use serde_json::Value;

const IDP: &str = "https://idp.example.com";
/// What the identity provider knows us as.
const US: &str = "our-client-there";

type Done<T = ()> = Result<T, Box<dyn Error>>;

/// Our users, by subject. In production this is a table.
#[derive(Clone, Default)]
pub struct Directory(Arc<Mutex<HashMap<String, User>>>);

impl Directory {
    /// Whether there is such a user.
    pub fn has(&self, subject: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(subject)
    }

    fn user(&self, subject: &Subject) -> Option<User> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(subject.as_str()).cloned()
    }

    fn add(&self, subject: &Subject, user: User) {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        users.insert(subject.as_str().to_owned(), user);
    }
}

/// ID tokens of one identity provider.
struct IdpHandler {
    /// Its public keys: a host fetches them from its `jwks_uri` now and then, not here.
    keys: JwkSet,
    verifier: AssertionVerifier,
    directory: Directory,
}

impl ExchangeHandler for IdpHandler {
    fn validate(&self, token: &IncomingToken<'_>) -> Result<ValidToken, TokenRefused> {
        if token.is_actor {
            return Err(TokenRefused("nobody acts for anybody here"));
        }
        let read = self.verifier.read(token.token).map_err(|_| TokenRefused("no JWT"))?;
        let verified = self.verifier.verify(read, self.keys.keys(), token.now);
        // Signature, audience and times are good; whose key it was is ours to say.
        let verified = verified.map_err(|_| TokenRefused("no good JWT"))?;
        if verified.issuer() != IDP {
            return Err(TokenRefused("another issuer"));
        }
        let name = verified.subject().ok_or(TokenRefused("it says nothing of anybody"))?;
        let claims: Value = serde_json::from_str(verified.claims_json().unwrap_or_default())
            .map_err(|_| TokenRefused("no claims"))?;
        let email = claims["email"].as_str().filter(|_| claims["email_verified"] == true);
        let user = User { email: email.map(str::to_owned), ..User::default() };
        Ok(ValidToken::of(name).data(user))
    }

    fn subject(&self, token: &ValidToken, _: &RegisteredClient) -> Mapped {
        // Their names are not ours: somebody there must not become somebody else here.
        match Subject::new(format!("idp|{}", token.name())) {
            Err(_) => Mapped::Nobody,
            Ok(subject) if self.directory.has(subject.as_str()) => Mapped::Known(subject),
            Ok(subject) => Mapped::New(subject),
        }
    }

    fn create(&self, token: &ValidToken, subject: &Subject) -> bool {
        // Without an address that they vouch for nobody is made.
        let user = token.get::<User>().filter(|user| user.email.is_some()).cloned();
        user.inspect(|user| self.directory.add(subject, user.clone())).is_some()
    }
}

/// The identity provider, which knows the address of ann and of nobody else.
fn identity_provider() -> Done<Authority<mintage::store::MemoryStore>> {
    let users = |subject: &Subject| {
        (subject.as_str() == "ann").then(|| User {
            email: Some("ann@example.com".to_owned()),
            email_verified: true,
            ..User::default()
        })
    };
    let root = RootKey::from_bytes(1, [1; 32]);
    let idp = Authority::builder(IDP).users(users).in_memory(root)?;
    idp.register(Client::public(US).scopes(["openid", "email"]).id_token_claims()).wait()?;
    Ok(idp)
}

/// What came of it: who the token speaks for, and whether ben, who has no address, was refused.
pub fn run() -> Done<(String, bool, Directory)> {
    let idp = identity_provider()?;
    let log_in = |subject: &str| -> Done<String> {
        let issued = idp.issue(Issue::to(subject, &ClientId::new(US)?)).wait()?;
        Ok(issued.id_token.ok_or("no ID token")?.expose().to_owned())
    };

    let directory = Directory::default();
    let handler = IdpHandler {
        keys: JwkSet::parse(idp.keys().jwks().as_bytes())?,
        verifier: AssertionVerifier::of_tokens(&[US], 30, 600),
        directory: directory.clone(),
    };
    let known = directory.clone();
    let authority = Authority::builder("https://login.example.com")
        .users(move |subject: &Subject| known.user(subject))
        .exchange_handler(
            "ExampleIdp",
            HandlerOptions::new([TokenType::IdToken]).creates_users(),
            handler,
        )
        // An administrator has approved everybody who comes from there.
        .approvals(|_: &ClientId, subject: &Subject| subject.as_str().starts_with("idp|"))
        .in_memory(RootKey::from_bytes(1, [2; 32]))?;
    let service = Client::confidential("service")
        .grants([GrantType::TokenExchange])
        .permitted_users(PermittedUsers::AdminApproved)
        .exchange_handlers(["ExampleIdp"])
        .scopes(["api"]);
    let registered = authority.register(service).wait()?;
    let secret = registered.client_secret.ok_or("no secret")?;
    let service = Caller::secret("service", secret.expose());

    let theirs = log_in("ann")?;
    let exchange = Exchange::of(&theirs, TokenType::IdToken);
    let ours = authority.token(&TokenRequest::exchange(exchange, &service)).wait()?;
    let active = authority.verify_live(ours.access_token.expose()).wait()?;

    let theirs = log_in("ben")?;
    let exchange = Exchange::of(&theirs, TokenType::IdToken);
    let refused = authority.token(&TokenRequest::exchange(exchange, &service)).wait().is_err();
    Ok((active.subject.as_str().to_owned(), refused, directory))
}

fn main() -> Done {
    let (subject, refused, directory) = run()?;
    println!("the token speaks for {subject}; made here: {}", directory.has(&subject));
    println!("ben, whose address nobody vouches for, was refused: {refused}");
    Ok(())
}
