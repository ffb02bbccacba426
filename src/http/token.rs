//! What a client has to show for a call: a token that gives the right to make it, where one is set.

use super::problem::Problem;
use super::routes::HttpRoute;
use crate::node::tokens::{Right, Tokens};
use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use actix_web::http::{Method, StatusCode};

/// The problem of a call whose headers show no token that gives the right to make it.
pub fn refusal(
    tokens: &Tokens,
    route: HttpRoute,
    method: &Method,
    headers: &HeaderMap,
) -> Option<Problem> {
    let needed = route.right(method)?;
    // The operator's store and changes of lists need a token as soon as there is one at all.
    let guarded = tokens.guard(needed) || (tokens.are_there() && route.is_operators(method));
    if !guarded {
        return None;
    }
    let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let message = match given.map(|header| bearer(header).map(|token| tokens.right_of(token))) {
        Some(Some(Some(right))) if right >= needed => return None,
        Some(Some(Some(_))) => "that token of this cluster does not give the right to this call",
        Some(Some(None)) => "that is no API token of this cluster",
        Some(None) => "the Authorization header has no bearer token",
        None => "this call needs an API token",
    };
    let may = match needed {
        Right::Read => "reads",
        Right::Write => "writes",
        Right::Administer => "administers",
    };
    Some(Problem::titled(
        StatusCode::FORBIDDEN,
        "Unauthorized",
        format!("{message}: send `Authorization: Bearer <token>`, with one that {may}"),
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

    fn tokens(vars: &[(&str, &str)]) -> Tokens {
        let lookup = |name: &str| {
            let var = vars.iter().find(|(n, _)| *n == name);
            var.map(|(_, value)| (*value).to_owned())
        };
        Tokens::from_env(&lookup).unwrap()
    }

    fn admits(tokens: &Tokens, route: HttpRoute, method: &Method, header: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(header).unwrap());
        }
        refusal(tokens, route, method, &headers).is_none()
    }

    #[test]
    fn only_the_whole_token_of_a_bearer_is_taken() {
        let one = tokens(&[("API_TOKEN", "s3cret")]);
        let admits = |header| admits(&one, HttpRoute::Fail, &Method::POST, header);
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

    #[test]
    fn with_one_token_keys_stay_open_and_with_three_each_call_takes_its_right() {
        let one = tokens(&[("API_TOKEN", "a")]);
        let vars = [
            ("API_TOKEN", "a"),
            ("WRITE_TOKEN", "w"),
            ("READ_TOKEN", "r"),
        ];
        let three = tokens(&vars);
        // The least token that is enough: of one, of three.
        for (route, method, of_one, of_three) in [
            (HttpRoute::Kvs, Method::GET, "", "r"),
            (HttpRoute::Kvs, Method::PUT, "", "w"),
            (HttpRoute::Keys, Method::GET, "", "r"),
            (HttpRoute::Keys, Method::POST, "a", "w"),
            (HttpRoute::Read, Method::GET, "a", "r"),
            (HttpRoute::Delete, Method::DELETE, "a", "w"),
            (HttpRoute::Status, Method::GET, "", "r"),
            (HttpRoute::View, Method::GET, "", "r"),
            (HttpRoute::View, Method::PUT, "a", "a"),
            (HttpRoute::Ready, Method::GET, "", ""),
            (HttpRoute::Metrics, Method::GET, "", ""),
        ] {
            let shown: [(_, _, &[&str]); 2] = [
                (&one, of_one, &["", "a"]),
                (&three, of_three, &["", "r", "w", "a"]),
            ];
            for (tokens, least, shown) in shown {
                let mut enough = false;
                for token in shown {
                    enough |= *token == least;
                    let header = format!("Bearer {token}");
                    let header = Some(&*header).filter(|_| !token.is_empty());
                    let admitted = admits(tokens, route, &method, header);
                    assert_eq!(admitted, enough, "{method} {} {token:?}", route.path());
                }
            }
        }
    }
}
