//! R9 as a table: whatever is revoked, each kind of token that it reaches is dead on each path, now
//! and after reopening; and what it does not reach lives.

mod support;

use mintage::authority::{
    Authorization, AuthorizationRequest, Caller, Client, CodeCredentials, DeviceAuthorization,
    DeviceRequest, Error, Exchange, GrantType, IdentityOptions, Issued, Login, PasswordCredentials,
    RefreshPolicy, Target, TokenFormat, TokenRequest, TokenType, User,
};
use mintage::ids::{ClientId, Subject};
use support::{Bed, Boxed, Opener, Tested, access_token, refresh_token};

laws![every_scope_reaches_every_kind_on_every_path];

const CB: &str = "https://app.example/cb";

/// What is revoked, or happens that revokes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Everything,
    Client,
    RemovedClient,
    BlockedClient,
    Subject,
    Pair,
    Grant,
    Family,
    RefreshToken,
    RefreshTokenByItsClient,
    DeleteHandle,
    ReplayedRefreshToken,
    ReplayedCode,
    AccessToken,
    AccessTokenByItsClient,
}

/// What may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The access token that came with the code.
    Access,
    /// The refresh token that came with it.
    Refresh,
    /// A code that was authorized before, and is redeemed after.
    Code,
    /// A request that was checked before, and is approved after.
    Request,
    /// A request that was pushed before, and where it leads to after: what comes of it derives from it.
    Pushed,
    /// The client's own access token.
    Own,
    /// An access token that the first one was exchanged for.
    Exchanged,
    /// The first access token, exchanged after.
    Exchanging,
    /// A device whose user had agreed before, and that polls after.
    Device,
    /// A device that waited before, and whose user agrees after.
    Waiting,
    /// A code for what a user typed in the app before, redeemed after.
    Headless,
}

use Kind::{
    Access, Code, Device, Exchanged, Exchanging, Headless, Own, Pushed, Refresh, Request, Waiting,
};

const ALL: [Kind; 11] =
    [Access, Own, Exchanged, Exchanging, Code, Request, Pushed, Device, Waiting, Headless, Refresh];
/// All but the client's own.
const OF_SUBJECT: [Kind; 10] =
    [Access, Exchanged, Exchanging, Code, Request, Pushed, Device, Waiting, Headless, Refresh];
/// Of one login. What its access token was exchanged for before is a login of its own.
const OF_LOGIN: [Kind; 3] = [Access, Exchanging, Refresh];

const TABLE: [(Scope, &[Kind]); 15] = [
    (Scope::Everything, &ALL),
    (Scope::Client, &ALL),
    (Scope::RemovedClient, &ALL),
    (Scope::BlockedClient, &ALL),
    (Scope::Subject, &OF_SUBJECT),
    (Scope::Pair, &OF_SUBJECT),
    (Scope::Grant, &OF_SUBJECT),
    (Scope::Family, &OF_LOGIN),
    (Scope::RefreshToken, &OF_LOGIN),
    (Scope::RefreshTokenByItsClient, &OF_LOGIN),
    (Scope::DeleteHandle, &OF_LOGIN),
    (Scope::ReplayedRefreshToken, &OF_LOGIN),
    (Scope::ReplayedCode, &OF_LOGIN),
    (Scope::AccessToken, &[Access, Exchanging]),
    (Scope::AccessTokenByItsClient, &[Access, Exchanging]),
];

/// All that a client holds for a subject.
struct Held {
    client: ClientId,
    caller: Caller,
    subject: String,
    first_code: String,
    first: Issued,
    newest: Issued,
    code: String,
    request: Authorization,
    pushed: String,
    own: Issued,
    exchanged: Issued,
    device: DeviceAuthorization,
    waiting: DeviceAuthorization,
    headless: String,
}

fn request(client: &ClientId) -> AuthorizationRequest<'_> {
    AuthorizationRequest {
        response_type: Some("code"),
        client_id: Some(client.as_str()),
        redirect_uri: Some(CB),
        ..AuthorizationRequest::default()
    }
}

fn approve<O: Opener>(bed: &Bed<O>, on: &Authorization, subject: &str) -> Result<String, Boxed> {
    let login = Login::now(subject, &bed.authority())?;
    let url = bed.authority().approve(on, &login, "api openid refresh_token").wait()?;
    Ok(url.expose().split(['=', '&']).nth(1).ok_or("no code")?.to_owned())
}

