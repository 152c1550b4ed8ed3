//! Unmasking in place.

/// Applies `mask` to `bytes`, and returns the mask for the byte after them.
///
/// Eight bytes at a time: the compiler makes vectors of it, and needs no alignment.
pub(super) fn apply(bytes: &mut [u8], mask: [u8; 4]) -> [u8; 4] {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let len = bytes.len();
    let (words, tail) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(wide.to_ne_bytes()) {
        *byte ^= key;
    }
    let mut next = mask;
    next.rotate_left(len % 4);
    next
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_the_same_byte_by_byte_and_in_pieces(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            mask: [u8; 4],
            cut in 0..100usize,
        ) {
            let naive: Vec<u8> =
                bytes.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
            let mut whole = bytes.clone();
            apply(&mut whole, mask);
            prop_assert_eq!(&whole, &naive);

            let mut pieces = bytes;
            let cut = cut.min(pieces.len());
            let (first, second) = pieces.split_at_mut(cut);
            let next = apply(first, mask);
            apply(second, next);
            prop_assert_eq!(&pieces, &naive);
        }
    }
}
