//! Strangers and false friends at a folder that is really being synced.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ahoy_host::sync::doors::{Doors, Listening};
use ahoy_host::sync::home::Home;
use ahoy_host::sync::keys::{PeerKey, WriteKey};
use ahoy_host::sync::limits::{Caps, Limits};
use ahoy_host::sync::link::Pace;
use ahoy_host::sync::ports::Ports;
use ahoy_host::sync::session::dial;
use ahoy_host::sync::share::{Event, Share, ShareConfig};
use ahoy_wire::peer::PeerId;
use ahoy_wire::sync::{
    Capability, Frame, Hash, Hello, Item, Label, Message, Records, ReplicaId, Secret, Value,
};

use crate::records::item;
use crate::world::{LONG, Rogue, Side, connect, listen, member, noise, writers};

/// A folder that is being synced, and those who come to it.
struct Victim {
    share: Share,
    said: Receiver<Event>,
    address: SocketAddr,
    capability: Capability,
    id: PeerId,
    folder: PathBuf,
    _dir: tempfile::TempDir,
}

impl Victim {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = dir.path().join("folder");
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("mine"), "mine").expect("a file");
        let home = Home::at(&dir.path().join("home"));
        let mut claim = home.share(&folder, None).expect("a claim");
        claim.record.mdns = false;
        let socket = home.socket_path(claim.record.replica).expect("a path");
        let ports = Ports::open(&[SocketAddr::from(([127, 0, 0, 1], 0))], &[]).expect("a port");
        let address = ports.addresses()[0];
        let config = ShareConfig {
            claim,
            device: home.device().expect("a device"),
            ports,
            limits: Limits::new(Caps::default()),
            socket,
            accept_empty: false,
        };
        let (sender, said) = channel();
        let sender = Mutex::new(sender);
        let tell = move |event| {
            let _ = sender.lock().expect("no panic").send(event);
        };
        let share = Share::start(config, Box::new(tell)).expect("it starts");
        let ticket = share.ticket(false);
        Self {
            share,
            said,
            address,
            capability: ticket.capability,
            id: ticket.inviter,
            folder,
            _dir: dir,
        }
    }

    fn read_only(&self) -> Capability {
        let Capability::ReadWrite(secret) = &self.capability else {
            panic!("a writer")
        };
        Capability::ReadOnly {
            read: secret.read_key(),
            write: WriteKey::from_seed(&secret.write_seed()).public(),
        }
    }

    /// Somebody of the share, who has introduced himself and keeps to no rules.
    fn member(&self, seed: u8, capability: &Capability) -> Rogue {
        let me = member(seed, capability);
        let session = dial(&me, self.address, Some(self.id), |_| true).expect("a session");
        let mut rogue = Rogue::new(session);
        assert!(rogue.say(&[Frame::Message(Message::Hello(Hello {
            replica: ReplicaId(u64::from(seed)),
            label: Label::tidy("rogue"),
            sequence: 0,
        }))]));
        rogue
    }

    /// What stands in the folder, but for ahoy's own directory.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = names
            .map(|name| name.into_string().expect("text"))
            .filter(|name| name != ".ahoy")
            .collect();
        names.sort();
        names
    }

    /// Waits for a file with this content, and sees to it that it never has another.
    fn until(&self, name: &str, content: &[u8]) {
        let end = Instant::now() + LONG;
        let found = loop {
            match std::fs::read(self.folder.join(name)) {
                Ok(found) => break found,
                Err(_) => std::thread::yield_now(),
            }
            assert!(Instant::now() < end, "{name} never comes");
        };
        assert!(found == content, "{name} has what nobody announced");
    }

    /// It goes on: somebody honest comes, and a change arrives.
    fn still_works(&self) {
        let mut honest = self.member(200, &self.capability);
        assert!(honest.say(&[records(vec![item(200, b"honest")])]));
        self.until("file 200", b"honest");
        self.share.stop();
        loop {
            if let Event::Stopped { error } = self.said.recv_timeout(LONG).expect("it stops") {
                assert_eq!(error, None);
                return;
            }
        }
    }
}

fn records(items: Vec<Item>) -> Frame {
    let records = Records { upto: 1, items };
    Frame::Message(Message::Records(records))
}

/// Answers every request with the content that goes by that hash here, true or not, until the link
/// ends. Tells of each answer.
fn serve(mut rogue: Rogue, contents: &[(Hash, &[u8])], answered: &Sender<Hash>) {
    while let Some(frame) = rogue.hear() {
        let Frame::Get {
            request,
            wanted,
            offset,
            len,
        } = frame
        else {
            continue;
        };
        let (_, content) = contents
            .iter()
            .find(|(hash, _)| *hash == wanted.hash)
            .expect("only what was announced is asked for");
        let range = offset as usize..(offset + len) as usize;
        let mut at = offset;
        for piece in content[range].chunks(100_000) {
            let bytes = piece.to_vec();
            rogue.say(&[Frame::Data {
                request,
                offset: at,
                bytes,
            }]);
            at += piece.len() as u64;
        }
        rogue.say(&[Frame::Done { request }]);
        let _ = answered.send(wanted.hash);
    }
}

