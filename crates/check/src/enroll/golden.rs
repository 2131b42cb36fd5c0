//! Bytes as CPython 3.11 wrote them, so that the examiner does not depend on any encoder of ours.

/// `{'student_name': 'Alice Brown', 'github_username': 'abrown', 'sid': 123456789}`, by protocol.
pub(super) const ALICE: [&[u8]; 6] = [
    b"(dp0\nVstudent_name\np1\nVAlice Brown\np2\nsVgithub_username\np3\nVabrown\np4\n\
      sVsid\np5\nI123456789\ns.",
    b"}q\x00(X\x0c\x00\x00\x00student_nameq\x01X\x0b\x00\x00\x00Alice Brownq\x02\
      X\x0f\x00\x00\x00github_usernameq\x03X\x06\x00\x00\x00abrownq\x04X\x03\x00\x00\x00sidq\x05\
      J\x15\xcd[\x07u.",
    b"\x80\x02}q\x00(X\x0c\x00\x00\x00student_nameq\x01X\x0b\x00\x00\x00Alice Brownq\x02\
      X\x0f\x00\x00\x00github_usernameq\x03X\x06\x00\x00\x00abrownq\x04X\x03\x00\x00\x00sidq\x05\
      J\x15\xcd[\x07u.",
    b"\x80\x03}q\x00(X\x0c\x00\x00\x00student_nameq\x01X\x0b\x00\x00\x00Alice Brownq\x02\
      X\x0f\x00\x00\x00github_usernameq\x03X\x06\x00\x00\x00abrownq\x04X\x03\x00\x00\x00sidq\x05\
      J\x15\xcd[\x07u.",
    b"\x80\x04\x95H\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x0cstudent_name\x94\
      \x8c\x0bAlice Brown\x94\x8c\x0fgithub_username\x94\x8c\x06abrown\x94\x8c\x03sid\x94\
      J\x15\xcd[\x07u.",
    b"\x80\x05\x95H\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x0cstudent_name\x94\
      \x8c\x0bAlice Brown\x94\x8c\x0fgithub_username\x94\x8c\x06abrown\x94\x8c\x03sid\x94\
      J\x15\xcd[\x07u.",
];

/// `{'student_name': n, 'github_username': n, 'sid': 42}` with `n = 'alice'` twice the same object,
/// so remembered and referred to; in protocols 0, 2 and 4.
pub(super) const SHARED: [(&str, &[u8]); 3] = [
    (
        "0",
        b"(dp0\nVstudent_name\np1\nValice\np2\nsVgithub_username\np3\ng2\nsVsid\np4\nI42\ns.",
    ),
    (
        "2",
        b"\x80\x02}q\x00(X\x0c\x00\x00\x00student_nameq\x01X\x05\x00\x00\x00aliceq\x02\
          X\x0f\x00\x00\x00github_usernameq\x03h\x02X\x03\x00\x00\x00sidq\x04K*u.",
    ),
    (
        "4",
        b"\x80\x04\x958\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x0cstudent_name\x94\
          \x8c\x05alice\x94\x8c\x0fgithub_username\x94h\x02\x8c\x03sid\x94K*u.",
    ),
];

/// `1`.
pub(super) const ACK: &[u8] = b"\x80\x04K\x01.";

/// `{'clientid': port}`.
pub(super) fn greeting(port: u16) -> Vec<u8> {
    let number = match u8::try_from(port) {
        Ok(small) => vec![b'K', small],
        Err(_) => [&b"M"[..], &port.to_le_bytes()].concat(),
    };
    // What the frame holds beside the number is 15 bytes.
    let len = 15 + number.len() as u64;
    let head = [&b"\x80\x04\x95"[..], &len.to_le_bytes()].concat();
    [&head[..], b"}\x94\x8c\x08clientid\x94", &number, b"s."].concat()
}

/// Connects to 127.0.0.1:`port` when it is executed, by Python's `socket.create_connection`, and
/// has no other effect.
pub(super) fn call_back(port: u16) -> Vec<u8> {
    format!("csocket\ncreate_connection\n((V127.0.0.1\nI{port}\nttR.").into_bytes()
}

/// Pickles that name something to execute in each of the ways there are; harmless if executed.
pub(super) const CALLS: [(&str, &[u8]); 9] = [
    ("GLOBAL", b"cbuiltins\nlen\n."),
    ("STACK_GLOBAL", b"\x80\x04\x8c\x08builtins\x8c\x03len\x93."),
    ("REDUCE", b"cbuiltins\nlen\n(V\ntR."),
    ("BUILD", b"cbuiltins\nlen\n}b."),
    ("INST", b"(Vx\nibuiltins\nlen\n."),
    ("OBJ", b"(cbuiltins\nstr\no."),
    ("NEWOBJ", b"\x80\x02cbuiltins\nstr\n)\x81."),
    ("EXT1", b"\x80\x02\x82\x01."),
    ("PERSID", b"Pname\n."),
];

/// Pickles without end, depth, sense or truth. None makes CPython's reader take much memory: the
/// machine that is examined is somebody's.
pub(super) fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let mut pairs = b"\x80\x04\x8c\x03lol\x94".to_vec();
    for entry in 0..20u8 {
        pairs.extend([b'h', entry, b'h', entry, 0x86, 0x94]);
    }
    pairs.push(b'.');
    let deep = [&b"]".repeat(3000)[..], &b"a".repeat(2999), b"."].concat();
    vec![
        (
            "a text of 2^63 bytes",
            [&b"\x80\x04\x8d"[..], &(1u64 << 63).to_le_bytes()].concat(),
        ),
        (
            "a frame of 2^62 bytes",
            [&b"\x80\x04\x95"[..], &(1u64 << 62).to_le_bytes()].concat(),
        ),
        (
            "an integer of minus one bytes",
            b"\x80\x02\x8b\xff\xff\xff\xff.".to_vec(),
        ),
        ("lists in lists", deep),
        ("a list in itself", b"]\x94h\x00a.".to_vec()),
        ("a dict in itself", b"}\x94(Vstudent_name\nh\x00u.".to_vec()),
        ("a million texts made of one", pairs),
        ("ninety thousand marks", b"(".repeat(90_000)),
    ]
}

#[cfg(test)]
mod tests {
    use ahoy_wire::pickle::decode;

    use super::*;

    #[test]
    fn the_greeting_is_written_as_cpython_does() {
        let expected = b"\x80\x04\x95\x12\0\0\0\0\0\0\0}\x94\x8c\x08clientid\x94M\xe4\xecs.";
        assert_eq!(greeting(60_644), expected);
        for port in [1, 255, 256, 65_535] {
            let (value, _) = decode(&greeting(port)).expect("a pickle");
            assert_eq!(value.repr().to_string(), format!("{{'clientid': {port}}}"));
        }
    }

    #[test]
    fn the_golden_registrations_are_what_they_say() {
        let alice = "{'student_name': 'Alice Brown', 'github_username': 'abrown', \
                     'sid': 123456789}";
        for pickle in ALICE {
            let (value, len) = decode(pickle).expect("a pickle");
            assert_eq!(
                (value.repr().to_string(), len),
                (alice.to_owned(), pickle.len())
            );
        }
        let shared = "{'student_name': 'alice', 'github_username': 'alice', 'sid': 42}";
        for (_, pickle) in SHARED {
            let (value, len) = decode(pickle).expect("a pickle");
            assert_eq!(
                (value.repr().to_string(), len),
                (shared.to_owned(), pickle.len())
            );
        }
    }
}
