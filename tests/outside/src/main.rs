//! What a service does with the library: open, register, issue, check, revoke.

use mintage::authority::{
    Authority, Caller, Client, Introspects, Issue, Scratch, Target, TokenFormat,
};
use mintage::root_key::RootKey;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).ok_or("usage: outside DIRECTORY")?;
    let root = RootKey::from_file(format!("{dir}.key"))?;
    let authority = Authority::builder("https://login.example.com").open(&dir, root)?;

    let client = Client::confidential("reports").scopes(["api"]).introspects(Introspects::All);
    let reports = authority.register(client).wait()?;
    let secret = reports.client_secret.ok_or("a confidential client has a secret")?;
    let caller = Caller::secret(&reports.client_id, secret.expose());
    let jwts = Client::public("app").scopes(["api"]).format(TokenFormat::Jwt);
    let app = authority.register(jwts).wait()?;

    let opaque = authority.issue(Issue::to("user-42", &reports.client_id)).wait()?;
    let jwt = authority.issue(Issue::to("user-42", &app.client_id).scope("api")).wait()?;

    let mut scratch = Scratch::new();
    let claims = authority.verify(jwt.access_token.expose(), &mut scratch)?;
    assert_eq!((claims.subject(), claims.scope()), ("user-42", "api"));
    assert!(authority.introspect(opaque.access_token.expose(), &caller).wait()?.is_active());
    authority.revoke(Target::Subject("user-42")).wait()?;
    assert!(!authority.introspect(opaque.access_token.expose(), &caller).wait()?.is_active());
    assert!(authority.verify_live(jwt.access_token.expose()).wait().is_err());
    authority.close()?;
    println!("issued, verified, introspected, revoked");
    Ok(())
}
