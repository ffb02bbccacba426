//! The client's vector clock: what a session has seen, and its text form, the `causal_payload`.
//!
//! A context is sparse: it names a log only while some replica may still lack a write of it. The
//! text is base64url (no padding) of
//!
//! ```text
//! version and flags (1 byte: 0x20, +1 when signed)
//! clock: milliseconds since 2024 (varint), counter (varint)
//! number of the newest view seen (varint)
//! entries, ascending by (member, incarnation), none twice, each:
//!     member - previous member (varint)
//!     incarnation - previous entry's incarnation (zigzag varint)
//!     seq (varint)
//! tag: 4 bytes CRC-32 of the above, or 10 bytes of its HMAC-SHA256 when signed
//! ```
//!
//! The CRC catches a payload that was cut or mistyped; the MAC, one that was forged.

use super::clock::Timestamp;
use super::ids::{LogId, MAX_VIEW, MemberId};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

const VERSION: u8 = 0x20;
const SIGNED: u8 = 0x01;
const CRC_LEN: usize = 4;
const MAC_LEN: usize = 10;
/// 2024-01-01, in milliseconds since 1970: a later zero makes shorter varints.
const EPOCH_MS: u64 = 1_704_067_200_000;
/// More logs than any cluster keeps; a longer payload is refused before it costs anything.
pub const MAX_ENTRIES: usize = 4096;
/// The longest text that is looked at, in characters.
pub const MAX_TEXT: usize = 64 * 1024;

/// What a session depends on: per log the highest seq seen, and the highest timestamp seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// The highest hybrid logical timestamp seen.
    pub clock: Timestamp,
    /// The number of the newest view in which an entry may have been dropped. What every replica of that view has,
    /// one that knows only an older view may lack.
    pub view: u64,
    /// Ascending by log, each once.
    entries: Vec<(LogId, u64)>,
}

/// Why a `causal_payload` was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    #[error("it is longer than {MAX_TEXT} characters")]
    TooLong,
    #[error("it has characters that no payload has (allowed are A-Z a-z 0-9 - _)")]
    Alphabet,
    #[error("its version is not one that this node knows")]
    Version,
    #[error("it is cut short or changed: its check does not match")]
    Damaged,
    #[error("its signature does not match this cluster's secret")]
    Signature,
    #[error("it is not signed, and this cluster signs its payloads")]
    Unsigned,
    #[error("it is signed, and this node has no cluster secret to check that with")]
    SignedWithoutSecret,
    #[error("its content is malformed")]
    Malformed,
}

impl Context {
    /// The seq seen of a log, if any.
    #[must_use]
    pub fn get(&self, log: LogId) -> Option<u64> {
        self.entries
            .binary_search_by_key(&log, |e| e.0)
            .ok()
            .map(|at| self.entries[at].1)
    }

    /// All entries, ascending by log.
    pub fn iter(&self) -> impl Iterator<Item = (LogId, u64)> + '_ {
        self.entries.iter().copied()
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no entry is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a write to what was seen.
    pub fn see(&mut self, log: LogId, seq: u64) {
        match self.entries.binary_search_by_key(&log, |e| e.0) {
            Ok(at) => self.entries[at].1 = self.entries[at].1.max(seq),
            Err(at) => self.entries.insert(at, (log, seq)),
        }
    }

    /// Adds everything that `other` has seen.
    pub fn join(&mut self, other: &Context) {
        self.clock = self.clock.max(other.clock);
        self.view = self.view.max(other.view);
        for &(log, seq) in &other.entries {
            self.see(log, seq);
        }
    }

    /// Keeps the entries for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(LogId, u64) -> bool) {
        self.entries.retain(|&(log, seq)| keep(log, seq));
    }

    /// Whether this context has seen everything that `other` has.
    #[must_use]
    pub fn covers(&self, other: &Context) -> bool {
        self.clock >= other.clock
            && self.view >= other.view
            && other
                .iter()
                .all(|(log, seq)| self.get(log).is_some_and(|s| s >= seq))
    }
}

/// Writes and reads the text form, with the cluster's secret or without one.
#[derive(Clone)]
pub struct Codec {
    /// The keyed MAC, its key schedule done once.
    mac: Option<Hmac<Sha256>>,
}

impl Codec {
    /// A codec that signs with `secret`, or only adds a check sum when there is none.
    #[must_use]
    pub fn new(secret: Option<&[u8]>) -> Self {
        Self {
            mac: secret.and_then(|s| Hmac::new_from_slice(s).ok()),
        }
    }

