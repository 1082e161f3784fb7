//! A token authority inside an axum app of its own: the code flow, introspection, and a route that
//! takes its tokens. The login page, the consent page and the session are the app's.
//!
//! `cargo run --example embed_axum`, then <http://127.0.0.1:8080/authorize?...>

use axum::Router;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use mintage::authority::{
    Authority, AuthorizationError, AuthorizationRequest, Client, Error, Login, Step, TokenForm,
};
use mintage::root_key::RootKey;
use mintage::store::Store;

type Pairs = Vec<(String, String)>;

/// The routes, over an authority that is open already.
pub(crate) fn app<S: Store>(authority: Authority<S>) -> Router {
    Router::new()
        .route("/authorize", get(ask::<S>).post(agree::<S>))
        .route("/token", post(token::<S>))
        .route("/introspect", post(introspect::<S>))
        .route("/me", get(me::<S>))
        .with_state(authority)
}

fn borrowed(pairs: &Pairs) -> impl Iterator<Item = (&str, &str)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

/// Whom the app's own session knows; here a proxy in front says so.
fn login<S: Store>(headers: &HeaderMap, authority: &Authority<S>) -> Option<Login> {
    Login::now(headers.get("x-user")?.to_str().ok()?, authority).ok()
}

/// The user's browser arrives: to the login page, to the consent page, or straight back.
async fn ask<S: Store>(
    State(authority): State<Authority<S>>,
    headers: HeaderMap,
    Query(pairs): Query<Pairs>,
) -> Result<Response, Refused> {
    let request = authority.authorize(&AuthorizationRequest::from_pairs(borrowed(&pairs))?)?;
    let login = login(&headers, &authority);
    let step = authority.next_step(&request, login.as_ref()).await?;
    Ok(match (step, &login) {
        (Step::Approve, Some(login)) => {
            let code = authority.approve(&request, login, request.scope().as_str()).await?;
            Redirect::to(code.expose()).into_response()
        }
        // Your page, with a form that posts what was asked, and a token against forged posts.
        (Step::Consent { new, .. }, _) => Html(format!("consent to {new}?")).into_response(),
        _ => Html("log in first").into_response(),
    })
}

/// The user has agreed on the consent page.
async fn agree<S: Store>(
    State(authority): State<Authority<S>>,
    headers: HeaderMap,
    Form(pairs): Form<Pairs>,
) -> Result<Redirect, Refused> {
    let request = authority.authorize(&AuthorizationRequest::from_pairs(borrowed(&pairs))?)?;
    let Some(login) = login(&headers, &authority) else { return Ok(Redirect::to("/login")) };
    let code = authority.approve(&request, &login, request.scope().as_str()).await?;
    Ok(Redirect::to(code.expose()))
}

/// Every grant. Where `Authority::is_slow(&caller)`, do it on a thread that may block.
async fn token<S: Store>(
    State(authority): State<Authority<S>>,
    headers: HeaderMap,
    Form(pairs): Form<Pairs>,
) -> Result<Response, Refused> {
    let form = TokenForm::from_pairs(borrowed(&pairs))?;
    let basic = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let caller = authority.caller(&form.credentials(basic, None))?;
    let issued = authority.token(&form.request(&caller)?).await?;
    Ok(json(StatusCode::OK, issued.to_json().expose().to_owned()))
}

async fn introspect<S: Store>(
    State(authority): State<Authority<S>>,
    headers: HeaderMap,
    Form(pairs): Form<Pairs>,
) -> Result<Response, Refused> {
    let basic = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let form = TokenForm::from_pairs(borrowed(&pairs))?;
    let caller = authority.caller(&form.credentials(basic, None))?;
    let token = borrowed(&pairs).find(|(name, _)| *name == "token").map_or("", |(_, token)| token);
    let shown = authority.introspect(token, &caller).await?;
    Ok(json(StatusCode::OK, shown.to_json()))
}

/// A route of the app, for whoever holds a token with the scope `api`: checked in memory.
async fn me<S: Store>(
    State(authority): State<Authority<S>>,
    headers: HeaderMap,
) -> Result<String, Refused> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let token = authority.verify_live(token).await?;
    match token.scope.has("api") {
        true => Ok(token.subject.to_string()),
        false => Err(Refused(None, StatusCode::FORBIDDEN, "insufficient_scope", "")),
    }
}

fn json(status: StatusCode, body: String) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}

/// A refusal as the RFCs have it; with a URL, the browser takes it to the client.
struct Refused(Option<String>, StatusCode, &'static str, &'static str);

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
        Refused(None, status, error.code(), error.description())
    }
}

impl From<AuthorizationError> for Refused {
    fn from(error: AuthorizationError) -> Refused {
        let Refused(_, status, code, description) = Refused::from(error.error().clone());
        Refused(error.redirect().map(str::to_owned), status, code, description)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Refused(redirect, status, code, description) = self;
        if let Some(url) = redirect {
            return Redirect::to(&url).into_response();
        }
        let body = format!(r#"{{"error":"{code}","error_description":"{description}"}}"#);
        let mut response = json(status, body);
        if status == StatusCode::UNAUTHORIZED {
            let challenge = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = RootKey::from_file("mintage-data.key")?;
    let authority = Authority::builder("http://127.0.0.1:8080").open("mintage-data", root)?;
    let client = Client::public("app").redirect_uris(["http://127.0.0.1/cb"]).scopes(["api"]);
    if authority.client(&mintage::ids::ClientId::new("app")?).is_none() {
        authority.register(client).await?;
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    Ok(axum::serve(listener, app(authority)).await?)
}
