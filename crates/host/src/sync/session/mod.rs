//! A session with one peer: a TCP connection, TLS on it, and the proof that both are of one share.
//!
//! [`dial`] and [`accept`] block until the session is proved or refused; each has one limit on the
//! whole of it. Who does not prove anything learns nothing: a wrong knock, a share that is not here
//! and plain noise all end in the same silence. What is said in a session is the business of
//! [`Link`](super::link::Link).

mod lobby;
mod tls;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahoy_logic::sync::Rights;
use ahoy_wire::peer::PeerId;
use ahoy_wire::sync::knock::ALPN;
use ahoy_wire::sync::knock::{
    ANSWER_BYTES, Channel, EXPORTER_BYTES, EXPORTER_LABEL, KNOCK_BYTES, KnockKey, Proof, Role, Tag,
};
use ahoy_wire::sync::{Capability, DoorKey, Hint, WritePublic};
use ahoy_wire::tracker::ShareId;
use rustls::server::Acceptor;
use rustls::{ClientConnection, Connection, ServerConfig, ServerConnection};

use super::keys::{NoRandomness, PeerKey, WriteKey, is_signed, random_bytes};

pub use lobby::{Guest, Lobby};

/// How long a TCP connection may take to come about.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long TLS and the knock may take together (`sync-44`).
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Why there is no session. Told to nobody but the log.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The connection broke, or took too long.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The other end does not speak TLS as ahoy does, or is not the expected peer.
    #[error("no agreement on encryption: {0}")]
    Tls(#[from] rustls::Error),
    /// The other end speaks TLS, but not ahoy.
    #[error("the other end does not speak ahoy's protocol")]
    Foreign,
    /// The other end does not hold the key of the share.
    #[error("the other end does not know the share")]
    Stranger,
    /// The other end claims the right to write, and its signature does not fit.
    #[error("the other end has a false proof of the right to write")]
    FalseProof,
    /// The other end is this machine itself.
    #[error("this is our own address")]
    Myself,
    /// There is a session with this peer already.
    #[error("already connected to this peer")]
    Connected(PeerId),
    /// No random bytes.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// One machine's part in one share: its key, and what the capability gives.
pub struct Membership {
    me: PeerKey,
    share: ShareId,
    knock: KnockKey,
    share_door: DoorKey,
    my_door: DoorKey,
    write: WritePublic,
    write_key: Option<WriteKey>,
    accepting: Arc<ServerConfig>,
}

impl Membership {
    /// Takes part in the share of `capability` as `me`.
    ///
    /// # Errors
    /// None are expected; those of the TLS library are passed on.
    pub fn new(me: PeerKey, capability: &Capability) -> Result<Self, SessionError> {
        let read = capability.read_key();
        let write_key = capability
            .write_seed()
            .map(|seed| WriteKey::from_seed(&seed));
        let write = match (&write_key, capability) {
            (Some(key), _) => key.public(),
            (None, Capability::ReadOnly { write, .. }) => *write,
            (None, Capability::ReadWrite(secret)) => {
                WriteKey::from_seed(&secret.write_seed()).public()
            }
        };
        Ok(Self {
            share: read.share_id(),
            knock: read.knock_key(),
            share_door: read.door_key(),
            my_door: DoorKey::of_peer(&me.id()),
            accepting: tls::accepting(&me)?,
            me,
            write,
            write_key,
        })
    }

    /// Under which key this machine takes part.
    #[must_use]
    pub fn me(&self) -> &PeerKey {
        &self.me
    }

    /// What trackers call the share.
    #[must_use]
    pub fn share(&self) -> ShareId {
        self.share
    }

    /// What this machine may do.
    #[must_use]
    pub fn rights(&self) -> Rights {
        if self.write_key.is_some() {
            Rights::Writer
        } else {
            Rights::Reader
        }
    }

    /// The key that vouches for changes; none if this machine may only read.
    #[must_use]
    pub fn write_key(&self) -> Option<&WriteKey> {
        self.write_key.as_ref()
    }

    /// The key that changes are checked with.
    #[must_use]
    pub fn write_public(&self) -> WritePublic {
        self.write
    }

    /// Makes and knows hints at the share, for discovery on the local network.
    #[must_use]
    pub fn share_door(&self) -> DoorKey {
        self.share_door
    }

    fn is_meant_by(&self, hint: &Hint) -> bool {
        self.my_door.made(hint) | self.share_door.made(hint)
    }

    fn proof(&self, role: Role, channel: &Channel) -> Proof {
        Proof(
            self.write_key
                .as_ref()
                .map(|key| key.sign(&channel.proof_bytes(role))),
        )
    }

    /// What the other end has proved about its right to write.
    fn rights_by(
        &self,
        proof: &[u8; Proof::BYTES],
        role: Role,
        channel: &Channel,
    ) -> Result<Rights, SessionError> {
        match Proof::decode(proof) {
            Some(Proof(None)) => Ok(Rights::Reader),
            Some(Proof(Some(signature))) => {
                is_signed(&self.write.0, &channel.proof_bytes(role), &signature)
                    .then_some(Rights::Writer)
                    .ok_or(SessionError::FalseProof)
            }
            None => Err(SessionError::FalseProof),
        }
    }
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Membership({} in {})",
            self.me.id().short(),
            self.share.short()
        )
    }
}

