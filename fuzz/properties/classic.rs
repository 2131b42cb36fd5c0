//! What must hold for any bytes that a tracker or a peer of the classic dialect may get.

use ahoy_wire::classic::{
    Directory, FILE_BYTES_MAX, FileName, FileRequest, Generation, HEADER_BYTES_MAX, Header,
    Objects, PeerMessage, Unframed, read_header, read_request,
};

/// Messages in the inputs may be so long, in bytes.
const BYTES_MAX: usize = 256;

/// Nothing panics; how the network cut a stream changes nothing; what is read is written and read
/// again as the same; no name leads out of a folder.
pub fn holds(data: &[u8]) {
    let whole = objects(data, data.len().max(1));
    for piece in [1, 7] {
        assert_eq!(objects(data, piece), whole, "in pieces of {piece}");
    }
    for object in &whole.0 {
        assert!(object.len() <= BYTES_MAX);
        if let Ok(message) = PeerMessage::decode(object) {
            let again = PeerMessage::decode(&message.encode()).expect("our own");
            assert_eq!((again.port, &again.files), (message.port, &message.files));
            for file in message.files.iter().flatten() {
                stays_inside(&file.name);
            }
        }
        if let Ok(directory) = Directory::decode(object) {
            let line = directory.encode();
            assert!(line.is_ascii() && line.iter().filter(|b| **b == b'\n').count() == 1);
            assert_eq!(
                Directory::decode(&line).expect("our own").files,
                directory.files
            );
            directory.files.keys().for_each(stays_inside);
        }
    }
    for ended in [false, true] {
        let Some(request) = read_request(data, ended) else {
            assert!(!ended, "what has ended is whole");
            continue;
        };
        for name in &request.names {
            stays_inside(name);
            for generation in [Generation::Lines, Generation::Bare] {
                let asked = read_request(&FileRequest::encode(name, generation), true);
                let asked = asked.expect("a name is a request");
                assert!(asked.generation == generation && asked.names.first() == Some(name));
            }
        }
    }
    match read_header(data) {
        Header::Incomplete => assert!(data.len() < HEADER_BYTES_MAX),
        Header::Length {
            file_bytes,
            header_bytes,
        } => assert!(file_bytes <= FILE_BYTES_MAX && header_bytes <= HEADER_BYTES_MAX),
        Header::Absent => {}
    }
}

fn objects(data: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<Unframed>) {
    let mut reader = Objects::new(BYTES_MAX);
    let mut found = Vec::new();
    for piece in data.chunks(piece) {
        reader.push(piece);
        loop {
            match reader.next_object() {
                Ok(Some(object)) => found.push(object.to_vec()),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

fn stays_inside(name: &FileName) {
    let text = name.as_str();
    assert!(!text.is_empty() && text.len() <= 255 && text != "." && text != "..");
    assert!(!text.contains(['/', '\\', '\0', '\r', '\n']));
}