fn redeem<O: Opener>(bed: &Bed<O>, code: &str, caller: &Caller) -> Result<Issued, Error> {
    bed.authority().token(&TokenRequest::code(code, caller).redirect_uri(CB)).wait()
}

fn exchange<O: Opener>(bed: &Bed<O>, held: &Issued, caller: &Caller) -> Result<Issued, Error> {
    let exchange = Exchange::of(held.access_token.expose(), TokenType::AccessToken);
    bed.authority().token(&TokenRequest::exchange(exchange, caller)).wait()
}

fn agree<O: Opener>(bed: &Bed<O>, device: &DeviceAuthorization, subject: &str) -> Tested {
    let prompt = bed.authority().device_prompt(&device.user_code.to_string(), None).wait()?;
    let login = Login::now(subject, &bed.authority())?;
    Ok(bed.authority().approve_device(&prompt, &login, "api refresh_token").wait()?)
}

fn poll<O: Opener>(
    bed: &Bed<O>,
    device: &DeviceAuthorization,
    caller: &Caller,
) -> Result<Issued, Error> {
    bed.authority().token(&TokenRequest::device(device.device_code.expose(), caller)).wait()
}

fn hold<O: Opener>(bed: &Bed<O>, id: &str, format: TokenFormat) -> Result<Held, Boxed> {
    let draft = Client::confidential(id)
        .grants([
            GrantType::AuthorizationCode,
            GrantType::RefreshToken,
            GrantType::ClientCredentials,
            GrantType::TokenExchange,
            GrantType::DeviceCode,
        ])
        .code_credentials()
        .refresh(RefreshPolicy::rotate())
        .pkce_required(false)
        .redirect_uris([CB])
        .format(format)
        .scopes(["api", "openid", "refresh_token"]);
    let (client, caller) = bed.register(draft)?;
    let subject = format!("user of {id}");
    let authority = bed.authority();
    let checked = authority.authorize(&request(&client))?;
    let first_code = approve(bed, &checked, &subject)?;
    let first = redeem(bed, &first_code, &caller)?;
    let newest = bed.refresh(&refresh_token(&first)?, &caller)?;
    // The retry of the refresh is over.
    authority.verify_live(&access_token(&newest)).wait()?;
    let code = approve(bed, &checked, &subject)?;
    let pushed = authority.push(&request(&client), &caller).wait()?.request_uri;
    let own = authority.token(&TokenRequest::client_credentials(&caller)).wait()?;
    let exchanged = exchange(bed, &newest, &caller)?;
    let device = authority.authorize_device(&DeviceRequest::new(), &caller).wait()?;
    agree(bed, &device, &subject)?;
    let waiting = authority.authorize_device(&DeviceRequest::new(), &caller).wait()?;
    let typed = CodeCredentials {
        request: AuthorizationRequest {
            response_type: Some("code_credentials"),
            ..request(&client)
        },
        username: Some(&subject),
        password: Some("right"),
        ..CodeCredentials::default()
    };
    let headless = authority.code_credentials(&typed).wait()?.expose().to_owned();
    Ok(Held {
        client,
        caller,
        subject,
        first_code,
        first,
        newest,
        code,
        request: checked,
        pushed,
        own,
        exchanged,
        device,
        waiting,
        headless,
    })
}

fn revoke<O: Opener>(bed: &Bed<O>, scope: Scope, held: &Held) -> Tested {
    let authority = bed.authority();
    let Held { client, caller, subject, newest, .. } = held;
    let (access, refresh) = (access_token(newest), refresh_token(newest)?);
    match scope {
        Scope::Everything => authority.revoke(Target::Everything).wait()?,
        Scope::Client => authority.revoke(Target::Client(client)).wait()?,
        Scope::RemovedClient => authority.remove_client(client).wait()?,
        Scope::BlockedClient => authority.block_client(client).wait()?,
        Scope::Subject => authority.revoke(Target::Subject(subject)).wait()?,
        Scope::Pair => authority.revoke(Target::Pair(client, subject)).wait()?,
        Scope::Grant => authority.revoke(Target::Grant(newest.grant)).wait()?,
        Scope::Family => authority.revoke(Target::Family(newest.family)).wait()?,
        Scope::RefreshToken => authority.revoke(Target::Token(&refresh)).wait()?,
        Scope::RefreshTokenByItsClient => authority.revoke_token(&refresh, caller).wait()?,
        Scope::DeleteHandle => {
            let page = authority.grants().of_subject(subject).page(10).wait()?;
            let row = page.into_iter().find(|row| row.family == newest.family).ok_or("no row")?;
            authority.revoke_by_delete_handle(row.delete_handle.expose()).wait()?;
        }
        Scope::ReplayedRefreshToken => {
            assert!(bed.refresh(&refresh_token(&held.first)?, caller).is_err());
        }
        Scope::ReplayedCode => assert!(redeem(bed, &held.first_code, caller).is_err()),
        Scope::AccessToken => authority.revoke(Target::Token(&access)).wait()?,
        Scope::AccessTokenByItsClient => authority.revoke_token(&access, caller).wait()?,
    }
    Ok(())
}

