//! Profiles: what an authority says and takes where the RFCs and Salesforce differ.

use super::error::{Answer, Cause, Error};

/// Whose ways an authority has where they differ. The rules are the same under each: what changes is
/// what a client is told, and what is taken from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// Those of the RFCs.
    #[default]
    Standard,
    /// Those of Salesforce, for clients that were written for it. It tells an unknown client from a
    /// wrong secret, as Salesforce does, and answers refused clients with status 400.
    Salesforce,
}

/// What a client of Salesforce is told.
pub(super) fn salesforce(error: &Error) -> Answer {
    let cause = error.reason().map_or(Cause::Other, super::error::Reason::cause);
    let (code, status, description) = match (error, cause) {
        (Error::InvalidClient(_) | Error::InvalidGrant(_), Cause::UnknownClient) => {
            ("invalid_client_id", 400, "client identifier invalid")
        }
        (Error::InvalidClient(_), Cause::BasicHeader) => {
            ("invalid_basic_auth_header", 400, "invalid client credentials")
        }
        (Error::InvalidClient(_), Cause::AssertionType) => {
            ("invalid_assertion_type", 400, "invalid client credentials")
        }
        (Error::InvalidGrant(_), Cause::NotApproved) => {
            ("invalid_grant", 400, "user hasn't approved this consumer")
        }
        (_, Cause::HandlerRefused) => ("invalid_request", 400, "token handler validation failed"),
        (_, Cause::BadExchange) => ("invalid_request", 400, "invalid subject or actor token"),
        (_, Cause::WrongPasscode) => ("invalid_otp", 400, "authentication failure"),
        (_, Cause::BadHeaders) => ("invalid_request", 400, "invalid headers"),
        (_, Cause::BadUvid) => ("invalid_request", 400, "uvid invalid"),
        (_, Cause::WrongPassword) => ("invalid_grant", 400, "authentication failure"),
        (Error::InvalidGrant(_), Cause::BadAssertion) => {
            ("invalid_grant", 400, "invalid assertion")
        }
        (Error::InvalidGrant(_), Cause::WrongAudience) => {
            ("invalid_grant", 400, "audience is invalid")
        }
        (Error::InvalidGrant(_), Cause::JtiUsed) => ("bad_jti_claim", 400, "invalid assertion"),
        (Error::InvalidClient(_), Cause::JtiUsed) => {
            ("bad_jti_claim", 400, "invalid client credentials")
        }
        (_, Cause::Blocked) => ("app_blocked", 400, "invalid client credentials"),
        (_, Cause::NotAdminApproved) => {
            ("invalid_app_access", 400, "user is not admin approved to access this app")
        }
        (_, Cause::RedirectMismatch) => {
            ("redirect_uri_mismatch", 400, "redirect_uri must match configuration")
        }
        (_, Cause::RedirectMissing) => ("redirect_uri_missing", 400, "the request is malformed"),
        (_, Cause::Immediate) => ("immediate_unsuccessful", 400, "the user must be asked"),
        (_, Cause::WrongVerifier) => ("invalid_request", 400, "invalid code verifier"),
        (_, Cause::DeadCode) => ("invalid_grant", 400, "expired authorization code"),
        (_, Cause::RegistrationLimit) => {
            ("exceeded_registration_limit", 400, "too many clients were registered")
        }
        (_, Cause::HybridRotation) => {
            ("invalid_grant", 400, "hybrid tokens with JWTs need refresh tokens that stay")
        }
        (_, Cause::NothingToRevoke) => ("invalid_token", 400, "there is no such token"),
        (_, Cause::WrongOrganization) => ("Wrong_Org", 403, "the user is of another organization"),
        (_, Cause::UnknownUser) => ("Bad_Id", 404, "there is no such user"),
        (Error::InvalidClientMetadata(_) | Error::InvalidRedirectUri(_), _) => {
            ("registration_error", 400, "the client metadata is unusable")
        }
        (_, Cause::NoRunAs) => ("invalid_grant", 400, "no client credentials user enabled"),
        (Error::InvalidClient(_), _) => ("invalid_client", 400, "invalid client credentials"),
        (Error::InvalidGrant(_), _) => ("invalid_grant", 400, "expired access/refresh token"),
        (Error::UnauthorizedClient(_) | Error::UnsupportedGrantType(_), _) => {
            ("unsupported_grant_type", 400, "grant type not supported")
        }
        (Error::AccessDenied(_), _) => ("access_denied", 400, "end-user denied authorization"),
        (Error::InvalidToken(_), _) => ("INVALID_SESSION_ID", 401, "Session expired or invalid"),
        (Error::TooManyRequests(..), _) => ("temporarily_unavailable", 429, "login rate exceeded"),
        (Error::TemporarilyUnavailable(_), _) => ("service_unavailable", 503, "try again shortly"),
        _ => return error.answer(Profile::Standard),
    };
    Answer { code, status, description }
}

#[cfg(test)]
mod tests {
    use super::super::error::Reason;
    use super::*;
    use crate::store::StoreError;

    #[test]
    fn salesforce_has_words_of_its_own() {
        let reason = |cause| Reason::new("test").because(cause);
        let table = [
            (
                Error::InvalidClient(reason(Cause::UnknownClient)),
                ("invalid_client_id", 400, "client identifier invalid"),
            ),
            (
                Error::InvalidClient(reason(Cause::Other)),
                ("invalid_client", 400, "invalid client credentials"),
            ),
            (
                Error::InvalidGrant(reason(Cause::Other)),
                ("invalid_grant", 400, "expired access/refresh token"),
            ),
            (
                Error::UnauthorizedClient(reason(Cause::Other)),
                ("unsupported_grant_type", 400, "grant type not supported"),
            ),
            (
                Error::InvalidToken(reason(Cause::Other)),
                ("INVALID_SESSION_ID", 401, "Session expired or invalid"),
            ),
            (
                Error::TemporarilyUnavailable(StoreError::Busy),
                ("service_unavailable", 503, "try again shortly"),
            ),
            (
                Error::InvalidRequest(reason(Cause::Other)),
                ("invalid_request", 400, "the request is malformed"),
            ),
        ];
        for (error, (code, status, description)) in table {
            let answer = error.answer(Profile::Salesforce);
            assert_eq!(answer, Answer { code, status, description }, "{error}");
        }
        // The words of the RFCs do not change with the cause.
        let unknown = Error::InvalidClient(reason(Cause::UnknownClient));
        let wrong = Error::InvalidClient(reason(Cause::Other));
        assert_eq!(unknown.answer(Profile::Standard), wrong.answer(Profile::Standard));
    }
}
