//! Payloads that no node makes: each is a context or an error, and a context has one text.

use super::super::cluster::{Cluster, ClusterId, PayloadKey};
use super::super::context::tests::any_context;
use super::*;
use crate::fuzz::{bounded, changed};
use proptest::collection::vec;
use proptest::prelude::*;

fn codecs() -> [Codec; 2] {
    let cluster = Cluster {
        id: ClusterId([1; 16]),
        key: PayloadKey([1; 32]),
        former: None,
    };
    [None, Some(&b"secret"[..])].map(|secret| Codec::new(&cluster, secret))
}

/// What is before the tag, as a cluster without a secret makes it.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    any_context().prop_map(|context| {
        let [codec, _] = codecs();
        let mut bytes = URL_SAFE_NO_PAD.decode(codec.encode(&context)).unwrap();
        bytes.truncate(bytes.len() - TAG);
        bytes
    })
}

/// Reads the body under the tag that a node would give it.
fn taken_or_refused(body: &[u8]) -> Result<(), TestCaseError> {
    for codec in codecs() {
        let seal = codec.seal.as_ref().unwrap();
        let mut bytes = body.to_vec();
        if let Some(first) = bytes.first_mut().filter(|first| **first == VERSION) {
            *first |= seal.flag();
        }
        let tag = seal.mac.clone().chain_update(&bytes).finalize();
        bytes.extend_from_slice(&tag.into_bytes()[..seal.len()]);
        let text = URL_SAFE_NO_PAD.encode(bytes);
        if let Ok(context) = bounded(text.len(), || codec.decode(&text)) {
            prop_assert_eq!(&codec.encode(&context), &text);
            prop_assert_eq!(decode_unverified(&text).unwrap().0, context);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn changed_payloads_are_taken_or_refused(body in changed(bodies())) {
        taken_or_refused(&body)?;
    }

    #[test]
    fn any_payload_is_taken_or_refused(rest in vec(any::<u8>(), 0..200)) {
        let mut body = vec![VERSION];
        body.extend(rest);
        taken_or_refused(&body)?;
    }

    #[test]
    fn changed_texts_of_payloads_are_taken_or_refused(text in changed(any_context().prop_map(|context| {
        codecs()[1].encode(&context).into_bytes()
    }))) {
        let text = String::from_utf8_lossy(&text);
        for codec in codecs() {
            if let Ok(context) = bounded(text.len(), || codec.decode(&text)) {
                prop_assert!(text.is_empty() || codec.encode(&context) == text);
            }
        }
        let _ = bounded(text.len(), || decode_unverified(&text));
    }

    #[test]
    fn a_part_of_a_payload_is_none(context in any_context(), at in any::<prop::sample::Index>()) {
        for codec in codecs() {
            let text = codec.encode(&context);
            let part = &text[..at.index(text.len())];
            prop_assert!(part.is_empty() || codec.decode(part).is_err());
        }
    }
}