/// On which paths a kind of token lives, each by name.
fn paths<O: Opener>(
    bed: &Bed<O>,
    held: &Held,
    kind: Kind,
    auditor: &Caller,
) -> Result<Vec<(&'static str, bool)>, Boxed> {
    let authority = bed.authority();
    let access = |issued: &Issued| -> Result<_, Boxed> {
        let token = access_token(issued);
        let (subject, options) = (issued.subject.as_str(), IdentityOptions::default());
        let identity = authority.identity("mintage", subject, &token, options).wait();
        Ok(vec![
            ("introspect", bed.is_active(&token, auditor)?),
            ("verify_live", authority.verify_live(&token).wait().is_ok()),
            ("userinfo", authority.user_info(&token).wait().is_ok()),
            ("identity", identity.is_ok()),
        ])
    };
    Ok(match kind {
        Access => access(&held.newest)?,
        Own => access(&held.own)?,
        Exchanged => access(&held.exchanged)?,
        Exchanging => vec![("exchange", exchange(bed, &held.newest, &held.caller).is_ok())],
        Device => vec![("poll", poll(bed, &held.device, &held.caller).is_ok())],
        Waiting => {
            let agreed = agree(bed, &held.waiting, &held.subject).is_ok();
            vec![("agree and poll", agreed && poll(bed, &held.waiting, &held.caller).is_ok())]
        }
        Headless => vec![("redeem", redeem(bed, &held.headless, &held.caller).is_ok())],
        Refresh => {
            let token = refresh_token(&held.newest)?;
            let introspected = bed.is_active(&token, auditor)?;
            vec![
                ("introspect", introspected),
                ("refresh", bed.refresh(&token, &held.caller).is_ok()),
            ]
        }
        Code => {
            let redeemed = redeem(bed, &held.code, &held.caller);
            let live = match &redeemed {
                Ok(issued) => bed.is_active(&access_token(issued), auditor)?,
                Err(_) => false,
            };
            vec![("redeem", redeemed.is_ok()), ("introspect", live)]
        }
        Request => {
            let code = approve(bed, &held.request, &held.subject);
            let redeemed = code.is_ok_and(|code| redeem(bed, &code, &held.caller).is_ok());
            vec![("approve and redeem", redeemed)]
        }
        Pushed => {
            let known = authority.authorize_pushed(held.client.as_str(), &held.pushed).wait();
            let code = known.map(|known| approve(bed, &known, &held.subject));
            let redeemed = matches!(code, Ok(Ok(code)) if redeem(bed, &code, &held.caller).is_ok());
            vec![("approve and redeem", redeemed)]
        }
    })
}

fn user(_: &Subject) -> Option<User> {
    Some(User::default())
}

fn every_scope_reaches_every_kind_on_every_path(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, |builder| {
        let check = |credentials: &PasswordCredentials<'_>| Subject::new(credentials.username).ok();
        builder.code_secs(900).users(user).passwords(check)
    })?;
    let auditor = bed.auditor()?;
    for (scope, reached) in TABLE {
        for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
            for reopened in [false, true] {
                let name = format!("{scope:?} {format:?} {reopened}");
                let hit = hold(&bed, &name, format)?;
                let missed = hold(&bed, &format!("beside {name}"), format)?;
                revoke(&bed, scope, &hit)?;
                if reopened {
                    bed.reopen()?;
                }
                // Last what changes what lives.
                for kind in ALL {
                    let expected = !reached.contains(&kind);
                    for (path, lives) in paths(&bed, &hit, kind, &auditor)? {
                        assert_eq!(lives, expected, "{name}: {kind:?} by {path}");
                    }
                    for (path, lives) in paths(&bed, &missed, kind, &auditor)? {
                        let expected = scope != Scope::Everything;
                        assert_eq!(lives, expected, "beside {name}: {kind:?} by {path}");
                    }
                }
            }
        }
    }
    Ok(())
}
