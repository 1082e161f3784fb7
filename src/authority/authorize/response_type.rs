//! What the authorization endpoint answers with (`response_type`, RFC 6749 section 3.1.1, OAuth 2.0
//! Multiple Response Types).

/// Whether a `response_type` brings tokens through the browser; `None` for an unknown one.
pub(in crate::authority) fn needs_tokens_in_front(text: &str) -> Option<bool> {
    ResponseType::parse(text).map(ResponseType::is_front)
}

/// What is in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ResponseType {
    pub(super) code: bool,
    pub(super) token: bool,
    pub(super) id_token: bool,
    /// Salesforce's `hybrid_token`: a token with the identifiers of web sessions.
    pub(super) hybrid: bool,
}

impl ResponseType {
    /// Reads a space-delimited list, in any order.
    pub(super) fn parse(text: &str) -> Option<ResponseType> {
        let mut found = ResponseType::default();
        if text == "hybrid_token" {
            return Some(ResponseType { token: true, hybrid: true, ..found });
        }
        for one in text.split(' ').filter(|one| !one.is_empty()) {
            let place = match one {
                "code" => &mut found.code,
                "token" => &mut found.token,
                "id_token" => &mut found.id_token,
                _ => return None,
            };
            if std::mem::replace(place, true) {
                return None;
            }
        }
        (found != ResponseType::default()).then_some(found)
    }

    /// Whether tokens come through the browser: off by default, since RFC 9700 section 2.1.2 has it
    /// that they "SHOULD NOT".
    pub(super) fn is_front(self) -> bool {
        self.token || self.id_token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_sets() {
        let of = |text| ResponseType::parse(text).map(|t| (t.code, t.token, t.id_token, t.hybrid));
        assert_eq!(of("code"), Some((true, false, false, false)));
        assert_eq!(of("token id_token"), of("id_token  token"));
        assert_eq!(of("code id_token token"), Some((true, true, true, false)));
        assert_eq!(of("hybrid_token"), Some((false, true, false, true)));
        for none in ["", " ", "code code", "CODE", "code hybrid_token", "none", "code,token"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
