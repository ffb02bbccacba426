//! The text form of a context, the `causal_payload`: base64url (no padding) of
//!
//! ```text
//! version and flags (1 byte: 0x30, +1 where the cluster has a secret)
//! clock: milliseconds since 2024 (varint), counter (varint)
//! number of the newest view seen (varint)
//! entries, ascending by (member, incarnation), none twice, each:
//!     member - previous member (varint)
//!     incarnation - previous entry's incarnation (zigzag varint)
//!     seq (varint)
//! tag: the first 4 bytes of the HMAC-SHA256 of the above, 10 where the cluster has a secret
//! ```
//!
//! The key of the MAC is made of the cluster's id, of its payload key, which only its nodes know,
//! and of its secret. So a payload that was cut, mistyped or made up is refused, and so is one of
//! another cluster.

use super::clock::Timestamp;
use super::cluster::Cluster;
use super::context::Context;
use super::ids::{LogId, MAX_VIEW, MemberId};
use super::teeth::{Rule, broken};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

const VERSION: u8 = 0x30;
const SIGNED: u8 = 0x01;
/// Bytes of a tag, and of one with a secret.
const TAG: usize = 4;
const SIGNED_TAG: usize = 10;
/// 2024-01-01, in milliseconds since 1970: a later zero makes shorter varints.
pub(super) const EPOCH_MS: u64 = 1_704_067_200_000;
/// More logs than any cluster keeps; a longer payload is refused before it costs anything.
pub const MAX_ENTRIES: usize = 4096;
/// The longest text that is looked at, in characters.
pub const MAX_TEXT: usize = 64 * 1024;

/// Why a `causal_payload` was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// Longer than any payload.
    #[error("it is longer than {MAX_TEXT} characters")]
    TooLong,
    /// Characters beside those of base64url.
    #[error("it has characters that no payload has (allowed are A-Z a-z 0-9 - _)")]
    Alphabet,
    /// A version of the format that is not known.
    #[error("its version is not one that this node knows")]
    Version,
    /// The bytes end early, or do not fit their length.
    #[error("it is cut short or changed")]
    Damaged,
    /// Made by another cluster, or changed.
    #[error("this cluster did not make it, or it was changed")]
    Foreign,
    /// Without a signature, where the cluster signs.
    #[error("it is not signed, and this cluster signs its payloads")]
    Unsigned,
    /// With a signature, where this node has no secret.
    #[error("it is signed, and this node has no cluster secret to check that with")]
    SignedWithoutSecret,
    /// Signed, and of no sense all the same.
    #[error("its content is malformed")]
    Malformed,
}

/// Writes and reads the text form, with the cluster's key, and its secret where it has one.
#[derive(Clone)]
pub struct Codec {
    /// Makes the tags, and checks them; none before the cluster is born.
    seal: Option<Seal>,
    /// Checks those that were made under another secret.
    also: Option<Seal>,
}

/// The keyed MAC, its key schedule done once.
#[derive(Clone)]
struct Seal {
    mac: Hmac<Sha256>,
    /// A secret is in the key.
    signed: bool,
}

impl Seal {
    /// The key is made of everything that a payload belongs to. All but the secret have fixed
    /// lengths.
    fn new(cluster: &Cluster, secret: Option<&[u8]>) -> Self {
        let mut key = Sha256::new();
        key.update(b"causeway payload");
        key.update(cluster.key.0);
        key.update(cluster.id.0);
        key.update(secret.unwrap_or_default());
        // A key shorter than a block is filled up with zeros by the definition of HMAC.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&key.finalize());
        Self {
            mac: Hmac::new(&block.into()),
            signed: secret.is_some(),
        }
    }

    fn flag(&self) -> u8 {
        if self.signed { SIGNED } else { 0 }
    }

    fn len(&self) -> usize {
        tag_len(self.signed)
    }

    fn is_right(&self, body: &[u8], tag: &[u8]) -> bool {
        let mac = self.mac.clone().chain_update(body);
        mac.verify_truncated_left(tag).is_ok()
    }
}

fn tag_len(signed: bool) -> usize {
    if signed { SIGNED_TAG } else { TAG }
}

impl Codec {
    /// The codec of a cluster's nodes.
    #[must_use]
    pub fn new(cluster: &Cluster, secret: Option<&[u8]>) -> Self {
        Self {
            seal: Some(Seal::new(cluster, secret)),
            also: None,
        }
    }

