//! What each request costs, end to end: from a typed request to the answer's text. CPU time of the
//! thread that asks, in memory; on disk the time until it is on stable storage.
//!
//! Every body asserts what it got.

#[path = "support/cpu_time.rs"]
mod cpu_time;
#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;

use cpu_time::{CpuTime, ONE};
use criterion::measurement::Measurement;
use criterion::{BatchSize, BenchmarkGroup, Criterion};
use jsonwebtoken::{EncodingKey, Header, encode};
use mintage::authority::{
    Authority, AuthorizationRequest, Builder, Caller, Client, CodeCredentials, DeviceRequest,
    Exchange, GrantType, Introspects, Issue, Login, PasswordCredentials, RefreshPolicy, Target,
    TokenFormat, TokenRequest, TokenType,
};
use mintage::codec::algorithm::Algorithm;
use mintage::codec::keys::SigningKey;
use mintage::ids::{ClientId, Subject};
use mintage::root_key::RootKey;
use mintage::store::{DurableOptions, MemoryStore, Store};
use support::ISSUER;

const ED25519: &str = include_str!("../tests/data/ed25519.pk8.pem");
const CB: &str = "https://app.example/cb";
/// Tokens that are there when lookups begin.
const STANDING: usize = 10_000;

/// Clients and tokens to ask with.
struct Bench<S: Store> {
    authority: Authority<S>,
    app: ClientId,
    /// A confidential client that does everything.
    caller: Caller,
    /// A public client whose refresh tokens rotate.
    public: Caller,
    auditor: Caller,
}

