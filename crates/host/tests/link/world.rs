//! Two ends of a link, and what stands around them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ahoy_host::sync::keys::PeerKey;
use ahoy_host::sync::limits::{Caps, Limits};
use ahoy_host::sync::link::{Link, Pace, Port, Shelf, Surroundings};
use ahoy_host::sync::links::Links;
use ahoy_host::sync::session::{Membership, Session, SessionError, accept, dial};
use ahoy_logic::sync::{Input, LinkId};
use ahoy_wire::sync::{
    Capability, Chunk, ChunkHash, Cuts, Frame, Hash, Intake, NodeId, Refusal, RelPath, Secret,
    Stretch, Wanted,
};

/// Longer than anything here takes on a busy machine; only a failing test waits for it.
pub const LONG: Duration = Duration::from_secs(60);

pub fn writers() -> Capability {
    Capability::ReadWrite(Secret::new([7; 32]))
}

pub fn readers() -> Capability {
    let secret = Secret::new([7; 32]);
    let write = ahoy_host::sync::keys::WriteKey::from_seed(&secret.write_seed()).public();
    Capability::ReadOnly {
        read: secret.read_key(),
        write,
    }
}

/// Some stretch of some content.
pub fn whole() -> Stretch {
    Stretch {
        offset: 0,
        len: 5000,
        cuts: Cuts::Content,
        grain: 14,
    }
}

/// A membership under a key made from `seed`.
pub fn member(seed: u8, capability: &Capability) -> Arc<Membership> {
    let membership = Membership::new(PeerKey::from_seed([seed; 32]), capability);
    Arc::new(membership.expect("a membership"))
}

pub struct Ear(Sender<Input>);

impl Port for Ear {
    fn input(&self, input: Input) {
        // A test that has seen enough no longer listens.
        let _ = self.0.send(input);
    }
}

/// Content in temporary files.
#[derive(Default)]
pub struct Files {
    files: Mutex<BTreeMap<Hash, (File, u64)>>,
    pub small: Mutex<BTreeMap<RelPath, Arc<[u8]>>>,
}

impl Files {
    pub fn put(&self, bytes: &[u8]) -> Wanted {
        let hash = Hash(*blake3::hash(bytes).as_bytes());
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(bytes).expect("room for it");
        let mut files = self.files.lock().expect("no test panics here");
        files.insert(hash, (file, bytes.len() as u64));
        Wanted {
            node: NodeId([1; 16]),
            hash,
        }
    }

    /// Until the answer is dropped, no file can be opened.
    pub fn hold(&self) -> impl Drop + '_ {
        struct Held<'a>(
            #[expect(dead_code, reason = "held, not read")]
            MutexGuard<'a, BTreeMap<Hash, (File, u64)>>,
        );
        impl Drop for Held<'_> {
            fn drop(&mut self) {}
        }
        Held(self.files.lock().expect("no test panics here"))
    }

    pub fn file(&self, wanted: Wanted) -> File {
        let files = self.files.lock().expect("no test panics here");
        files[&wanted.hash]
            .0
            .try_clone()
            .expect("another descriptor")
    }
}

impl Shelf for Files {
    fn open(&self, wanted: Wanted) -> Result<(File, u64), Refusal> {
        let files = self.files.lock().expect("no test panics here");
        let (file, size) = files.get(&wanted.hash).ok_or(Refusal::NotHere)?;
        Ok((file.try_clone().map_err(|_| Refusal::Unreadable)?, *size))
    }

    fn outline(&self, wanted: Wanted, _: Stretch) -> Result<Vec<Chunk>, Refusal> {
        let (_, size) = self.open(wanted)?;
        let len = u32::try_from(size).map_err(|_| Refusal::Unreadable)?;
        Ok(vec![Chunk {
            len,
            hash: ChunkHash([1; 16]),
        }])
    }

    fn small(&self, path: &RelPath, hash: Hash, size: u64) -> Option<Arc<[u8]>> {
        let small = self.small.lock().expect("no test panics here");
        let bytes = small.get(path)?;
        let same = bytes.len() as u64 == size && blake3::hash(bytes).as_bytes() == &hash.0;
        same.then(|| Arc::clone(bytes))
    }
}

/// One machine.
pub struct Side {
    pub links: Arc<Links>,
    pub inputs: Mutex<Receiver<Input>>,
    pub files: Arc<Files>,
}

impl Side {
    pub fn new(membership: Arc<Membership>, pace: Pace) -> Self {
        Self::listening(membership, pace, None)
    }

    /// One that tells its peers where it takes connections.
    pub fn listening(membership: Arc<Membership>, pace: Pace, port: Option<u16>) -> Self {
        Self::limited(membership, pace, port, &Limits::new(Caps::default()))
    }

    /// One that keeps to limits.
    pub fn limited(
        membership: Arc<Membership>,
        pace: Pace,
        listening_port: Option<u16>,
        limits: &Arc<Limits>,
    ) -> Self {
        let (sender, inputs) = channel();
        let files = Arc::new(Files::default());
        let links = Links::new(Surroundings {
            membership,
            port: Arc::new(Ear(sender)),
            shelf: Arc::clone(&files) as Arc<dyn Shelf>,
            listening_port,
            pace,
            limits: Arc::clone(limits),
        });
        Self {
            links,
            inputs: Mutex::new(inputs),
            files,
        }
    }

