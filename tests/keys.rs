//! Laws of keys: those that sign, and the root key that everything hangs from.

mod support;

use std::fs;

use mintage::authority::{Error, OpenError, Scratch, TokenFormat};
use mintage::codec::algorithm::Algorithm;
use mintage::codec::keys::SigningKey;
use mintage::root_key::RootKey;
use mintage::store::{Listing, Store as _};
use support::{Bed, Opener, Tested, access_token, refresh_token};

laws![
    a_new_store_has_one_ed25519_key_and_keeps_it,
    rotating_keeps_what_the_old_key_signed,
    a_retired_key_is_refused_at_once,
    a_scratch_sees_new_and_retired_keys,
    every_algorithm_signs_what_it_verifies,
    a_kid_is_taken_once,
    a_retry_after_a_rotation_is_signed_by_the_active_key,
    signing_keys_lie_sealed,
    a_wrong_root_key_opens_nothing,
    a_new_root_key_version_keeps_what_lives,
    a_missing_root_key_version_is_a_refusal,
];

fn test_key(algorithm: Algorithm) -> Result<SigningKey, Box<dyn std::error::Error>> {
    let file = match algorithm {
        Algorithm::Es256 => "p256.pk8.pem",
        Algorithm::Es384 => "p384.pk8.pem",
        Algorithm::EdDsa => "ed25519.pk8.pem",
        Algorithm::Rs256 | Algorithm::Ps256 => "rsa2048.pk8.pem",
        _ => return Ok(SigningKey::hmac(Some("HS256"), &[5; 32])?),
    };
    let pem = fs::read_to_string(format!("tests/data/{file}"))?;
    Ok(SigningKey::from_pem(algorithm, Some(algorithm.name()), &pem)?)
}

fn a_new_store_has_one_ed25519_key_and_keeps_it(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    assert_eq!(bed.authority().keys().active_algorithm(), Algorithm::EdDsa);
    let (kid, jwks) = (bed.authority().keys().active_kid(), bed.authority().keys().jwks());
    let set: serde_json::Value = serde_json::from_str(&jwks)?;
    assert_eq!(set["keys"].as_array().map(Vec::len), Some(1));
    assert_eq!(set["keys"][0]["kid"], *kid);
    bed.reopen()?;
    assert_eq!(bed.authority().keys().jwks(), jwks);
    Ok(())
}

fn rotating_keeps_what_the_old_key_signed(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let (client, _) = bed.app("app", TokenFormat::Jwt)?;
    let old = access_token(&bed.issue("ann", &client)?);
    let kid = bed.authority().keys().generate(Algorithm::Es256).wait()?;
    for _ in 0..2 {
        assert_eq!(bed.authority().keys().active_kid(), kid);
        let new = access_token(&bed.issue("ann", &client)?);
        for token in [&old, &new] {
            bed.authority().verify(token, &mut Scratch::new())?;
            bed.authority().verify_live(token).wait()?;
        }
        bed.reopen()?;
    }
    Ok(())
}

fn a_retired_key_is_refused_at_once(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (client, _) = bed.app("app", TokenFormat::Jwt)?;
    let old = access_token(&bed.issue("ann", &client)?);
    let kid = bed.authority().keys().active_kid();
    let refused = bed.authority().keys().retire(&kid).wait();
    assert!(matches!(refused, Err(Error::InvalidRequest(_))));
    bed.authority().keys().generate(Algorithm::EdDsa).wait()?;
    bed.authority().keys().retire(&kid).wait()?;
    for _ in 0..2 {
        assert!(bed.authority().verify(&old, &mut Scratch::new()).is_err());
        assert!(bed.authority().verify_live(&old).wait().is_err());
        assert!(!bed.is_active(&old, &auditor)?);
        assert!(!bed.authority().keys().jwks().contains(&kid));
        bed.reopen()?;
    }
    let refused = bed.authority().keys().retire(&kid).wait();
    assert!(matches!(refused, Err(Error::InvalidRequest(_))));
    Ok(())
}

fn a_scratch_sees_new_and_retired_keys(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, _) = bed.app("app", TokenFormat::Jwt)?;
    let mut scratch = Scratch::new();
    let old = access_token(&bed.issue("ann", &client)?);
    bed.authority().verify(&old, &mut scratch)?;
    let kid = bed.authority().keys().active_kid();
    bed.authority().keys().generate(Algorithm::EdDsa).wait()?;
    let new = access_token(&bed.issue("ann", &client)?);
    bed.authority().verify(&new, &mut scratch)?;
    bed.authority().verify(&old, &mut scratch)?;
    bed.authority().keys().retire(&kid).wait()?;
    assert!(bed.authority().verify(&old, &mut scratch).is_err());
    Ok(())
}

