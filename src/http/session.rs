//! A client's session, as its requests carry it: payloads in the field `causal_payload` and in the
//! header `Causal-Payload`, several with commas between them or in several lines.
//!
//! A client may have several payloads: from two tabs, from reads that it made at the same time,
//! from a link that somebody sent. A request joins all that it carries.

use super::body::CAUSAL_PAYLOAD;
use super::problem::Problem;
use crate::protocol::context::Context;
use crate::protocol::payload::{Codec, MAX_ENTRIES};
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, IF_MATCH, IF_NONE_MATCH};

/// The most payloads of one request. Each has to be authenticated.
const MAX_PAYLOADS: usize = 64;

/// What the payloads of a request's headers have seen; `None` when there is no such header.
///
/// # Errors
/// When one of them is none of this cluster, or there are too many.
pub fn of_headers(headers: &HeaderMap, codec: &Codec) -> Result<Option<Context>, Problem> {
    let mut joined = None;
    let mut count = 0;
    for line in headers.get_all(CAUSAL_PAYLOAD) {
        let line = line
            .to_str()
            .map_err(|_| Problem::foreign_payload("it has characters that no payload has"))?;
        let texts = line
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty());
        for text in texts {
            count += 1;
            if count > MAX_PAYLOADS {
                return Err(Problem::bad(format!(
                    "the request has more than {MAX_PAYLOADS} payloads: join some of them with a read first"
                )));
            }
            join(&mut joined, seen(text, codec)?)?;
        }
    }
    Ok(joined)
}

/// What one payload has seen.
///
/// # Errors
/// When it is none of this cluster.
pub fn seen(text: &str, codec: &Codec) -> Result<Context, Problem> {
    let read = codec.decode(text);
    read.map_err(|why| Problem::foreign_payload(&why.to_string()))
}

/// Adds what another payload of a request has seen.
///
/// # Errors
/// When together they name more logs than a payload can.
pub fn join(joined: &mut Option<Context>, more: Context) -> Result<(), Problem> {
    let Some(both) = joined else {
        *joined = Some(more);
        return Ok(());
    };
    both.join(&more);
    if both.len() > MAX_ENTRIES {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "the payloads together name more than {MAX_ENTRIES} logs of writes that not every replica has yet: send \
                 fewer of them, or wait until all nodes are up"
            ),
        ));
    }
    Ok(())
}

/// Refuses what a causal store cannot promise: a condition on the newest value. Both sides of a
/// split take writes, so that neither knows the newest.
///
/// # Errors
/// When a request has such a condition.
pub fn unconditional(headers: &HeaderMap) -> Result<(), Problem> {
    let condition = [IF_MATCH, IF_NONE_MATCH];
    match condition.iter().find(|name| headers.contains_key(*name)) {
        None => Ok(()),
        Some(name) => Err(Problem::bad(format!(
            "{name} is not for /kvs, which takes writes on both sides of a split and cannot compare with the newest \
             value: leave it out, or use /keys, whose ETags are linearizable"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::clock::Timestamp;
    use crate::protocol::cluster::{Cluster, ClusterId, PayloadKey};
    use crate::protocol::ids::{LogId, MemberId};
    use actix_web::http::header::HeaderValue;

    /// A session that has seen so much of some logs.
    fn seen_of(logs: std::ops::Range<u16>, seq: u64) -> Context {
        let mut context = Context::at(Timestamp::from_ms(1_800_000_000_000 + seq), 1);
        for member in logs {
            let log = LogId {
                member: MemberId(member),
                incarnation: 1,
            };
            context.see(log, seq);
        }
        context
    }

    #[test]
    fn the_payloads_of_all_header_lines_are_joined() {
        let codec = Codec::new(
            &Cluster {
                id: ClusterId([1; 16]),
                key: PayloadKey([1; 32]),
                former: None,
            },
            None,
        );
        let mut headers = HeaderMap::new();
        assert_eq!(of_headers(&headers, &codec).unwrap(), None);
        let add = |headers: &mut HeaderMap, text: &str| {
            headers.append(CAUSAL_PAYLOAD, HeaderValue::from_str(text).unwrap());
        };
        let [a, b, c] = [seen_of(0..2, 5), seen_of(1..3, 9), seen_of(7..8, 1)];
        let [text_a, text_b, text_c] = [&a, &b, &c].map(|seen| codec.encode(seen));
        add(&mut headers, &format!(" {text_a} , ,{text_b}"));
        add(&mut headers, "");
        add(&mut headers, &text_c);
        let mut all = a;
        all.join(&b);
        all.join(&c);
        assert_eq!(of_headers(&headers, &codec).unwrap(), Some(all));
        add(&mut headers, "AAAA");
        assert!(of_headers(&headers, &codec).is_err());
    }

    #[test]
    fn payloads_that_name_too_much_together_are_refused() {
        let mut joined = None;
        let half = MAX_ENTRIES as u16 / 2;
        join(&mut joined, seen_of(0..half, 1)).unwrap();
        join(&mut joined, seen_of(half..2 * half, 1)).unwrap();
        assert_eq!(joined.as_ref().map(Context::len), Some(MAX_ENTRIES));
        join(&mut joined, seen_of(0..1, 2)).unwrap();
        assert!(join(&mut joined, seen_of(2 * half..2 * half + 1, 1)).is_err());
    }
}
