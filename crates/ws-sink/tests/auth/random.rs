//! Tokens that nobody thought of.

use futures::FutureExt as _;
use proptest::prelude::*;
use ws_sink::auth::{AuthError, Jwt};

use crate::pairs::{Pair, all, eddsa, es256, good, hs256, rs256};

fn refused(jwt: &Jwt, token: &str) -> bool {
    matches!(jwt.verify(token).now_or_never().unwrap(), Err(AuthError::Invalid(_)))
}

/// Each bit of each byte, where that is text still.
fn flip_all(pair: &Pair, bits: &[u8]) {
    let (jwt, token) = (pair.jwt(), pair.sign(&good()));
    assert!(!refused(&jwt, &token));
    for at in 0..token.len() {
        for bit in bits {
            let mut bytes = token.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let flipped = String::from_utf8(bytes).unwrap();
            assert!(refused(&jwt, &flipped), "{} at {at}: {flipped}", pair.algorithm);
        }
        assert!(refused(&jwt, &token[..at]), "{} cut at {at}", pair.algorithm);
    }
}

#[test]
fn no_flipped_bit_is_good() {
    flip_all(&hs256(), &[0, 1, 2, 3, 4, 5, 6]);
    flip_all(&eddsa(7), &[0, 1, 2, 3, 4, 5, 6]);
    flip_all(&es256(7), &[0, 3, 5]);
    flip_all(&rs256(), &[0, 3, 5]);
}

proptest! {
    #[test]
    fn any_text_is_refused(text in "\\PC{0,300}") {
        for pair in all() {
            prop_assert!(refused(&pair.jwt(), &text));
        }
    }

    #[test]
    fn what_looks_like_a_token_is_refused(
        header in prop_oneof![Just(r#"{"alg":"HS256"}"#.to_owned()), Just(r#"{"alg":"ES256"}"#.to_owned()), "\\PC{0,40}"],
        claims in prop_oneof![Just(good().to_string()), "\\PC{0,40}"],
        signature in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        use crate::pairs::b64;
        let token = format!("{}.{}.{}", b64(header), b64(claims), b64(signature));
        for pair in [hs256(), es256(7), eddsa(7)] {
            prop_assert!(refused(&pair.jwt(), &token));
        }
    }

    #[test]
    fn signed_claims_of_any_form_panic_nowhere(claims in prop::collection::vec(any::<u8>(), 0..200)) {
        let pair = hs256();
        let token = pair.raw(&pair.header().to_string(), &claims);
        prop_assert!(refused(&pair.jwt(), &token));
    }

    #[test]
    fn any_byte_put_for_another_is_refused(at in any::<prop::sample::Index>(), byte in 0..128u8) {
        for pair in all() {
            let (jwt, token) = (pair.jwt(), pair.sign(&good()));
            let mut bytes = token.clone().into_bytes();
            let at = at.index(bytes.len());
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            prop_assert!(refused(&jwt, &String::from_utf8(bytes).unwrap()));
        }
    }
}
