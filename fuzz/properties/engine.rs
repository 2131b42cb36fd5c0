//! What must hold for anything that a member of a share may say to a machine, true or not.

use ahoy_wire::sync::{Frame, Framed};

use crate::peers::Peers;

/// What is asked for and never comes is asked for again, so there may be no end of it while a link
/// is open.
const TURNS: u32 = 400;

/// Nothing panics or goes round in circles, and nothing impossible is wanted of the disk. And
/// whatever a liar has said, two honest machines go on talking with each other afterwards, after
/// a start as well: nobody takes over from him what another would hang up for.
pub fn holds(data: &[u8]) {
    let mut peers = Peers::new(2);
    peers.may_wait = true;
    let folder = &mut peers.all[0].folder;
    for dir in ["d", "e"] {
        folder.mkdir(dir);
    }
    for file in ["a", "d/f", "d/g"] {
        folder.write(file, file.as_bytes());
    }
    folder.link("l", "a");
    peers.scan(0);
    peers.link(0, 1);
    let before = peers.agreed();
    peers.part();
    let liar = peers.stranger(0);
    let mut rest = data;
    let mut is_open = true;
    while let (true, Ok(Framed::Whole(frame, len))) = (is_open, Frame::decode(rest)) {
        rest = &rest[len..];
        if let Frame::Message(message) = frame {
            is_open = peers.hear(liar, message, TURNS);
        }
    }
    peers.crash(0);
    peers.link_for(0, 1, TURNS);
    peers.part();
    for who in [0, 1] {
        peers.crash(who);
    }
    peers.link_for(1, 0, TURNS);
    peers.part();
    if data.is_empty() {
        assert_eq!(peers.agreed(), before);
    }
}