/// A proved session that nobody has begun to use.
pub struct Session {
    pub(super) tls: Connection,
    pub(super) socket: TcpStream,
    pub(super) peer: PeerId,
    pub(super) address: SocketAddr,
    pub(super) role: Role,
    pub(super) rights: Rights,
}

impl Session {
    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// The other end's address; its port is a listening one only if this end dialed.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Which end this is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// What the other end may do.
    #[must_use]
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// Hands the connection over to somebody who speaks on it otherwise than a link would.
    #[must_use]
    pub fn into_connection(self) -> (Connection, TcpStream) {
        (self.tls, self.socket)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Session({} at {}, {:?})",
            self.peer.short(),
            self.address,
            self.rights
        )
    }
}

/// Opens a session with whoever listens at `address`: with `expected` alone, if that is given, with
/// any peer of the share otherwise. When the peer has proved itself, and before this end commits
/// itself, `wanted` is asked whether there should be a session with it.
///
/// # Errors
/// Every [`SessionError`]; the connection is closed then.
pub fn dial(
    membership: &Membership,
    address: SocketAddr,
    expected: Option<PeerId>,
    wanted: impl FnOnce(PeerId) -> bool,
) -> Result<Session, SessionError> {
    if expected == Some(membership.me.id()) {
        return Err(SessionError::Myself);
    }
    let socket = TcpStream::connect_timeout(&address, CONNECT_LIMIT)?;
    let mut timed = Timed::new(&socket, Instant::now() + HANDSHAKE_LIMIT)?;
    let door = expected.map_or(membership.share_door, |peer| DoorKey::of_peer(&peer));
    let name = tls::server_name(&door.hint(random_bytes()?));
    let mut tls = ClientConnection::new(tls::dialing(&membership.me, expected)?, name)?;
    finish_handshake(&mut tls, &mut timed)?;
    if tls.alpn_protocol() != Some(ALPN) {
        return Err(SessionError::Foreign);
    }
    let peer = tls::peer_of(tls.peer_certificates()).ok_or(SessionError::Foreign)?;
    if peer == membership.me.id() {
        return Err(SessionError::Myself);
    }
    let channel = Channel {
        exporter: tls.export_keying_material([0; EXPORTER_BYTES], EXPORTER_LABEL, None)?,
        dialer: membership.me.id(),
        acceptor: peer,
    };
    let mut stream = rustls::Stream::new(&mut tls, &mut timed);
    stream.write_all(membership.knock.tag(Role::Dialer, &channel).as_bytes())?;
    stream.flush()?;
    let mut answer = [0; ANSWER_BYTES];
    stream.read_exact(&mut answer).map_err(stranger_if_closed)?;
    let (tag, proof) = answer
        .split_first_chunk::<KNOCK_BYTES>()
        .expect("the answer begins with a tag");
    if Tag::from_bytes(*tag) != membership.knock.tag(Role::Acceptor, &channel) {
        return Err(SessionError::Stranger);
    }
    let proof = proof.try_into().expect("the answer ends with a proof");
    let rights = membership.rights_by(proof, Role::Acceptor, &channel)?;
    if !wanted(peer) {
        return Err(SessionError::Connected(peer));
    }
    stream.write_all(&membership.proof(Role::Dialer, &channel).encode())?;
    stream.flush()?;
    let tls = Connection::Client(tls);
    Ok(Session {
        tls,
        socket,
        peer,
        address,
        role: Role::Dialer,
        rights,
    })
}