    /// The codec of a node that belongs to no cluster yet: it knows the empty context alone.
    #[must_use]
    pub fn unborn() -> Self {
        Self {
            seal: None,
            also: None,
        }
    }

    /// A codec that also reads payloads made under another secret, or under none.
    #[must_use]
    pub fn taking(self, cluster: &Cluster, secret: Option<&[u8]>) -> Self {
        Self {
            also: Some(Seal::new(cluster, secret)),
            ..self
        }
    }

    /// Whether it can write and read payloads.
    #[must_use]
    pub fn is_born(&self) -> bool {
        self.seal.is_some()
    }

    /// The text of a context.
    #[must_use]
    pub fn encode(&self, context: &Context) -> String {
        let Some(seal) = &self.seal else {
            return String::new();
        };
        let mut out = Vec::with_capacity(24 + context.len() * 10);
        out.push(VERSION | seal.flag());
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
        let tag = seal.mac.clone().chain_update(&out).finalize().into_bytes();
        out.extend_from_slice(&tag[..seal.len()]);
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
        let (body, tag, signed) = split(&bytes)?;
        let seals = || self.seal.iter().chain(&self.also);
        let fits = |seal: &&Seal| seal.signed == signed;
        match seals().find(fits) {
            None if self.seal.is_none() => Err(ContextError::Foreign),
            None if signed => Err(ContextError::SignedWithoutSecret),
            None => Err(ContextError::Unsigned),
            Some(_) if seals().filter(fits).any(|s| s.is_right(body, tag)) => parse(body),
            Some(_) if broken(Rule::TakeForeign) => parse(body),
            Some(_) => Err(ContextError::Foreign),
        }
    }
}

/// Reads a text without checking who made it: for a person who wants to look at one.
///
/// # Errors
/// When the text is no payload. Does not check which cluster made it.
pub fn decode_unverified(text: &str) -> Result<(Context, bool), ContextError> {
    if text.is_empty() {
        return Ok((Context::default(), false));
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|e| unreadable(&e))?;
    let (body, _, signed) = split(&bytes)?;
    Ok((parse(body)?, signed))
}

/// The body and the tag of a payload, and whether a secret is in that.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8], bool), ContextError> {
    let &first = bytes.first().ok_or(ContextError::Damaged)?;
    if first & !SIGNED != VERSION {
        return Err(ContextError::Version);
    }
    let signed = first & SIGNED != 0;
    let at = bytes.len().checked_sub(tag_len(signed));
    let at = at.filter(|at| *at > 0).ok_or(ContextError::Damaged)?;
    let (body, tag) = bytes.split_at(at);
    Ok((body, tag, signed))
}

