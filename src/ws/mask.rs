//! The mask of client payloads (RFC 6455 section 5.3).

/// Bytes per step: enough for the compiler to use the vector registers that every x86-64 has.
const BLOCK_LEN: usize = 32;

/// Removes (or puts on) the mask in place. Linear in `bytes`.
///
/// `phase` is the place of the first byte in its frame's payload, for payloads that come in pieces.
pub fn unmask_in_place(bytes: &mut [u8], mask: [u8; 4], phase: usize) {
    let mask = rotated(mask, phase);
    let mut block_mask = [0; BLOCK_LEN];
    for word in block_mask.as_chunks_mut().0 {
        *word = mask;
    }

    let (blocks, rest) = bytes.as_chunks_mut::<BLOCK_LEN>();
    for block in blocks {
        xor(block, &block_mask);
    }
    let (words, rest) = rest.as_chunks_mut::<4>();
    for word in words {
        xor(word, &mask);
    }
    xor(rest, &mask);
}

/// The mask as seen from `phase`. A rotation of the word is cheaper than one of the array.
fn rotated(mask: [u8; 4], phase: usize) -> [u8; 4] {
    let bits = match phase & 3 {
        0 => 0,
        1 => 8,
        2 => 16,
        _ => 24,
    };
    u32::from_le_bytes(mask).rotate_right(bits).to_le_bytes()
}

fn xor(bytes: &mut [u8], mask: &[u8]) {
    for (byte, mask) in bytes.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::unmask_in_place;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    #[test]
    fn every_length_offset_and_phase_agrees_with_the_definition() {
        let source: Vec<u8> = (0..=255).cycle().take(300).collect();
        for offset in 0..8 {
            for len in 0..200 {
                for phase in 0..5 {
                    let plain = &source[offset..offset + len];
                    let mut bytes = source.clone();
                    unmask_in_place(&mut bytes[offset..offset + len], MASK, phase);
                    let expected = plain.iter().enumerate().map(|(i, b)| b ^ MASK[(phase + i) % 4]);
                    assert!(bytes[offset..offset + len].iter().copied().eq(expected));
                    assert_eq!(bytes[..offset], source[..offset]);
                    assert_eq!(bytes[offset + len..], source[offset + len..]);
                }
            }
        }
    }

    #[test]
    fn it_agrees_with_fastwebsockets() {
        let mut ours: Vec<u8> = (0..=255).cycle().take(10_001).collect();
        let mut theirs = ours.clone();
        unmask_in_place(&mut ours, MASK, 0);
        fastwebsockets::unmask(&mut theirs, MASK);
        assert_eq!(ours, theirs);
    }
}
