//! The API token: what a client has to show for calls that change the cluster, and for the
//! operator's store.

use super::problem::Problem;
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use subtle::ConstantTimeEq;

/// The problem of headers that do not show the token. Comparing takes the same time however much of
/// it is right.
pub fn refusal(token: &str, headers: &HeaderMap) -> Option<Problem> {
    let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let message = match given.map(bearer) {
        Some(Some(given)) if bool::from(given.ct_eq(token.as_bytes())) => return None,
        Some(Some(_)) => "that is not this cluster's API token",
        Some(None) => "the Authorization header has no bearer token",
        None => "this call needs the API token",
    };
    Some(Problem::titled(
        StatusCode::FORBIDDEN,
        "Unauthorized",
        format!("{message}: send `Authorization: Bearer <API_TOKEN>`"),
    ))
}

/// The token in an `Authorization` header. The scheme's name is taken in any case, as RFC 9110 has
/// it.
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(b"Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(header: Option<&'static str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, HeaderValue::from_static(header));
        }
        refusal("s3cret", &headers).is_none()
    }

    #[test]
    fn only_the_whole_token_of_a_bearer_is_taken() {
        assert!(admits(Some("Bearer s3cret")));
        assert!(admits(Some("bearer  s3cret")));
        for wrong in [
            "Bearer",
            "Bearer ",
            "Bearer s3cre",
            "Bearer s3crets",
            "Bearer S3cret",
            "Basic s3cret",
            "s3cret",
            "",
        ] {
            assert!(!admits(Some(wrong)), "{wrong:?}");
        }
        assert!(!admits(None));
    }
}
