//! Redirect URIs: registered whole, compared byte for byte (RFC 9700 section 2.1), and written with
//! the parameters of an answer.

use std::fmt::Write as _;
use std::sync::Arc;

use super::super::client::RegisteredClient;
use super::super::error::Error;
use super::super::profile::Profile;

/// The most redirect URIs of one client.
pub const REDIRECT_URIS_MAX: usize = 32;
/// The most bytes in all redirect URIs of one client together.
pub const REDIRECT_URIS_LEN_MAX: usize = 2_000;

/// Schemes that would run a script in the browser instead of leading somewhere.
const DANGEROUS_SCHEMES: [&str; 5] = ["javascript", "data", "vbscript", "blob", "file"];
/// The loopback addresses of RFC 8252 section 7.3.
const LOOPBACKS: [&str; 2] = ["http://127.0.0.1", "http://[::1]"];

/// Whether a text may be registered as a redirect URI: absolute, without fragment; `https`, a
/// scheme of the app's own (RFC 8252 section 7.1), or `http` on a loopback address.
pub(in crate::authority) fn is_redirect_uri(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once(':') else { return false };
    let visible = uri.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&b));
    let named = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
    let host = || {
        let authority = rest.strip_prefix("//").and_then(|rest| rest.split(['/', '?']).next());
        // A user in front of the host would hide where the URI leads.
        authority.filter(|authority| !authority.is_empty() && !authority.contains(['@', '*']))
    };
    let leads = match scheme {
        "https" => host().is_some(),
        "http" => {
            let local = |host: &str| {
                ["127.0.0.1", "[::1]", "localhost"].iter().any(|known| {
                    let port = host.strip_prefix(known).map(|port| port.strip_prefix(':'));
                    match port {
                        Some(Some(port)) => is_port(port),
                        Some(None) => host == *known,
                        None => false,
                    }
                })
            };
            host().is_some_and(local)
        }
        scheme => !DANGEROUS_SCHEMES.contains(&scheme) && !rest.is_empty(),
    };
    visible && named && leads
}

fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.parse::<u16>().is_ok_and(|port| port > 0 && !text.starts_with('0'))
}

impl RegisteredClient {
    /// Whether an answer may go to `uri`: it is registered, byte for byte, or is a registered loopback
    /// URI without a port with one (RFC 8252 section 7.3: "MUST allow any port to be specified").
    pub(super) fn has_redirect_uri(&self, uri: &str) -> bool {
        let registered = &self.settings.redirect_uris;
        registered.iter().any(|known| known == uri || is_with_port(known, uri))
    }
}

fn is_with_port(known: &str, uri: &str) -> bool {
    LOOPBACKS.iter().any(|loopback| {
        let (Some(known), Some(rest)) = (known.strip_prefix(loopback), uri.strip_prefix(loopback))
        else {
            return false;
        };
        let Some(rest) = rest.strip_prefix(':') else { return false };
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (port, path) = rest.split_at(end);
        !known.starts_with(':') && is_port(port) && path == known
    })
}

/// Where an answer goes, and what goes with every answer there.
#[derive(Clone, Debug)]
pub(super) struct Redirect {
    pub(super) uri: String,
    pub(super) state: Option<String>,
    pub(super) issuer: Arc<str>,
    /// Whether the answer stands in the fragment, where no server sees it.
    pub(super) in_fragment: bool,
}

impl Redirect {
    /// The URL with `parameters`, the state, and the issuer (RFC 9207).
    pub(super) fn url(&self, parameters: &[(&str, &str)]) -> String {
        let mut url = self.uri.clone();
        let state = self.state.as_deref().map(|state| ("state", state));
        let all = parameters.iter().copied().chain(state).chain([("iss", &*self.issuer)]);
        let start = if self.in_fragment { '#' } else { '?' };
        for (name, value) in all {
            // No registered URI has a fragment.
            url.push(if url.contains(start) { '&' } else { start });
            url.push_str(name);
            url.push('=');
            push_encoded(&mut url, value);
        }
        url
    }