    /// The text of a context.
    #[must_use]
    pub fn encode(&self, context: &Context) -> String {
        let mut out = Vec::with_capacity(24 + context.len() * 10);
        out.push(VERSION | if self.mac.is_some() { SIGNED } else { 0 });
        put_varint(&mut out, context.clock.ms().saturating_sub(EPOCH_MS));
        // A clock before the epoch (a machine without a battery) is sent as the epoch.
        let counter = if context.clock.ms() < EPOCH_MS {
            0
        } else {
            u64::from(context.clock.counter())
        };
        put_varint(&mut out, counter);
        put_varint(&mut out, context.view);
        let (mut member, mut incarnation) = (0u16, 0u64);
        for (log, seq) in context.iter() {
            put_varint(&mut out, u64::from(log.member.0 - member));
            let delta = log.incarnation.wrapping_sub(incarnation) as i64;
            put_varint(&mut out, zigzag(delta));
            put_varint(&mut out, seq);
            (member, incarnation) = (log.member.0, log.incarnation);
        }
        match &self.mac {
            Some(mac) => {
                let tag = mac.clone().chain_update(&out).finalize().into_bytes();
                out.extend_from_slice(&tag[..MAC_LEN]);
            }
            None => {
                let crc = crc32fast::hash(&out);
                out.extend_from_slice(&crc.to_le_bytes());
            }
        }
        URL_SAFE_NO_PAD.encode(out)
    }

    /// The context of a text. The empty text is the empty context.
    ///
    /// # Errors
    /// When the text was not made by this cluster, or was changed.
    pub fn decode(&self, text: &str) -> Result<Context, ContextError> {
        if text.is_empty() {
            return Ok(Context::default());
        }
        if text.len() > MAX_TEXT {
            return Err(ContextError::TooLong);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|e| unreadable(&e))?;
        let Some(&first) = bytes.first() else {
            return Err(ContextError::Damaged);
        };
        if first & !SIGNED != VERSION {
            return Err(ContextError::Version);
        }
        let body = match (&self.mac, first & SIGNED != 0) {
            (Some(mac), true) => {
                let (body, tag) = split_tag(&bytes, MAC_LEN)?;
                mac.clone()
                    .chain_update(body)
                    .verify_truncated_left(tag)
                    .map_err(|_| ContextError::Signature)?;
                body
            }
            (None, false) => checked(&bytes)?,
            (Some(_), false) => return Err(ContextError::Unsigned),
            (None, true) => return Err(ContextError::SignedWithoutSecret),
        };
        parse(body)
    }
}

/// Reads a text without checking who made it: for a person who wants to look at one.
///
/// # Errors
/// When the text is no payload. A signature is not checked.
pub fn decode_unverified(text: &str) -> Result<(Context, bool), ContextError> {
    if text.is_empty() {
        return Ok((Context::default(), false));
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|e| unreadable(&e))?;
    let first = bytes.first().copied().ok_or(ContextError::Damaged)?;
    if first & !SIGNED != VERSION {
        return Err(ContextError::Version);
    }
    let signed = first & SIGNED != 0;
    let body = if signed {
        split_tag(&bytes, MAC_LEN)?.0
    } else {
        checked(&bytes)?
    };
    Ok((parse(body)?, signed))
}

/// Why a text is not base64: a cut one has the right characters.
fn unreadable(error: &base64::DecodeError) -> ContextError {
    match error {
        base64::DecodeError::InvalidByte(..) => ContextError::Alphabet,
        _ => ContextError::Damaged,
    }
}

fn split_tag(bytes: &[u8], len: usize) -> Result<(&[u8], &[u8]), ContextError> {
    bytes
        .len()
        .checked_sub(len)
        .filter(|at| *at > 0)
        .map(|at| bytes.split_at(at))
        .ok_or(ContextError::Damaged)
}

/// The body of an unsigned payload whose check sum is right.
fn checked(bytes: &[u8]) -> Result<&[u8], ContextError> {
    let (body, tag) = split_tag(bytes, CRC_LEN)?;
    if crc32fast::hash(body).to_le_bytes() != tag {
        return Err(ContextError::Damaged);
    }
    Ok(body)
}

fn parse(body: &[u8]) -> Result<Context, ContextError> {
    let mut rest = &body[1..];
    let ms = get_varint(&mut rest)?;
    let counter = get_varint(&mut rest)?;
    let view = get_varint(&mut rest)?;
    let ms = ms
        .checked_add(EPOCH_MS)
        .filter(|ms| *ms < 1 << 48 && view < MAX_VIEW)
        .ok_or(ContextError::Malformed)?;
    let counter = u16::try_from(counter).map_err(|_| ContextError::Malformed)?;
    let mut context = Context {
        clock: Timestamp(Timestamp::from_ms(ms).0 | u64::from(counter)),
        view,
        entries: Vec::new(),
    };
    let (mut member, mut incarnation) = (0u64, 0u64);
    while !rest.is_empty() {
        if context.entries.len() == MAX_ENTRIES {
            return Err(ContextError::TooLong);
        }
        member = member
            .checked_add(get_varint(&mut rest)?)
            .ok_or(ContextError::Malformed)?;
        incarnation = incarnation.wrapping_add(unzigzag(get_varint(&mut rest)?) as u64);
        let seq = get_varint(&mut rest)?;
        let log = LogId {
            member: MemberId(u16::try_from(member).map_err(|_| ContextError::Malformed)?),
            incarnation,
        };
        // One text per context: entries ascend, and none says nothing.
        if seq == 0 || context.entries.last().is_some_and(|&(last, _)| last >= log) {
            return Err(ContextError::Malformed);
        }
        context.entries.push((log, seq));
    }
    Ok(context)
}

fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

fn unzigzag(n: u64) -> i64 {
    ((n >> 1) as i64) ^ -((n & 1) as i64)
}

fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn get_varint(bytes: &mut &[u8]) -> Result<u64, ContextError> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(ContextError::Malformed)?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        n |= bits << shift;
        if byte & 0x80 == 0 {
            // A longer form of the same number would be a second text for one context.
            return if byte == 0 && shift > 0 {
                Err(ContextError::Malformed)
            } else {
                Ok(n)
            };
        }
    }
    Err(ContextError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::super::ids::incarnation;
    use super::*;
    use proptest::prelude::*;

    fn log(member: u16, incarnation: u64) -> LogId {
        LogId {
            member: MemberId(member),
            incarnation,
        }
    }

    pub fn any_context() -> impl Strategy<Value = Context> {
        (
            EPOCH_MS..(1u64 << 48),
            any::<u16>(),
            0..MAX_VIEW,
            proptest::collection::btree_map((any::<u16>(), any::<u64>()), 1u64.., 0..20),
        )
            .prop_map(|(ms, counter, view, entries)| {
                let mut context = Context {
                    clock: Timestamp(Timestamp::from_ms(ms).0 | u64::from(counter)),
                    view,
                    ..Context::default()
                };
                for ((member, incarnation), seq) in entries {
                    context.see(log(member, incarnation), seq);
                }
                context
            })
    }

    proptest! {
        #[test]
        fn text_round_trips_signed_and_unsigned(context in any_context()) {
            for codec in [Codec::new(None), Codec::new(Some(b"secret"))] {
                let text = codec.encode(&context);
                prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
                prop_assert_eq!(codec.decode(&text).unwrap(), context.clone());
                prop_assert_eq!(decode_unverified(&text).unwrap().0, context.clone());
            }
        }

        #[test]
        fn any_changed_character_is_found(context in any_context(), at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_-]") {
            for codec in [Codec::new(None), Codec::new(Some(b"secret"))] {
                let text = codec.encode(&context);
                let at = at.index(text.len());
                let mut changed = text.clone();
                changed.replace_range(at..=at, &to);
                prop_assume!(changed != text);
                prop_assert!(codec.decode(&changed).is_err());
                prop_assert!(codec.decode(&text[..at]).is_err() || at == 0);
            }
        }

        #[test]
        fn no_text_crashes_the_parser(text in "\\PC{0,200}", raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let codec = Codec::new(None);
            let _ = codec.decode(&text);
            let _ = decode_unverified(&text);
            // Past the check sum too.
            let mut bytes = vec![VERSION];
            bytes.extend(raw);
            let crc = crc32fast::hash(&bytes);
            bytes.extend(crc.to_le_bytes());
            let text = URL_SAFE_NO_PAD.encode(bytes);
            if let Ok(context) = codec.decode(&text) {
                prop_assert_eq!(codec.encode(&context), text, "one text for one context");
            }
        }

        #[test]
        fn join_covers_both_and_is_the_least_that_does(a in any_context(), b in any_context()) {
            let mut joined = a.clone();
            joined.join(&b);
            prop_assert!(joined.covers(&a) && joined.covers(&b));
            let mut other = b.clone();
            other.join(&a);
            prop_assert_eq!(&joined, &other);
            for (log, seq) in joined.iter() {
                prop_assert!(a.get(log) == Some(seq) || b.get(log) == Some(seq));
            }
        }
    }

    #[test]
    fn a_payload_of_another_secret_is_refused() {
        let context = Context {
            clock: Timestamp::from_ms(EPOCH_MS + 5),
            view: 1,
            entries: vec![(log(1, 2), 3)],
        };
        let (open, a, b) = (
            Codec::new(None),
            Codec::new(Some(b"a")),
            Codec::new(Some(b"b")),
        );
        assert_eq!(b.decode(&a.encode(&context)), Err(ContextError::Signature));
        assert_eq!(
            a.decode(&open.encode(&context)),
            Err(ContextError::Unsigned)
        );
        assert_eq!(
            open.decode(&a.encode(&context)),
            Err(ContextError::SignedWithoutSecret)
        );
    }

    #[test]
    fn a_healthy_payload_is_short() {
        // Two logs of nodes started within a minute, a million writes each, signed.
        let mut context = Context {
            clock: Timestamp::from_ms(EPOCH_MS + 100_000_000_000),
            view: 40,
            ..Context::default()
        };
        context.see(log(1, incarnation(40, 90_000_000 << 16)), 1_000_000);
        context.see(
            log(2, incarnation(40, (90_000_030 << 16) + 9_999)),
            1_000_000,
        );
        assert!(Codec::new(Some(b"s")).encode(&context).len() <= 64);
    }
}
