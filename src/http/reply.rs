//! Replies of `/kvs`: the replies to operations that were done.

use super::body::{add_payload, json, json_text};
use super::problem::Problem;
use crate::api::kvs::WriteReply;
use crate::protocol::op::{Found, Read, Written};
use crate::protocol::payload::Codec;
use crate::protocol::view::PartitionId;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use std::borrow::Cow;
use std::io::Write;

/// The answer to a read: 200 with the value, or 404.
pub fn read(read: Read, partition: PartitionId, codec: &Codec) -> Result<HttpResponse, Problem> {
    let Some(Found { value, wall_ms }) = read.found else {
        return Err(Problem::not_found(read.context, partition).stale(read.stale));
    };
    // The value is JSON text already and goes in as it is, whatever its size; a payload has no
    // character that JSON would escape.
    let payload = codec.encode(&read.context);
    let mut body = Vec::with_capacity(128 + value.len() + payload.len());
    body.extend_from_slice(br#"{"msg":"success","value":"#);
    body.extend_from_slice(&value);
    let stale = if read.stale { r#","stale":true"# } else { "" };
    // Writing to a Vec does not fail.
    let _ = write!(
        body,
        r#","partition_id":{},"causal_payload":"{payload}","timestamp":{wall_ms}{stale}}}"#,
        partition.0
    );
    let mut reply = json_text(StatusCode::OK, body);
    add_payload(&mut reply, payload);
    Ok(reply)
}

/// The answer to a write or delete that was done.
pub fn written(written: &Written, partition: PartitionId, codec: &Codec) -> HttpResponse {
    let status = if written.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let body = WriteReply {
        msg: Cow::Borrowed("success"),
        partition_id: partition.0,
        causal_payload: codec.encode(&written.context),
        timestamp: written.wall_ms,
        copies: written.copies,
    };
    let mut reply = json(status, &body);
    add_payload(&mut reply, body.causal_payload);
    reply
}