    /// Whether it leads to an app, by a scheme of its own (RFC 8252 section 7.1).
    pub(super) fn is_of_an_app(&self) -> bool {
        !["https:", "http:"].iter().any(|web| self.uri.starts_with(web))
    }

    /// The URL that tells a client of a refusal (RFC 6749 section 4.1.2.1).
    pub(super) fn refusal(&self, error: &Error, profile: Profile) -> String {
        let answer = error.answer(profile);
        self.url(&[("error", answer.code), ("error_description", answer.description)])
    }
}

/// `application/x-www-form-urlencoded`, with `%20` for a space: every reader takes it.
pub(in crate::authority) fn push_encoded(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_registered() {
        for good in [
            "https://app.example/cb",
            "https://app.example",
            "https://app.example:8443/cb?a=b",
            "com.example.app:/cb",
            "myapp://cb",
            "http://127.0.0.1/cb",
            "http://localhost:8080/cb",
            "http://[::1]:1/",
        ] {
            assert!(is_redirect_uri(good), "{good}");
        }
        for bad in [
            "",
            "app.example/cb",
            "/cb",
            "https:",
            "https://",
            "https:///cb",
            "https://app.example/cb#x",
            "https://app.example/c b",
            "https://*.app.example/cb",
            "https://app.example@evil.example/cb",
            "HTTPS://app.example/cb",
            "http://app.example/cb",
            "http://127.0.0.1.evil.example/cb",
            "http://localhost.evil.example/",
            "http://localhost:/cb",
            "http://localhost:99999/cb",
            "javascript:alert(1)",
            "data:text/html,x",
            "https://app.example/\u{e9}",
        ] {
            assert!(!is_redirect_uri(bad), "{bad}");
        }
    }

    #[test]
    fn a_loopback_may_have_any_port_and_nothing_else() {
        let known = "http://127.0.0.1/cb";
        assert!(is_with_port(known, "http://127.0.0.1:49152/cb"));
        assert!(is_with_port("http://[::1]", "http://[::1]:8080"));
        for other in [
            "http://127.0.0.1:/cb",
            "http://127.0.0.1:0/cb",
            "http://127.0.0.1:01/cb",
            "http://127.0.0.1:70000/cb",
            "http://127.0.0.1:80@evil.example/cb",
            "http://127.0.0.1:80.evil.example/cb",
            "http://127.0.0.1:80/cb/more",
            "http://127.0.0.1:80/CB",
            "http://127.0.0.2:80/cb",
            "http://localhost:80/cb",
            "https://127.0.0.1:80/cb",
        ] {
            assert!(!is_with_port(known, other), "{other}");
        }
        assert!(!is_with_port("http://127.0.0.1:80/cb", "http://127.0.0.1:81/cb"));
        assert!(!is_with_port("https://app.example/cb", "https://app.example:81/cb"));
    }

    #[test]
    fn an_answer_is_written_into_the_uri() {
        let redirect = |uri: &str, state: Option<&str>| Redirect {
            uri: uri.to_owned(),
            state: state.map(str::to_owned),
            issuer: Arc::from("https://as.example"),
            in_fragment: false,
        };
        assert_eq!(
            redirect("https://a.example/cb?x=1", Some("a&b=c\u{e9} +")).url(&[("code", "c/1")]),
            "https://a.example/cb?x=1&code=c%2F1&state=a%26b%3Dc%C3%A9%20%2B\
             &iss=https%3A%2F%2Fas.example"
        );
        assert_eq!(
            redirect("app:/cb", None).url(&[("code", "1")]),
            "app:/cb?code=1&iss=https%3A%2F%2Fas.example"
        );
        let in_fragment =
            Redirect { in_fragment: true, ..redirect("https://a.example/cb?x=1", None) };
        assert_eq!(
            in_fragment.url(&[("a", "?&"), ("b", "#")]),
            "https://a.example/cb?x=1#a=%3F%26&b=%23&iss=https%3A%2F%2Fas.example"
        );
    }
}
