//! What must hold for any bytes that a tracker or its peer may get.

use ahoy_wire::tracker::{
    PEER_FRAME_BYTES_MAX, PeerMessage, TRACKER_FRAME_BYTES_MAX, TrackerMessage, Undecodable,
    read_prologue,
};

/// Nothing panics; what decodes encodes to the same bytes; what is incomplete says truly how much
/// is missing, and never asks for more than the longest frame.
pub fn holds(data: &[u8]) {
    let _ = read_prologue(data);
    check(
        data,
        PEER_FRAME_BYTES_MAX,
        PeerMessage::decode,
        PeerMessage::encode,
    );
    check(
        data,
        TRACKER_FRAME_BYTES_MAX,
        TrackerMessage::decode,
        TrackerMessage::encode,
    );
}

fn check<T: PartialEq + std::fmt::Debug>(
    data: &[u8],
    frame_bytes_max: usize,
    decode: impl Fn(&[u8]) -> Result<(T, usize), Undecodable>,
    encode: impl Fn(&T, &mut Vec<u8>),
) {
    match decode(data) {
        Ok((message, len)) => {
            assert!(len <= frame_bytes_max);
            let mut again = Vec::new();
            encode(&message, &mut again);
            assert_eq!(again, data[..len]);
            // One byte less is a beginning, and nothing else.
            let cut = decode(&data[..len - 1]);
            assert!(
                matches!(cut, Err(Undecodable::Incomplete { .. })),
                "{cut:?}"
            );
        }
        Err(Undecodable::Incomplete { needed }) => {
            assert!(data.len() < needed && needed <= frame_bytes_max);
        }
        Err(Undecodable::Invalid(_)) => {
            // More bytes do not make it better.
            let mut longer = data.to_vec();
            longer.extend([0; 64]);
            assert!(matches!(decode(&longer), Err(Undecodable::Invalid(_))));
        }
    }
}
