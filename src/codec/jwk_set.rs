//! Sets of public keys of others (RFC 7517 section 5): what a client registers or publishes, and
//! what its assertions are verified with.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::jwk::Jwk;
use super::keys::{KeyError, VerifyingKey};

/// The longest text of a set, in bytes.
pub const JWK_SET_LEN_MAX: usize = 65_536;
/// The most keys that a set may list.
pub const JWK_SET_KEYS_MAX: usize = 64;

/// Public keys that verify signatures, each with its one algorithm.
#[derive(Clone, Debug, Default)]
pub struct JwkSet {
    keys: Vec<VerifyingKey>,
}

impl JwkSet {
    /// Reads a JWK Set. A key that cannot be used here is left out, as RFC 7517 section 5 has it:
    /// it is of another type, for encryption, too short or malformed. An RSA key without `alg` is
    /// for `RS256`, the default of OpenID Connect.
    ///
    /// # Errors
    /// [`KeyError::TooLong`] over [`JWK_SET_LEN_MAX`]; [`KeyError::BadJwk`] for what is no set of at
    /// most [`JWK_SET_KEYS_MAX`] objects without duplicate members; [`KeyError::PrivateMembers`]
    /// when any key of it is private or symmetric: a secret is about to leak.
    pub fn parse(json: &[u8]) -> Result<JwkSet, KeyError> {
        if json.len() > JWK_SET_LEN_MAX {
            return Err(KeyError::TooLong);
        }
        // The reader's own error may quote the text, and the text may be a secret.
        let set: RawSet = serde_json::from_slice(json)
            .map_err(|_| KeyError::BadJwk("not an object with an array of keys"))?;
        if set.keys.len() > JWK_SET_KEYS_MAX {
            return Err(KeyError::BadJwk("too many keys"));
        }
        let mut keys = Vec::new();
        for RawKey(mut members) in set.keys {
            let is = |name: &str, wanted: &str| members.get(name) == Some(&Value::from(wanted));
            if is("kty", "oct") {
                return Err(KeyError::PrivateMembers);
            }
            if is("kty", "RSA") && !members.contains_key("alg") {
                members.insert("alg".to_owned(), Algorithm::Rs256.name().into());
            }
            match VerifyingKey::from_jwk(Value::Object(members).to_string().as_bytes()) {
                Ok(key) => keys.push(key),
                Err(KeyError::PrivateMembers) => return Err(KeyError::PrivateMembers),
                Err(KeyError::Entropy(error)) => return Err(KeyError::Entropy(error)),
                Err(_) => {}
            }
        }
        Ok(JwkSet { keys })
    }

    /// The keys that can be used.
    #[must_use]
    pub fn keys(&self) -> &[VerifyingKey] {
        &self.keys
    }

    /// Whether no key of it can be used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The JSON text of the keys that can be used.
    #[must_use]
    pub fn to_json(&self) -> String {
        let keys: Vec<String> =
            self.keys.iter().filter_map(|key| key.public_jwk().map(Jwk::to_json)).collect();
        format!("{{\"keys\":[{}]}}", keys.join(","))
    }
}

impl PartialEq for JwkSet {
    fn eq(&self, other: &JwkSet) -> bool {
        self.to_json() == other.to_json()
    }
}

impl Eq for JwkSet {}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<RawKey>,
}

/// The members of one key, none of them twice.
struct RawKey(Map<String, Value>);

impl<'de> Deserialize<'de> for RawKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawKey, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = RawKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JWK")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawKey, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member twice"));
                    }
                }
                Ok(RawKey(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::keys::SigningKey;
    use crate::entropy::SeededEntropy;

    fn ed25519(kid: &str) -> Result<String, KeyError> {
        let key = SigningKey::generate(Algorithm::EdDsa, Some(kid), &SeededEntropy::new(1))?;
        Ok(key.verifying_key().public_jwk().map(Jwk::to_json).unwrap_or_default())
    }

    #[test]
    fn a_set_keeps_what_can_be_used() -> Result<(), KeyError> {
        let good = ed25519("a")?;
        let text = format!(
            r#"{{"keys":[{good},{{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}},
                {{"kty":"RSA","n":"AQAB","e":"AQAB"}},{{"kty":"OKP","use":"enc"}},{{}}],"x":1}}"#
        );
        let set = JwkSet::parse(text.as_bytes())?;
        assert_eq!(set.keys().iter().map(VerifyingKey::kid).collect::<Vec<_>>(), ["a"]);
        assert_eq!(JwkSet::parse(set.to_json().as_bytes())?.to_json(), set.to_json());
        assert!(JwkSet::parse(br#"{"keys":[]}"#)?.is_empty());
        Ok(())
    }

    #[test]
    fn an_rsa_key_without_alg_is_for_rs256_alone() -> Result<(), Box<dyn std::error::Error>> {
        let jwk = std::fs::read_to_string("tests/data/rsa2048.jwk.json")?;
        let mut members: Map<String, Value> = serde_json::from_str(&jwk)?;
        members.retain(|name, _| ["kty", "n", "e"].contains(&name.as_str()));
        let set = format!(r#"{{"keys":[{}]}}"#, Value::Object(members));
        let set = JwkSet::parse(set.as_bytes())?;
        assert_eq!(
            set.keys().iter().map(VerifyingKey::algorithm).collect::<Vec<_>>(),
            [Algorithm::Rs256]
        );
        Ok(())
    }

    #[test]
    fn what_is_no_set_of_public_keys_is_refused() -> Result<(), KeyError> {
        let good = ed25519("a")?;
        let private = good.replacen('{', r#"{"d":"AA","#, 1);
        let twice = good.replacen('{', r#"{"kid":"b","#, 1);
        let many = vec![good.as_str(); JWK_SET_KEYS_MAX + 1].join(",");
        let long = " ".repeat(JWK_SET_LEN_MAX);
        for keys in [&private, &twice, &many, r#"{"kty":"oct","k":"AA"}"#, "7", &long] {
            let text = format!(r#"{{"keys":[{keys}]}}"#);
            assert!(JwkSet::parse(text.as_bytes()).is_err(), "{text:.80}");
        }
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert!(JwkSet::parse(text.as_bytes()).is_err(), "{text}");
        }
        Ok(())
    }
}