/// Takes a connection on which the first byte is that of a TLS handshake, until `end`. `served` are
/// the shares that a session may be about; whoever means none of them meets `nobody`, a membership
/// with random keys, and cannot tell the difference (`sync-42`).
///
/// # Errors
/// Every [`SessionError`]; the connection is closed then, and nothing was said but TLS.
pub fn accept(
    socket: TcpStream,
    served: &[Arc<Membership>],
    nobody: &Arc<Membership>,
    end: Instant,
) -> Result<(Arc<Membership>, Session), SessionError> {
    let address = socket.peer_addr()?;
    let mut timed = Timed::new(&socket, end)?;
    let (membership, mut tls) = begin_tls(&mut timed, served, nobody)?;
    finish_handshake(&mut tls, &mut timed)?;
    if tls.alpn_protocol() != Some(ALPN) {
        return Err(SessionError::Foreign);
    }
    let peer = tls::peer_of(tls.peer_certificates()).ok_or(SessionError::Foreign)?;
    let channel = Channel {
        exporter: tls.export_keying_material([0; EXPORTER_BYTES], EXPORTER_LABEL, None)?,
        dialer: peer,
        acceptor: membership.me.id(),
    };
    let mut stream = rustls::Stream::new(&mut tls, &mut timed);
    let mut knock = [0; KNOCK_BYTES];
    stream.read_exact(&mut knock)?;
    if Tag::from_bytes(knock) != membership.knock.tag(Role::Dialer, &channel) {
        return Err(SessionError::Stranger);
    }
    if peer == membership.me.id() {
        return Err(SessionError::Myself);
    }
    let mut answer = membership
        .knock
        .tag(Role::Acceptor, &channel)
        .as_bytes()
        .to_vec();
    answer.extend_from_slice(&membership.proof(Role::Acceptor, &channel).encode());
    stream.write_all(&answer)?;
    stream.flush()?;
    let mut proof = [0; Proof::BYTES];
    stream.read_exact(&mut proof)?;
    let rights = membership.rights_by(&proof, Role::Dialer, &channel)?;
    let tls = Connection::Server(tls);
    let membership = Arc::clone(membership);
    Ok((
        membership,
        Session {
            tls,
            socket,
            peer,
            address,
            role: Role::Acceptor,
            rights,
        },
    ))
}

/// Reads the first TLS message and decides by its hint who answers.
fn begin_tls<'m>(
    timed: &mut Timed<'_>,
    served: &'m [Arc<Membership>],
    nobody: &'m Arc<Membership>,
) -> Result<(&'m Arc<Membership>, ServerConnection), SessionError> {
    let mut acceptor = Acceptor::default();
    let accepted = loop {
        if acceptor.read_tls(timed)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => break accepted,
            Ok(None) => {}
            Err((error, mut alert)) => {
                let _ = alert.write_all(timed);
                return Err(error.into());
            }
        }
    };
    let hint = accepted.client_hello().server_name().and_then(tls::hint_of);
    let meant = |hint: &Hint| served.iter().find(|m| m.is_meant_by(hint));
    let membership = hint.as_ref().and_then(meant).unwrap_or(nobody);
    match accepted.into_connection(Arc::clone(&membership.accepting)) {
        Ok(tls) => Ok((membership, tls)),
        Err((error, mut alert)) => {
            let _ = alert.write_all(timed);
            Err(error.into())
        }
    }
}

fn finish_handshake<D>(
    tls: &mut rustls::ConnectionCommon<D>,
    timed: &mut Timed<'_>,
) -> Result<(), SessionError> {
    while tls.is_handshaking() {
        tls.complete_io(timed).map_err(|error| {
            match error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            {
                Some(tls_error) => SessionError::Tls(tls_error.clone()),
                None => SessionError::Io(error),
            }
        })?;
    }
    Ok(())
}

/// A peer that closes instead of answering does not know the share.
fn stranger_if_closed(error: io::Error) -> SessionError {
    let is_closed = matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    );
    if is_closed {
        SessionError::Stranger
    } else {
        SessionError::Io(error)
    }
}

/// A socket on which everything together has to be done by one moment.
struct Timed<'a> {
    socket: &'a TcpStream,
    end: Instant,
}

impl<'a> Timed<'a> {
    fn new(socket: &'a TcpStream, end: Instant) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self { socket, end })
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(io::ErrorKind::TimedOut.into())
        } else {
            Ok(Some(left))
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(self.left()?)?;
        self.socket.read(buffer).map_err(late)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(self.left()?)?;
        self.socket.write(bytes).map_err(late)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Linux reports a timeout of a blocking socket as "would block".
fn late(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        io::ErrorKind::TimedOut.into()
    } else {
        error
    }
}