fn every_algorithm_signs_what_it_verifies(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let (client, caller) = bed.app("app", TokenFormat::Jwt)?;
    let mut tokens = Vec::new();
    for algorithm in Algorithm::ALL {
        bed.authority().keys().import(test_key(algorithm)?).wait()?;
        assert_eq!(bed.authority().keys().active_algorithm(), algorithm);
        let issued = bed.issue("ann", &client)?;
        let refreshed = bed.refresh(&refresh_token(&issued)?, &caller)?;
        tokens.extend([access_token(&issued), access_token(&refreshed)]);
    }
    bed.reopen()?;
    for token in &tokens {
        bed.authority().verify(token, &mut Scratch::new())?;
    }
    // HMAC keys are shown to nobody.
    assert!(!bed.authority().keys().jwks().contains("HS256"));
    assert!(bed.authority().keys().generate(Algorithm::Rs256).wait().is_err());
    Ok(())
}

fn a_kid_is_taken_once(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    bed.authority().keys().import(test_key(Algorithm::Es256)?).wait()?;
    let refused = bed.authority().keys().import(test_key(Algorithm::Es256)?).wait();
    assert!(matches!(refused, Err(Error::InvalidRequest(_))));
    Ok(())
}

fn a_retry_after_a_rotation_is_signed_by_the_active_key(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, caller) = bed.app("app", TokenFormat::Jwt)?;
    let first = refresh_token(&bed.issue("ann", &client)?)?;
    let lost = bed.refresh(&first, &caller)?;
    let old = bed.authority().keys().active_kid();
    bed.authority().keys().generate(Algorithm::Es256).wait()?;
    bed.authority().keys().retire(&old).wait()?;
    let again = bed.refresh(&first, &caller)?;
    assert_eq!(refresh_token(&again)?, refresh_token(&lost)?);
    let (lost, again) = (access_token(&lost), access_token(&again));
    assert_eq!(support::payload(&again)?, support::payload(&lost)?);
    assert_ne!(again, lost);
    bed.authority().verify_live(&again).wait()?;
    Ok(())
}

fn signing_keys_lie_sealed(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let key = SigningKey::hmac(Some("shared"), b"a secret of thirty-two bytes, 32")?;
    bed.authority().keys().import(key).wait()?;
    let authority = bed.authority();
    let page = authority.store().list(Listing::Documents(2), None, 10);
    let page = mintage::store::Ticket::<_, mintage::store::StoreError>::slow(page).wait()?;
    assert_eq!(page.documents.len(), 2);
    for document in &page.documents {
        assert!(!document.body.windows(8).any(|part| part == b"a secret"));
        assert!(!document.body.windows(6).any(|part| part == b"shared"));
    }
    Ok(())
}

fn a_wrong_root_key_opens_nothing(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let right = std::mem::replace(&mut bed.root, RootKey::from_bytes(1, [9; 32]));
    let refused = bed.try_reopen()?.err().ok_or("a wrong root key opened the store")?;
    let store = matches!(&refused, OpenError::Store(error)
        if matches!(error, mintage::store::StoreError::WrongKey { .. }));
    assert!(store || matches!(refused, OpenError::WrongKey { .. }), "{refused:?}");
    assert!(refused.to_string().len() > 10);
    bed.root = right;
    bed.reopen()
}

fn a_new_root_key_version_keeps_what_lives(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let reports = mintage::authority::Client::confidential("reports").scopes(["refresh_token"]);
    let (reports, secret) = bed.register(reports)?;
    let fixed = bed.issue("ann", &reports)?;
    let mut families = Vec::new();
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let (client, caller) = bed.app(&format!("{format:?}"), format)?;
        let first = bed.issue("ann", &client)?;
        let second = bed.refresh(&refresh_token(&first)?, &caller)?;
        let listed = bed.authority().grants().of_client(&client).page(1).wait()?;
        let handle = listed.grants[0].delete_handle.clone();
        families.push((caller, first, second, handle));
    }
    bed.root = bed.root.clone().with_version(2, [8; 32])?;
    bed.reopen()?;
    for (caller, first, second, _) in &families {
        // A retry under the old version, then a redeem that moves the family to the new one.
        let again = bed.refresh(&refresh_token(first)?, caller)?;
        assert_eq!(refresh_token(&again)?, refresh_token(second)?);
        assert_eq!(access_token(&again), access_token(second));
        let third = bed.refresh(&refresh_token(second)?, caller)?;
        let retried = bed.refresh(&refresh_token(second)?, caller)?;
        assert_eq!(refresh_token(&retried)?, refresh_token(&third)?);
        for token in [access_token(first), access_token(second), access_token(&third)] {
            assert!(bed.is_active(&token, &auditor)?);
        }
        let fourth = bed.refresh(&refresh_token(&third)?, caller)?;
        let replayed = bed.refresh(&refresh_token(first)?, caller);
        assert!(matches!(replayed, Err(Error::InvalidGrant(_))));
        assert!(!bed.is_active(&access_token(&fourth), &auditor)?);
    }
    bed.refresh(&refresh_token(&fixed)?, &secret)?;
    bed.authority().revoke_by_delete_handle(families[0].3.expose()).wait()?;
    bed.reopen()?;
    bed.refresh(&refresh_token(&fixed)?, &secret)?;
    Ok(())
}

fn a_missing_root_key_version_is_a_refusal(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let old = bed.root.clone();
    bed.root = old.clone().with_version(2, [8; 32])?;
    bed.reopen()?;
    // Everything sealed is now sealed under version 2.
    bed.root = old;
    assert!(bed.try_reopen()?.is_err());
    Ok(())
}