/// Why a text is not base64: a cut one has the right characters.
fn unreadable(error: &base64::DecodeError) -> ContextError {
    match error {
        base64::DecodeError::InvalidByte(..) => ContextError::Alphabet,
        _ => ContextError::Damaged,
    }
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
    let mut context = Context::at(
        Timestamp(Timestamp::from_ms(ms).0 | u64::from(counter)),
        view,
    );
    let mut last = None;
    let (mut member, mut incarnation) = (0u64, 0u64);
    while !rest.is_empty() {
        if context.len() == MAX_ENTRIES {
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
        if seq == 0 || last >= Some(log) {
            return Err(ContextError::Malformed);
        }
        last = Some(log);
        context.see(log, seq);
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
mod fuzz_tests;

#[cfg(test)]
mod tests {
    use super::super::cluster::{ClusterId, PayloadKey};
    use super::super::context::tests::{any_context, log};
    use super::super::ids::{incarnation, start_at};
    use super::*;
    use proptest::prelude::*;

    fn cluster(n: u8) -> Cluster {
        Cluster {
            id: ClusterId([n; 16]),
            key: PayloadKey([n; 32]),
            former: None,
        }
    }

    fn a_context() -> Context {
        let mut context = Context::at(Timestamp::from_ms(EPOCH_MS + 5), 1);
        context.see(log(1, 2), 3);
        context
    }

    fn codecs() -> [Codec; 2] {
        [None, Some(&b"secret"[..])].map(|secret| Codec::new(&cluster(1), secret))
    }

    proptest! {
        #[test]
        fn text_round_trips_signed_and_unsigned(context in any_context()) {
            for codec in codecs() {
                let text = codec.encode(&context);
                prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
                prop_assert_eq!(codec.decode(&text).unwrap(), context.clone());
                prop_assert_eq!(decode_unverified(&text).unwrap().0, context.clone());
            }
        }

        #[test]
        fn any_changed_character_is_found(context in any_context(), at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_-]") {
            for codec in codecs() {
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
            let codec = Codec::new(&cluster(1), None);
            let _ = codec.decode(&text);
            let _ = decode_unverified(&text);
            // Past the tag too.
            let mut bytes = vec![VERSION];
            bytes.extend(raw);
            let mac = codec.seal.as_ref().unwrap().mac.clone();
            let tag = mac.chain_update(&bytes).finalize().into_bytes();
            bytes.extend_from_slice(&tag[..TAG]);
            let text = URL_SAFE_NO_PAD.encode(bytes);
            if let Ok(context) = codec.decode(&text) {
                prop_assert_eq!(codec.encode(&context), text, "one text for one context");
            }
        }

    }

    #[test]
    fn a_payload_of_another_secret_is_refused() {
        let context = a_context();
        let one = cluster(1);
        let codec = |secret: Option<&'static [u8]>| Codec::new(&one, secret);
        let (open, a, b) = (codec(None), codec(Some(b"a")), codec(Some(b"b")));
        assert_eq!(b.decode(&a.encode(&context)), Err(ContextError::Foreign));
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
    fn a_payload_of_another_cluster_or_of_an_earlier_life_is_refused() {
        let context = a_context();
        for secret in [None, Some(&b"s"[..])] {
            let own = Codec::new(&cluster(1), secret);
            let mut others = vec![cluster(2)];
            others.push(Cluster {
                id: ClusterId([2; 16]),
                ..cluster(1)
            });
            others.push(Cluster {
                key: PayloadKey([2; 32]),
                ..cluster(1)
            });
            for other in others {
                let text = Codec::new(&other, secret).encode(&context);
                assert_eq!(own.decode(&text), Err(ContextError::Foreign));
            }
        }
        let unborn = Codec::unborn();
        let text = Codec::new(&cluster(1), None).encode(&context);
        assert_eq!(unborn.decode(&text), Err(ContextError::Foreign));
        assert_eq!(
            unborn.decode(&unborn.encode(&context)),
            Ok(Context::default())
        );
    }

    #[test]
    fn while_secrets_are_rotated_two_are_taken_and_the_own_one_is_used() {
        let context = a_context();
        let secrets = [None, Some(&b"one"[..]), Some(&b"two"[..])];
        for own in secrets {
            for also in secrets {
                let codec = Codec::new(&cluster(1), own).taking(&cluster(1), also);
                let written = Codec::new(&cluster(1), own).encode(&context);
                assert_eq!(codec.encode(&context), written);
                for made in secrets {
                    let text = Codec::new(&cluster(1), made).encode(&context);
                    let taken = codec.decode(&text).is_ok();
                    assert_eq!(taken, made == own || made == also);
                    let foreign = Codec::new(&cluster(2), made).encode(&context);
                    assert!(codec.decode(&foreign).is_err());
                }
            }
        }
    }

    #[test]
    fn a_payload_is_as_long_as_with_a_check_sum() {
        let context = Context::default();
        for (codec, tag) in codecs().into_iter().zip([4, 10]) {
            let bytes = URL_SAFE_NO_PAD.decode(codec.encode(&context)).unwrap();
            assert_eq!(bytes.len(), 4 + tag);
        }
    }

    #[test]
    fn a_healthy_payload_is_short() {
        // Two logs of nodes started within a minute, a million writes each, signed.
        const STARTED_MS: u64 = 1_790_000_000_000;
        let mut context = Context::at(Timestamp::from_ms(EPOCH_MS + 100_000_000_000), 40);
        context.see(log(1, incarnation(40, start_at(STARTED_MS, 0))), 1_000_000);
        context.see(
            log(2, incarnation(40, start_at(STARTED_MS + 30_000, 9))),
            1_000_000,
        );
        assert!(Codec::new(&cluster(1), Some(b"s")).encode(&context).len() <= 64);
    }
}
