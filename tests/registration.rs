//! Laws of dynamic registration.

mod support;

use mintage::authority::{
    Answer, AuthMethod, AuthorizationRequest, CHILDREN_MAX, Caller, Client, Error, GrantType,
    Introspects, Issue, PermittedUsers, Profile, Registration, TokenFormat, TokenRequest,
};
use mintage::ids::{ClientId, Subject};
use serde_json::{Value, json};
use support::{Bed, Opener, START, Tested, access_token, refresh_token};

laws![
    a_client_registers_others_with_its_token,
    an_initial_access_token_is_the_only_one,
    a_child_stays_within_its_parent,
    an_unusable_document_registers_nothing,
    a_managed_client_reads_changes_and_ends_itself,
    a_parent_introspects_what_it_registered,
    a_client_registers_so_many,
    salesforce_reads_its_own_spelling,
];

const METADATA: &str = r#"{"redirect_uris":["https://app.example/cb"],"client_name":"App",
    "grant_types":["authorization_code","refresh_token"],"response_types":["code"],
    "token_endpoint_auth_method":"client_secret_basic","scope":"api refresh_token",
    "contacts":["a@b.example"],"logo_uri":"https://app.example/logo","client_id":"admin",
    "software_statement":"x.y.z"}"#;

fn gateway<O: Opener>(
    bed: &Bed<O>,
    id: &str,
) -> Result<(ClientId, String), Box<dyn std::error::Error>> {
    let draft = Client::confidential(id)
        .grants([
            GrantType::AuthorizationCode,
            GrantType::RefreshToken,
            GrantType::ClientCredentials,
        ])
        .scopes(["api", "web", "refresh_token"])
        .format(TokenFormat::Jwt)
        .introspects(Introspects::OwnAndChildren)
        .permitted_users(PermittedUsers::Listed(vec![Subject::new("ann")?]));
    let (client, _) = bed.register(draft)?;
    let token = bed.authority().renew_initial_access_token(&client).wait()?;
    Ok((client, token.expose().to_owned()))
}

fn register<O: Opener>(bed: &Bed<O>, json: &str, token: &str) -> Result<Registration, Error> {
    bed.authority().register_dynamic(json, token).wait()
}

fn body(registration: &Registration) -> Result<Value, serde_json::Error> {
    serde_json::from_str(registration.to_json().expose())
}

fn management(registration: &Registration) -> Result<String, Box<dyn std::error::Error>> {
    let token = registration.registration_access_token.as_ref().ok_or("no token")?;
    Ok(token.expose().to_owned())
}

fn a_client_registers_others_with_its_token(opener: impl Opener) -> Tested {
    let mut bed = Bed::with(opener, |builder| builder.registration_uri("https://as.example/reg"))?;
    let (parent, token) = gateway(&bed, "gateway")?;
    bed.reopen()?;
    let app = register(&bed, METADATA, &token)?;
    let id = app.client_id.as_str();
    assert!(id.starts_with("mci_") && id.len() == 26);
    let secret = app.client_secret.as_ref().ok_or("no secret")?.expose();
    let told = body(&app)?;
    let uri =
        format!("https://as.example/reg/{}", base64_simd::URL_SAFE_NO_PAD.encode_to_string(id));
    let wanted = json!({
        "client_id": id, "client_secret": secret, "client_id_issued_at": START,
        "client_secret_expires_at": 0, "registration_access_token": management(&app)?,
        "registration_client_uri": uri, "client_name": "App",
        "token_endpoint_auth_method": "client_secret_basic",
        "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
        "redirect_uris": ["https://app.example/cb"], "scope": "api refresh_token",
    });
    assert_eq!(told, wanted);
    assert!(!format!("{app:?}").contains(secret) && !format!("{app:?}").contains("mgt_"));
    bed.reopen()?;
    let known = bed.authority().client(&app.client_id).ok_or("unknown")?;
    assert_eq!((known.parent(), known.format()), (Some(&parent), TokenFormat::Jwt));
    // It is a client like any other.
    let asked = AuthorizationRequest {
        response_type: Some("code"),
        client_id: Some(id),
        code_challenge: Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        code_challenge_method: Some("S256"),
        ..AuthorizationRequest::default()
    };
    bed.authority().authorize(&asked)?;
    let issued = bed.issue("ann", &app.client_id)?;
    bed.refresh(&refresh_token(&issued)?, &Caller::secret(id, secret))?;
    let eve = bed.authority().issue(Issue::to("eve", &app.client_id)).wait();
    assert!(matches!(eve, Err(Error::AccessDenied(_))), "the parent's users alone");
    Ok(())
}