#[test]
fn content_that_is_not_what_was_announced_never_has_a_name() {
    let victim = Victim::new();
    let (big, small) = (noise(300_000), b"announced");
    let mut wrong = big.clone();
    wrong[299_999] ^= 1;
    let hash = |bytes: &[u8]| Hash(*blake3::hash(bytes).as_bytes());
    let bare = |n, content| Item {
        content: None,
        ..item(n, content)
    };
    let truth = [(hash(&big), big.as_slice()), (hash(small), small)];
    let lies = [(hash(&big), wrong.as_slice()), (hash(small), b"otherwise")];
    let (lied, lie) = channel();
    let (told, _truths) = channel();
    std::thread::scope(|scope| {
        // Small content comes with its record, and is no more believed than what is asked for.
        let mut liar = victim.member(11, &victim.capability);
        let mut beside = bare(2, small);
        beside.content = Some(b"otherwise"[..].into());
        assert!(liar.say(&[records(vec![bare(1, &big), beside])]));
        scope.spawn(|| serve(liar, &lies, &{ lied }));
        lie.recv_timeout(LONG).expect("it is asked, and lies");
        // Somebody else has it, and it is taken from there: nothing of the lie is in it.
        let mut honest = victim.member(12, &victim.capability);
        assert!(honest.say(&[records(vec![bare(1, &big), bare(2, small)])]));
        scope.spawn(|| serve(honest, &truth, &{ told }));
        victim.until("file 1", &big);
        victim.until("file 2", small);
        victim.still_works();
    });
    assert_eq!(victim.names(), ["file 1", "file 2", "file 200", "mine"]);
}

#[test]
fn a_reader_changes_nothing_whatever_it_sends() {
    let victim = Victim::new();
    let reader = victim.read_only();
    let forger = WriteKey::from_seed(&Secret::new([5; 32]).write_seed());
    let mut gone = item(3, b"");
    gone.record.body.value = Value::Gone {
        was: Box::new(gone.record.body.value.clone()),
        seen: gone.record.body.clock.clone(),
    };
    let mut forged = item(4, b"forged");
    forged.signature = Some(forger.sign_record(&forged.record));
    for bad in [item(1, b"unsigned"), gone, forged] {
        let mut rogue = victim.member(21, &reader);
        rogue.say(&[records(vec![bad])]);
        rogue.until_closed();
    }
    assert_eq!(victim.names(), ["mine"]);
    victim.still_works();
    assert_eq!(victim.names(), ["file 200", "mine"]);
}

#[test]
fn a_member_that_floods_is_kept_within_bounds_and_harms_nobody() {
    let victim = Victim::new();
    let mut flooder = victim.member(31, &victim.capability);
    let wants = vec![Frame::Message(Message::Want { since: 0 }); 50_000];
    let holding = vec![Frame::Message(Message::Holding { upto: 0 }); 50_000];
    std::thread::scope(|scope| {
        // It may be cut off on the way; what counts is that the others do not notice.
        scope.spawn(|| {
            let _ = flooder.say(&wants) && flooder.say(&holding);
            flooder.until_closed();
        });
        victim.still_works();
    });
}

#[test]
fn a_length_that_nobody_could_mean_ends_the_link_at_once() {
    let victim = Victim::new();
    for kind in 0..=u8::MAX {
        let mut rogue = victim.member(41, &victim.capability);
        let mut head = vec![kind];
        head.extend_from_slice(&u32::MAX.to_le_bytes());
        rogue.say_bytes(&head);
        rogue.until_closed();
    }
    victim.still_works();
}

/// The sizes and kinds of all TLS records that come back, and how it ends.
type Traces = (Vec<(u8, usize)>, String);

/// What a port with these shares behind it shows to somebody who is of none of them.
fn shown(served: &[&Side], expected: Option<PeerId>) -> Traces {
    let doors = Doors::new().expect("doors");
    served
        .iter()
        .for_each(|side| doors.add(Arc::clone(&side.links)));
    let port = Listening::start(listen().0, doors, Arc::new(|_, _| {})).expect("a thread");
    let (tap, tapped) = listen();
    let stranger = member(77, &Capability::ReadWrite(Secret::new([55; 32])));
    let address = port.address();
    std::thread::scope(|scope| {
        let seen = scope.spawn(move || {
            let (near, _) = tap.accept().expect("the stranger");
            let far = connect(address);
            let mut near_in = near.try_clone().expect("a copy");
            let mut far_out = far.try_clone().expect("a copy");
            let forth = std::thread::spawn(move || {
                let _ = std::io::copy(&mut near_in, &mut far_out);
            });
            let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
            let end = loop {
                match (&far).read(&mut buffer) {
                    Ok(0) => break "closed".to_owned(),
                    Ok(n) => {
                        kept.extend_from_slice(&buffer[..n]);
                        let _ = (&near).write_all(&buffer[..n]);
                    }
                    Err(error) => break error.kind().to_string(),
                }
            };
            let _ = near.shutdown(std::net::Shutdown::Both);
            forth.join().expect("no panic");
            (kept, end)
        });
        assert!(dial(&stranger, tapped, expected, |_| true).is_err());
        let (kept, end) = seen.join().expect("no panic");
        let (mut sizes, mut rest) = (Vec::new(), kept.as_slice());
        while let Some(head) = rest.first_chunk::<5>() {
            let len = usize::from(u16::from_be_bytes([head[3], head[4]]));
            sizes.push((head[0], len));
            rest = &rest[5 + len..];
        }
        (sizes, end)
    })
}

#[test]
fn a_port_shows_a_stranger_the_same_whether_there_is_a_share_or_not() {
    let side = Side::new(member(2, &writers()), Pace::default());
    let id = side.links.membership().me().id();
    let elsewhere = PeerKey::from_seed([9; 32]).id();
    // sync-42: by the number and sizes of the records, and by how the connection ends.
    let nothing_here = shown(&[], None);
    assert!(nothing_here.0.len() >= 3, "a handshake: {nothing_here:?}");
    assert_eq!(shown(&[&side], None), nothing_here);
    // Who knows the peer's key finds that the peer is there, and no more.
    assert_eq!(shown(&[&side], Some(id)), nothing_here);
    // Who looks for somebody that is not here meets the key made for strangers, in both cases.
    assert_eq!(
        shown(&[&side], Some(elsewhere)),
        shown(&[], Some(elsewhere))
    );
}