impl<S: Store> Bench<S> {
    fn new(authority: Authority<S>, format: TokenFormat) -> Bench<S> {
        let grants = [
            GrantType::AuthorizationCode,
            GrantType::RefreshToken,
            GrantType::ClientCredentials,
            GrantType::JwtBearer,
            GrantType::DeviceCode,
            GrantType::TokenExchange,
            GrantType::Password,
        ];
        let key = SigningKey::from_pem(Algorithm::EdDsa, Some("k"), ED25519).expect("a key");
        let public = key.verifying_key().public_jwk().expect("a public key").to_json();
        let app = Client::confidential("app")
            .grants(grants)
            .keys(&format!(r#"{{"keys":[{public}]}}"#))
            .code_credentials()
            .pkce_required(false)
            .redirect_uris([CB])
            .format(format)
            .access_secs(3_600)
            .scopes(["api", "refresh_token"]);
        let registered = authority.register(app).wait().expect("a client");
        let secret = registered.client_secret.expect("a secret");
        let caller = Caller::secret("app", secret.expose());
        let public = Client::public("public").format(format).refresh(RefreshPolicy::rotate());
        authority.register(public.scopes(["api", "refresh_token"])).wait().expect("a client");
        let auditor = Client::confidential("auditor").introspects(Introspects::All);
        let auditor = authority.register(auditor).wait().expect("a client");
        let auditor =
            auditor.client_secret.map(|secret| Caller::secret("auditor", secret.expose()));
        let (public, auditor) = (Caller::public("public"), auditor.expect("a secret"));
        Bench { authority, app: registered.client_id, caller, public, auditor }
    }

    fn refresh_token(&self, subject: &str) -> String {
        let public = ClientId::new("public").expect("an id");
        let issued = self.authority.issue(Issue::to(subject, &public)).wait().expect("issued");
        issued.refresh_token.expect("a refresh token").expose().to_owned()
    }

    fn code(&self, subject: &str) -> String {
        let request = AuthorizationRequest {
            response_type: Some("code"),
            client_id: Some("app"),
            redirect_uri: Some(CB),
            ..AuthorizationRequest::default()
        };
        let request = self.authority.authorize(&request).expect("a request");
        let login = Login::now(subject, &self.authority).expect("a login");
        let url = self.authority.approve(&request, &login, "api refresh_token").wait();
        let url = url.expect("approved");
        url.expose().split(['=', '&']).nth(1).expect("a code").to_owned()
    }

    fn grants<M: Measurement>(&self, group: &mut BenchmarkGroup<'_, M>) {
        group.bench_function("client_credentials", |b| {
            let request = TokenRequest::client_credentials(&self.caller);
            b.iter(|| {
                let issued = self.authority.token(black_box(&request)).wait().expect("issued");
                assert!(issued.access_token.expose().len() > 40);
                black_box(issued)
            });
        });
        group.bench_function("issue", |b| {
            b.iter(|| {
                let issue = Issue::to("ann", black_box(&self.app)).without_refresh();
                black_box(self.authority.issue(issue).wait().expect("issued"))
            });
        });
        group.bench_function("authorization_code", |b| {
            let ask = |code: String| {
                let request = TokenRequest::code(&code, &self.caller).redirect_uri(CB);
                self.authority.token(&request).wait().expect("redeemed")
            };
            // A user has room for few codes at a time.
            let mut n = 0_u64;
            let code = || {
                n += 1;
                self.code(&format!("user-{n}"))
            };
            b.iter_batched(code, |code| black_box(ask(code)), BatchSize::SmallInput);
        });
        group.bench_function("refresh", |b| {
            let mut token = self.refresh_token("ann");
            b.iter(|| {
                let request = TokenRequest::refresh(&token, &self.public);
                let issued = self.authority.token(&request).wait().expect("refreshed");
                token = issued.refresh_token.expect("rotates").expose().to_owned();
            });
        });
        group.bench_function("revoke_subject", |b| {
            let mut n = 0_u64;
            let subject = || {
                n += 1;
                let subject = format!("gone-{n}");
                self.refresh_token(&subject);
                subject
            };
            let revoke = |subject: String| {
                self.authority.revoke(Target::Subject(&subject)).wait().expect("revoked");
            };
            b.iter_batched(subject, revoke, BatchSize::SmallInput);
        });
    }

    /// The grants in which nobody logs in on a page of the authority's.
    fn other_grants<M: Measurement>(&self, group: &mut BenchmarkGroup<'_, M>) {
        // What ann has approved stands.
        let issue = Issue::to("ann", &self.app);
        let held = self.authority.issue(issue).wait().expect("issued");
        let key = EncodingKey::from_ed_pem(ED25519.as_bytes()).expect("a key");
        let mut n = 0_u64;
        let mut assertion = || {
            n += 1;
            let claims = serde_json::json!({"iss": "app", "sub": "ann", "aud": ISSUER,
                "jti": n.to_string(), "exp": jsonwebtoken::get_current_timestamp() + 60});
            encode(&Header::new(jsonwebtoken::Algorithm::EdDSA), &claims, &key).expect("signed")
        };
        group.bench_function("jwt_bearer", |b| {
            let nobody = Caller::nobody();
            let ask = |assertion: String| {
                let request = TokenRequest::jwt_bearer(&assertion, &nobody);
                self.authority.token(&request).wait().expect("issued")
            };
            b.iter_batched(&mut assertion, |text| black_box(ask(text)), BatchSize::SmallInput);
        });
        group.bench_function("device_authorization", |b| {
            let request = DeviceRequest::new();
            b.iter(|| {
                let shown = self.authority.authorize_device(black_box(&request), &self.caller);
                black_box(shown.wait().expect("begun"))
            });
        });
        group.bench_function("device_code", |b| {
            let mut n = 0_u64;
            let approved = || {
                n += 1;
                let begun = self.authority.authorize_device(&DeviceRequest::new(), &self.caller);
                let shown = begun.wait().expect("begun");
                let prompt = self.authority.device_prompt(&shown.user_code.to_string(), None);
                let login = Login::now(format!("user-{n}"), &self.authority).expect("a login");
                let prompt = prompt.wait().expect("waits");
                let agreed = self.authority.approve_device(&prompt, &login, "api refresh_token");
                agreed.wait().expect("agreed");
                shown.device_code
            };
            let poll = |code: mintage::secret::SecretText| {
                let request = TokenRequest::device(code.expose(), &self.caller);
                self.authority.token(&request).wait().expect("redeemed")
            };
            b.iter_batched(approved, |code| black_box(poll(code)), BatchSize::SmallInput);
        });
        group.bench_function("token_exchange", |b| {
            let exchange = Exchange::of(held.access_token.expose(), TokenType::AccessToken);
            let request = TokenRequest::exchange(exchange, &self.caller);
            b.iter(|| {
                let issued = self.authority.token(black_box(&request)).wait().expect("exchanged");
                assert!(issued.issued_token_type.is_some());
                black_box(issued)
            });
        });
        group.bench_function("password", |b| {
            let request = TokenRequest::password("ann", "right", &self.caller);
            b.iter(|| black_box(self.authority.token(black_box(&request)).wait().expect("issued")));
        });
        group.bench_function("code_credentials", |b| {
            let request = AuthorizationRequest {
                response_type: Some("code_credentials"),
                client_id: Some("app"),
                redirect_uri: Some(CB),
                ..AuthorizationRequest::default()
            };
            let mut n = 0_u64;
            // A user has room for few codes at a time.
            let user = || {
                n += 1;
                let user = format!("typed-{n}");
                self.authority.issue(Issue::to(&user, &self.app)).wait().expect("issued");
                user
            };
            let ask = |user: String| {
                let typed = CodeCredentials {
                    request,
                    username: Some(&user),
                    password: Some("right"),
                    ..CodeCredentials::default()
                };
                self.authority.code_credentials(&typed).wait().expect("a code")
            };
            b.iter_batched(user, |user| black_box(ask(user)), BatchSize::SmallInput);
        });
    }

    fn lookups<M: Measurement>(&self, group: &mut BenchmarkGroup<'_, M>) {
        let request = TokenRequest::client_credentials(&self.caller);
        let tokens: Vec<String> = (0..STANDING)
            .map(|_| {
                let issued = self.authority.token(&request).wait().expect("issued");
                issued.access_token.expose().to_owned()
            })
            .collect();
        let mut at = 0;
        let mut next = || {
            at = (at + 7_919) % STANDING;
            &tokens[at]
        };
        group.bench_function("introspect", |b| {
            b.iter(|| {
                let shown = self.authority.introspect(next(), &self.auditor).wait();
                assert!(shown.expect("answered").is_active());
            });
        });
        group.bench_function("introspect-json", |b| {
            b.iter(|| {
                let shown = self.authority.introspect(next(), &self.auditor).wait();
                black_box(shown.expect("answered").to_json())
            });
        });
        group.bench_function("verify_live", |b| {
            b.iter(|| black_box(self.authority.verify_live(next()).wait().expect("live")));
        });
    }
}

/// Any name, with one password.
fn check(credentials: &PasswordCredentials<'_>) -> Option<Subject> {
    (credentials.password == "right").then(|| Subject::new(credentials.username).ok())?
}

fn builder() -> Builder {
    Authority::builder(ISSUER).code_secs(900).passwords(check)
}

fn in_memory() -> Authority<MemoryStore> {
    let root = RootKey::from_bytes(1, [7; 32]);
    builder().in_memory(root).expect("an authority")
}

fn main() {
    let is_wanted = |name: &str| {
        let mut words = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).peekable();
        words.peek().is_none()
            || words.any(|word| name.starts_with(&word) || word.starts_with(name))
    };
    let mut criterion = Criterion::default().with_measurement(CpuTime).configure_from_args();
    for (name, format) in [("memory-opaque", TokenFormat::Opaque), ("memory-jwt", TokenFormat::Jwt)]
    {
        if is_wanted(name) {
            let bench = Bench::new(in_memory(), format);
            let mut group = criterion.benchmark_group(name);
            group.throughput(ONE);
            bench.grants(&mut group);
            bench.other_grants(&mut group);
            bench.lookups(&mut group);
            group.finish();
        }
    }
    criterion.final_summary();

    if is_wanted("disk-opaque") {
        let dir = tempfile::tempdir().expect("a directory");
        let root = RootKey::from_bytes(1, [7; 32]);
        let builder = builder().durable(DurableOptions::default());
        let authority = builder.open(dir.path(), root).expect("an authority");
        let bench = Bench::new(authority, TokenFormat::Opaque);
        let mut criterion = Criterion::default().configure_from_args();
        let mut group = criterion.benchmark_group("disk-opaque");
        group.throughput(ONE);
        bench.grants(&mut group);
        bench.other_grants(&mut group);
        group.finish();
        criterion.final_summary();
        bench.authority.close().expect("closed");
    }
}