fn an_initial_access_token_is_the_only_one(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let (parent, first) = gateway(&bed, "gateway")?;
    let (_, other) = gateway(&bed, "other")?;
    let refused = |bed: &Bed<_>, token: &str| {
        matches!(register(bed, METADATA, token), Err(Error::InvalidToken(_)))
    };
    let renewed = bed.authority().renew_initial_access_token(&parent).wait()?;
    bed.reopen()?;
    assert!(refused(&bed, &first));
    let app = register(&bed, METADATA, renewed.expose())?;
    let (start, last) = renewed.expose().split_at(20);
    let bent = format!("{}{}{last}", &start[..19], if start.ends_with('A') { "B" } else { "A" });
    let managed = management(&app)?;
    let secret = app.client_secret.as_ref().ok_or("no secret")?.expose();
    let foreign = format!("{}{}", &other[..47], &renewed.expose()[47..]);
    for wrong in ["", "mit_", "x", &bent, &managed, secret, &foreign, &renewed.expose()[4..]] {
        assert!(refused(&bed, wrong), "{wrong}");
    }
    bed.authority().block_client(&parent).wait()?;
    assert!(refused(&bed, renewed.expose()));
    bed.authority().unblock_client(&parent).wait()?;
    register(&bed, METADATA, renewed.expose())?;
    bed.authority().drop_initial_access_token(&parent).wait()?;
    assert!(refused(&bed, renewed.expose()));
    bed.reopen()?;
    assert!(refused(&bed, renewed.expose()));
    // What was registered before stays.
    assert!(bed.authority().client(&app.client_id).is_some());
    let nobody = bed.authority().renew_initial_access_token(&ClientId::new("nobody")?).wait();
    assert!(matches!(nobody, Err(Error::InvalidClient(_))));
    Ok(())
}

fn with(changes: &Value) -> String {
    let mut metadata: Value = serde_json::from_str(METADATA).unwrap_or_default();
    for (name, value) in changes.as_object().into_iter().flatten() {
        metadata[name] = value.clone();
    }
    metadata.to_string()
}

