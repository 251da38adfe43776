//! Hashes and name suffixes that are visible in objects.

/// The alphabet of generated name suffixes: no vowels, nothing that reads as another character
/// (apimachinery `util/rand`).
pub const SAFE_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// FNV-1a, 32 bits.
pub fn fnv1a_32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// FNV-1 (multiply, then xor), 32 bits; Go's `fnv.New32`.
pub fn fnv1_32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        hash.wrapping_mul(0x0100_0193) ^ u32::from(*byte)
    })
}

/// FNV-1a, 64 bits.
pub fn fnv1a_64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Maps each byte into [`SAFE_ALPHABET`], as upstream does with decimal hashes.
pub fn safe_encode_string(text: &str) -> String {
    text.chars()
        .map(|c| char::from(SAFE_ALPHABET[c as usize % SAFE_ALPHABET.len()]))
        .collect()
}

/// A name suffix of `length` characters from caller-supplied randomness: one random word gives
/// one character, so any source with well-mixed words will do.
pub fn random_suffix(length: usize, mut random: impl FnMut() -> u32) -> String {
    (0..length)
        .map(|_| {
            let scaled = (u64::from(random()) * SAFE_ALPHABET.len() as u64) >> 32;
            char::from(SAFE_ALPHABET[scaled as usize])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_match_the_published_vectors() {
        assert_eq!(fnv1a_32(b""), 0x811c_9dc5);
        assert_eq!(fnv1a_32(b"a"), 0xe40c_292c);
        assert_eq!(fnv1a_32(b"foobar"), 0xbf9c_f968);
        assert_eq!(fnv1_32(b"foobar"), 0x31f0_b262);
        assert_eq!(fnv1a_64(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn safe_encoding_is_upstreams() {
        // '0' is 48 and 48 % 27 is 21, which is the letter '4' in the alphabet's tail.
        assert_eq!(safe_encode_string("0123456789"), "456789bcdf");
        assert_eq!(random_suffix(5, || 0), "bbbbb");
        assert_eq!(random_suffix(1, || u32::MAX), "9");
    }
}