    pub fn next(&self) -> Input {
        let inputs = self.inputs.lock().expect("one listener");
        inputs.recv_timeout(LONG).expect("an input")
    }

    /// What a fresh link tells its engine.
    pub fn opened(&self) -> LinkId {
        let Input::Opened { link, .. } = self.next() else {
            panic!("opened first")
        };
        for _ in 0..2 {
            assert!(matches!(self.next(), Input::Room { link: room } if room == link));
        }
        link
    }

    pub fn link(&self, id: LinkId) -> Arc<Link> {
        self.links.link(id).expect("an open link")
    }

    /// Waits for the end of a link, past whatever comes before.
    pub fn closed(&self, id: LinkId) {
        while !matches!(self.next(), Input::Closed { link } if link == id) {}
    }
}

/// A listening socket on a port of its own.
pub fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// The end of a handshake that goes well.
pub fn soon() -> Instant {
    Instant::now() + LONG
}

pub fn nobody() -> Arc<Membership> {
    let secret = Capability::ReadWrite(Secret::new([99; 32]));
    Arc::new(Membership::new(PeerKey::random().expect("random"), &secret).expect("a membership"))
}

/// What comes of one side dialing and the other accepting.
pub fn meet(
    dialer: &Membership,
    expected: Option<ahoy_wire::peer::PeerId>,
    acceptor: &Arc<Membership>,
) -> (Result<Session, SessionError>, Result<Session, SessionError>) {
    let (listener, address) = listen();
    std::thread::scope(|scope| {
        let accepted = scope.spawn(|| {
            let (socket, _) = listener.accept().expect("a connection");
            accept(socket, std::slice::from_ref(acceptor), &nobody(), soon())
                .map(|(_, session)| session)
        });
        let dialed = dial(dialer, address, expected, |_| true);
        (dialed, accepted.join().expect("no panic"))
    })
}

/// Two sides, connected: the first one dialed.
pub fn pair(a: &Capability, b: &Capability, pace: Pace) -> ((Side, LinkId), (Side, LinkId)) {
    let free = Limits::new(Caps::default());
    limited_pair((a, &free), (b, &free), pace)
}

/// The same, under limits.
pub fn limited_pair(
    (a, limits_of_a): (&Capability, &Arc<Limits>),
    (b, limits_of_b): (&Capability, &Arc<Limits>),
    pace: Pace,
) -> ((Side, LinkId), (Side, LinkId)) {
    let (a, b) = (member(1, a), member(2, b));
    let (dialed, accepted) = meet(&a, Some(b.me().id()), &b);
    let a = Side::limited(a, pace, None, limits_of_a);
    let b = Side::limited(b, pace, None, limits_of_b);
    a.links.open(dialed.expect("a session")).expect("a link");
    b.links.open(accepted.expect("a session")).expect("a link");
    let (first, second) = (a.opened(), b.opened());
    ((a, first), (b, second))
}

/// A side, and a bare session with it on which a test can say what it likes.
pub fn side_and_session(
    mine: &Capability,
    theirs: &Capability,
    pace: Pace,
) -> (Side, LinkId, Session) {
    let (a, b) = (member(1, theirs), member(2, mine));
    let (dialed, accepted) = meet(&a, Some(b.me().id()), &b);
    let side = Side::new(b, pace);
    side.links
        .open(accepted.expect("a session"))
        .expect("a link");
    let link = side.opened();
    (side, link, dialed.expect("a session"))
}

/// Bytes that are not all alike.
pub fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&len.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("a connection");
    socket.set_read_timeout(Some(LONG)).expect("a limit");
    socket
}

/// A peer that keeps to no rules.
pub struct Rogue {
    tls: rustls::Connection,
    socket: TcpStream,
    intake: Intake,
    rest: Vec<u8>,
}

impl Rogue {
    pub fn new(session: Session) -> Self {
        let (mut tls, socket) = session.into_connection();
        tls.set_buffer_limit(None);
        socket.set_read_timeout(Some(LONG)).expect("a limit");
        socket.set_write_timeout(Some(LONG)).expect("a limit");
        Self {
            tls,
            socket,
            intake: Intake::default(),
            rest: Vec::new(),
        }
    }

    /// Whether all of it could be sent.
    pub fn say_bytes(&mut self, bytes: &[u8]) -> bool {
        self.tls.writer().write_all(bytes).expect("no limit");
        while self.tls.wants_write() {
            if self.tls.write_tls(&mut self.socket).is_err() {
                return false;
            }
        }
        true
    }

    pub fn say(&mut self, frames: &[Frame]) -> bool {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        self.say_bytes(&bytes)
    }

    /// The next frame; `None` when the other side has closed.
    pub fn hear(&mut self) -> Option<Frame> {
        loop {
            let mut rest = self.rest.as_slice();
            let frame = self.intake.take(&mut rest, true).expect("honest frames");
            self.rest = rest.to_vec();
            if frame.is_some() {
                return frame;
            }
            let mut buffer = [0; 65536];
            match self.tls.reader().read(&mut buffer) {
                Ok(n @ 1..) => self.rest.extend_from_slice(&buffer[..n]),
                Ok(0) => return None,
                Err(_) => {
                    let got = self.tls.read_tls(&mut self.socket);
                    if !matches!(got, Ok(1..)) || self.tls.process_new_packets().is_err() {
                        return None;
                    }
                }
            }
        }
    }

    /// Listens until the other side closes.
    pub fn until_closed(&mut self) {
        while self.hear().is_some() {}
    }
}
