//! Echo (RFC 862) on the wire: whatever arrives goes back, so there is no format to decode.
//!
//! What stands here is what both ends and the examiner must agree on: the sizes, and the
//! recognisable payload that a client sends when it wants to tell one answer from another. A server
//! never looks into the bytes.

/// The port of the courses' example server.
pub const PORT_DEFAULT: u16 = 65_432;

/// The largest payload one UDP datagram can carry over IPv4, in bytes (65,535 - 20 - 8).
pub const DATAGRAM_BYTES_MAX: usize = 65_507;

/// The length of the head of a [`probe`], in bytes; a shorter message cannot be a probe.
pub const PROBE_HEAD_BYTES: usize = 8;

/// A message of `len` bytes that tells which one it is: the sequence number, big-endian in 8 bytes,
/// then bytes that depend on the number and on the place, so that a lost, doubled or moved byte
/// shows. `len` below [`PROBE_HEAD_BYTES`] is raised to it.
#[must_use]
pub fn probe(sequence: u64, len: usize) -> Vec<u8> {
    let len = len.max(PROBE_HEAD_BYTES);
    let mut bytes = Vec::with_capacity(len);
    bytes.extend_from_slice(&sequence.to_be_bytes());
    // A 64-bit linear congruential generator (Knuth's MMIX constants): its high byte has a period
    // far beyond any message, and two sequence numbers do not share a run.
    let mut state = sequence ^ 0x9E37_79B9_7F4A_7C15;
    while bytes.len() < len {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.push(state.to_be_bytes()[0]);
    }
    bytes
}

/// The sequence number of a message made by [`probe`]; None if it is too short to be one.
#[must_use]
pub fn probe_sequence(message: &[u8]) -> Option<u64> {
    let head = message.first_chunk::<PROBE_HEAD_BYTES>()?;
    Some(u64::from_be_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_says_which_one_it_is() {
        for (sequence, len) in [(0, 0), (1, 8), (7, 9), (u64::MAX, 1500)] {
            let message = probe(sequence, len);
            assert_eq!(message.len(), len.max(PROBE_HEAD_BYTES));
            assert_eq!(probe_sequence(&message), Some(sequence));
        }
        assert_eq!(probe_sequence(b"short"), None);
    }

    #[test]
    fn a_moved_byte_shows() {
        let message = probe(3, 4096);
        let mut moved = message.clone();
        moved.remove(100);
        moved.push(0);
        assert_ne!(message, moved);
        assert_ne!(probe(3, 64)[8..], probe(4, 64)[8..]);
    }
}
