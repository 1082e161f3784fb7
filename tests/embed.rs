//! The example of an axum app with an authority inside, asked over HTTP.

mod support;

#[path = "../examples/embed_axum.rs"]
#[allow(dead_code, reason = "the example is a program of its own")]
mod example;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use mintage::authority::{Authority, Client, GrantType};
use support::{Boxed, ISSUER, Tested, root};

const CB: &str = "https://app.example/cb";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// One request, and the whole answer.
fn http(at: SocketAddr, head: &str, body: &str) -> Result<String, Boxed> {
    let mut stream = TcpStream::connect(at)?;
    let form = "Content-Type: application/x-www-form-urlencoded";
    let (first, rest) = head.split_once('\n').unwrap_or((head, ""));
    let rest: String = rest.lines().map(|line| format!("{line}\r\n")).collect();
    let len = body.len();
    write!(stream, "{first} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{form}\r\n")?;
    write!(stream, "{rest}Content-Length: {len}\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The value of a member of a flat JSON object, or of a parameter.
fn value<'a>(answer: &'a str, before: &str) -> Result<&'a str, Boxed> {
    let rest = answer.split(before).nth(1).ok_or_else(|| format!("no {before} in {answer}"))?;
    Ok(rest.split(['"', '&', '\r']).next().unwrap_or(rest))
}

#[test]
fn the_axum_example_serves_the_code_flow_introspection_and_its_route() -> Tested {
    let authority = Authority::builder(ISSUER).in_memory(root())?;
    let app = Client::public("app")
        .grants([GrantType::AuthorizationCode, GrantType::RefreshToken])
        .redirect_uris([CB])
        .scopes(["api", "refresh_token"]);
    authority.register(app).wait()?;
    let api = Client::confidential("api").introspects(mintage::authority::Introspects::All);
    let secret = authority.register(api).wait()?.client_secret.ok_or("no secret")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_io().build()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
    let at = listener.local_addr()?;
    let served = authority.clone();
    runtime.spawn(async move { axum::serve(listener, example::app(served)).await });

    let asked = format!(
        "response_type=code&client_id=app&redirect_uri={CB}&state=s1\
         &code_challenge={CHALLENGE}&code_challenge_method=S256"
    );
    let path = format!("/authorize?{asked}");
    assert!(http(at, &format!("GET {path}"), "")?.contains("log in first"));
    let page = http(at, &format!("GET {path}\nX-User: ann"), "")?;
    assert!(page.contains("consent to api refresh_token?"), "{page}");
    let agreed = http(at, "POST /authorize\nX-User: ann", &asked)?;
    assert!(agreed.starts_with("HTTP/1.1 303") && agreed.contains("state=s1"), "{agreed}");
    let code = value(&agreed, "code=")?;

    let redeem = format!(
        "grant_type=authorization_code&client_id=app&code={code}&redirect_uri={CB}\
         &code_verifier={VERIFIER}"
    );
    let issued = http(at, "POST /token", &redeem)?;
    assert!(issued.starts_with("HTTP/1.1 200") && issued.contains("no-store"), "{issued}");
    let token = value(&issued, "\"access_token\":\"")?;
    // What was approved once is not asked again.
    assert!(http(at, &format!("GET {path}\nX-User: ann"), "")?.starts_with("HTTP/1.1 303"));

    let me = http(at, &format!("GET /me\nAuthorization: Bearer {token}"), "")?;
    assert!(me.starts_with("HTTP/1.1 200") && me.ends_with("ann"), "{me}");
    let nobody = http(at, "GET /me", "")?;
    assert!(nobody.starts_with("HTTP/1.1 401"), "{nobody}");
    assert!(nobody.to_lowercase().contains("www-authenticate: bearer"), "{nobody}");

    let ask = format!("client_id=api&client_secret={}&token={token}", secret.expose());
    assert!(http(at, "POST /introspect", &ask)?.contains("\"active\":true"));
    // A code that comes back ends what it gave.
    let again = http(at, "POST /token", &redeem)?;
    assert!(again.starts_with("HTTP/1.1 400") && again.contains("invalid_grant"), "{again}");
    assert!(http(at, "POST /introspect", &ask)?.contains("\"active\":false"));
    let ended = http(at, &format!("GET /me\nAuthorization: Bearer {token}"), "")?;
    assert!(ended.starts_with("HTTP/1.1 401"), "{ended}");

    // What is wrong with the client goes to nobody; the rest goes to the client.
    let stranger = path.replace("client_id=app", "client_id=none");
    assert!(http(at, &format!("GET {stranger}"), "")?.starts_with("HTTP/1.1 401"));
    let wrong = http(at, &format!("GET {path}&scope=admin"), "")?;
    assert!(wrong.contains("error=invalid_scope"), "{wrong}");
    let twice = http(at, "POST /token", &format!("{redeem}&code={code}"))?;
    assert!(twice.contains("invalid_request"), "{twice}");
    runtime.shutdown_background();
    Ok(())
}
