//! What must hold for any bytes that a peer may send on a session.

use ahoy_wire::sync::{Frame, Framed, Intake};

/// Nothing panics; what decodes encodes to something that decodes to the same; what is incomplete
/// says truly that more is needed; and pieces of any size come to the same as the whole.
pub fn holds(data: &[u8]) {
    let (whole, error) = all(data);
    for frame in &whole {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        assert_eq!(
            Frame::decode(&bytes),
            Ok(Framed::Whole(frame.clone(), bytes.len()))
        );
        let cut = Frame::decode(&bytes[..bytes.len() - 1]);
        assert!(matches!(cut, Ok(Framed::Incomplete(_))), "{cut:?}");
    }
    // The first byte says how long the pieces are.
    let piece = usize::from(data.first().copied().unwrap_or(1)).max(1);
    let (pieces, error_in_pieces) = in_pieces(data, piece);
    assert_eq!(pieces, whole);
    assert_eq!(error_in_pieces, error);
}

/// All frames, and whether an error ended them.
fn all(mut data: &[u8]) -> (Vec<Frame>, bool) {
    let mut frames = Vec::new();
    loop {
        match Frame::decode(data) {
            Ok(Framed::Whole(frame, len)) => {
                frames.push(frame);
                data = &data[len..];
            }
            Ok(Framed::Incomplete(needed)) => {
                assert!(data.len() < needed);
                // A data frame without content is refused by its head alone, when it is taken in
                // pieces; here when it is whole.
                return (frames, is_empty_data(data));
            }
            Err(_) => return (frames, true),
        }
    }
}

fn is_empty_data(data: &[u8]) -> bool {
    let Some((&[3, a, b, c, d], _)) = data.split_first_chunk() else {
        return false;
    };
    u32::from_le_bytes([a, b, c, d]) <= 12
}

fn in_pieces(data: &[u8], len: usize) -> (Vec<Frame>, bool) {
    let mut intake = Intake::default();
    let mut frames = Vec::new();
    for mut piece in data.chunks(len) {
        loop {
            match intake.take(&mut piece, true) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}
