//! `/kvs/batch` and `/kvs/snapshot`: the replies to calls on many keys.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{Object, ObjectBuilder, OneOfBuilder, Ref, Schema, Type};

/// The reply to a batch.
#[derive(Debug, Deserialize, ToSchema)]
pub struct BatchReply {
    /// `success`, whatever became of each operation.
    pub msg: String,
    /// What became of each operation, in the order of the request.
    pub results: Vec<BatchResult>,
    /// The client's context from now on: to be sent with its next request.
    pub causal_payload: String,
}

/// What became of one operation of a batch: a status, and the fields that the call for this key
/// alone would have answered with, but for the payload.
#[derive(Debug, Deserialize, ToSchema)]
pub struct BatchResult {
    /// The HTTP status that the call for this key alone would have had.
    pub status: u16,
    /// The value that was read: any JSON.
    #[schema(value_type = Option<serde_json::Value>)]
    #[serde(default, deserialize_with = "also_null")]
    pub value: Option<Box<RawValue>>,
    /// The wall clock of the replica that took the write, in milliseconds since 1970.
    pub timestamp: Option<u64>,
    /// Replicas that have the write on disk.
    pub copies: Option<u8>,
    /// The partition that holds the key, where the operation names a key.
    pub partition_id: Option<u32>,
    /// What happened, why, and what to do, where it was not done.
    pub error: Option<String>,
}

/// The reply to a snapshot.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SnapshotReply {
    /// `success`.
    pub msg: String,
    /// Every key that was asked for: its value, or null where there is none.
    #[schema(schema_with = values)]
    pub values: BTreeMap<String, Option<SnapshotValue>>,
    /// The client's context from now on: to be sent with its next request.
    pub causal_payload: String,
}

/// Tells a value that is null from one that is not there.
fn also_null<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::deserialize(from).map(Some)
}

/// An object whose fields are values or null.
fn values() -> Schema {
    let value = RefOr::Ref(Ref::from_schema_name(SnapshotValue::name()));
    let null = Object::with_type(Type::Null);
    let either = OneOfBuilder::new().item(value).item(null).build();
    let object = ObjectBuilder::new().additional_properties(Some(Schema::OneOf(either)));
    Schema::Object(object.build())
}

/// A value in a snapshot.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SnapshotValue {
    /// The value, as it was written: any JSON.
    #[schema(value_type = serde_json::Value)]
    pub value: Box<RawValue>,
    /// The wall clock of the replica that first took the write, in milliseconds since 1970.
    pub timestamp: u64,
}