fn a_child_stays_within_its_parent(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (parent, token) = gateway(&bed, "gateway")?;
    for more in [
        json!({"scope": "api admin"}),
        json!({"grant_types": ["client_credentials", "urn:x"]}),
        json!({"token_endpoint_auth_method": "none", "grant_types": ["client_credentials"]}),
    ] {
        let refused = register(&bed, &with(&more), &token);
        assert!(matches!(refused, Err(Error::InvalidClientMetadata(_))), "{more}");
    }
    let all = register(&bed, r#"{"redirect_uris":["https://app.example/cb"]}"#, &token)?;
    assert_eq!(body(&all)?["scope"], "api refresh_token web");
    assert_eq!(body(&all)?["grant_types"], json!(["authorization_code"]));
    let none = register(&bed, &with(&json!({"scope": ""})), &token)?;
    assert_eq!(body(&none)?["scope"], "");
    let public = register(&bed, &with(&json!({"token_endpoint_auth_method": "none"})), &token)?;
    assert!(public.client_secret.is_none());
    assert!(body(&public)?.get("client_secret_expires_at").is_none());
    let known = bed.authority().client(&public.client_id).ok_or("unknown")?;
    assert_eq!(known.methods(), [AuthMethod::None]);
    // It speaks for itself, not for whom its parent runs as, and registers nobody.
    let machine = with(&json!({"grant_types": ["client_credentials"]}));
    let machine = register(&bed, &machine, &token)?;
    let secret = machine.client_secret.as_ref().ok_or("no secret")?;
    let caller = Caller::secret(&machine.client_id, secret.expose());
    let issued = bed.authority().token(&TokenRequest::client_credentials(&caller)).wait()?;
    assert_eq!(issued.subject.as_str(), machine.client_id.as_str());
    // A parent without a grant type cannot pass it on.
    bed.authority()
        .update_client(Client::confidential("gateway").grants([]).scopes(["api"]))
        .wait()?;
    let refused = register(&bed, METADATA, &token);
    assert!(matches!(refused, Err(Error::InvalidClientMetadata(_))));
    assert!(bed.authority().client(&parent).is_some());
    Ok(())
}

fn an_unusable_document_registers_nothing(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (_, token) = gateway(&bed, "gateway")?;
    for uri in
        ["https://app.example/cb#x", "http://app.example", "javascript:x", "", "https://*.a.b"]
    {
        let refused = register(&bed, &with(&json!({"redirect_uris": [uri]})), &token).err();
        assert_eq!(refused.map(|error| error.code()), Some("invalid_redirect_uri"), "{uri}");
    }
    let long = "x".repeat(20_000);
    for bad in [
        "",
        "[]",
        r#"{"scope":7}"#,
        &with(&json!({"token_endpoint_auth_method": "tls_client_auth"})),
        &with(&json!({"response_types": ["token"]})),
        &with(&json!({"grant_types": ["implicit"]})),
        &with(&json!({"jwks": {"keys": []}, "jwks_uri": "https://a"})),
        &with(&json!({"token_endpoint_auth_method": "private_key_jwt"})),
        &with(&json!({"client_name": "x".repeat(256)})),
        &with(&json!({"x": long})),
    ] {
        let refused = register(&bed, bad, &token);
        assert!(matches!(refused, Err(Error::InvalidClientMetadata(_))), "{bad:.60}");
    }
    let signs = with(&json!({
        "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://app.example/jwks",
    }));
    let signs = register(&bed, &signs, &token)?;
    assert_eq!(body(&signs)?["jwks_uri"], "https://app.example/jwks");
    let known = bed.authority().client(&signs.client_id).ok_or("unknown")?;
    assert_eq!(known.jwks_uri(), Some("https://app.example/jwks"));
    Ok(())
}

fn a_managed_client_reads_changes_and_ends_itself(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (_, token) = gateway(&bed, "gateway")?;
    let app = register(&bed, METADATA, &token)?;
    let other = register(&bed, METADATA, &token)?;
    let (id, own, foreign) = (app.client_id.clone(), management(&app)?, management(&other)?);
    bed.reopen()?;
    let read = bed.authority().registration(&own)?;
    assert_eq!((&read.client_id, read.client_secret.is_none()), (&id, true));
    let told = body(&read)?;
    assert!(told.get("client_secret").is_none() && told["client_name"] == "App");
    let issued = bed.issue("ann", &id)?;

    let change = |changes: Value, token: &str| {
        let mut changes = changes;
        changes["client_id"] = json!(changes.get("client_id").unwrap_or(&json!(id.as_str())));
        bed.authority().update_registration(&with(&changes), token).wait()
    };
    let changed = change(json!({"client_name": "New", "scope": "api"}), &own)?;
    assert!(changed.client_secret.is_none() && changed.registration_access_token.is_none());
    assert_eq!(body(&changed)?["client_name"], "New");
    for (changes, token) in [
        (json!({"client_id": "gateway"}), &own),
        (json!({"client_id": other.client_id.as_str()}), &own),
        (json!({"scope": "api admin"}), &own),
    ] {
        let refused = change(changes, token);
        assert!(matches!(refused, Err(Error::InvalidClientMetadata(_))));
    }
    for wrong in [&foreign[..47], &token, "", &format!("{own}A")] {
        assert!(matches!(change(json!({}), wrong), Err(Error::InvalidToken(_))), "{wrong}");
        assert!(matches!(bed.authority().registration(wrong), Err(Error::InvalidToken(_))));
        let refused = bed.authority().end_registration(wrong).wait();
        assert!(matches!(refused, Err(Error::InvalidToken(_))));
    }
    // Another way to authenticate brings what it needs.
    let public = change(json!({"token_endpoint_auth_method": "none"}), &own)?;
    assert!(public.client_secret.is_none());
    let again = change(json!({}), &own)?;
    assert!(again.client_secret.is_some());

    bed.authority().end_registration(&own).wait()?;
    for _ in 0..2 {
        assert!(bed.authority().client(&id).is_none());
        assert!(!bed.is_active(&access_token(&issued), &auditor)?);
        assert!(matches!(bed.authority().registration(&own), Err(Error::InvalidToken(_))));
        bed.authority().registration(&foreign)?;
        bed.reopen()?;
    }
    Ok(())
}

fn a_parent_introspects_what_it_registered(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (parent, token) = gateway(&bed, "gateway")?;
    let app = register(&bed, METADATA, &token)?;
    let secret = bed.authority().stage_secret(&parent).wait()?;
    let caller = Caller::secret(&parent, secret.expose());
    let (_, other) =
        bed.register(Client::confidential("x").introspects(Introspects::OwnAndChildren))?;
    let issued = bed.issue("ann", &app.client_id)?;
    for token in [access_token(&issued), refresh_token(&issued)?] {
        assert!(bed.is_active(&token, &caller)?);
        assert!(!bed.is_active(&token, &other)?);
    }
    Ok(())
}

fn a_client_registers_so_many(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (_, token) = gateway(&bed, "gateway")?;
    let (_, other) = gateway(&bed, "other")?;
    // Enqueued at once, so that a group holds many.
    let authority = bed.authority();
    let tickets: Vec<_> =
        (0..CHILDREN_MAX).map(|_| authority.register_dynamic(METADATA, &token)).collect();
    let mut last = None;
    for ticket in tickets {
        last = Some(ticket.wait()?);
    }
    let refused = register(&bed, METADATA, &token).err().ok_or("registered")?;
    assert_eq!(refused.code(), "access_denied");
    let told = refused.answer(Profile::Salesforce);
    assert_eq!((told.code, told.status), ("exceeded_registration_limit", 400));
    register(&bed, METADATA, &other)?;
    bed.authority().end_registration(&management(&last.ok_or("none")?)?).wait()?;
    register(&bed, METADATA, &token)?;
    Ok(())
}

fn salesforce_reads_its_own_spelling(opener: impl Opener) -> Tested {
    let bed = Bed::with(opener, |builder| builder.profile(Profile::Salesforce))?;
    let (_, token) = gateway(&bed, "gateway")?;
    let app = register(&bed, METADATA, &token)?;
    assert_eq!(body(&app)?["scopes"], json!(["api", "refresh_token"]));
    let refused = register(&bed, "{}", "mit_x").err().ok_or("registered")?;
    assert_eq!(refused.code(), "invalid_token");
    let refused = register(&bed, "[]", &token).err().ok_or("registered")?;
    let told = Answer {
        code: "registration_error",
        status: 400,
        description: "the client metadata is unusable",
    };
    assert_eq!(refused.answer(Profile::Salesforce), told);
    Ok(())
}
