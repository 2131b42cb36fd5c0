//! Serves the files of the folder to whoever asks, many at once, each on a thread of its own.
//!
//! A slow or silent client costs its own slot and nothing else (classic-56): a request must come in
//! time, a file must move, and one address has only so many slots.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ahoy_logic::classic::{LocalFile, PeerOptions};
use ahoy_wire::classic::{
    FileName, FileRequest, Generation, REQUEST_BYTES_MAX, header, read_request,
};
use rustix::io::Errno;
use socket2::SockRef;

use super::folder::Folder;

/// Clients served at once; more wait in the backlog (classic-56).
const CLIENTS_MAX: usize = 128;
/// Clients served at once of one address; more are closed.
const CLIENTS_PER_SOURCE_MAX: usize = 64;
/// Until the whole request is there.
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// After this long without a byte, what is there is a bare request (classic-52).
const BARE_WAIT: Duration = Duration::from_millis(400);
/// A client that takes no byte for so long is cut off.
const STALL_MAX: Duration = Duration::from_secs(10);
/// For a whole file: so long, and one second for each [`BYTES_PER_SECOND_MIN`].
const WHOLE_MAX: Duration = Duration::from_secs(60);
/// Slower clients are cut off, in bytes per second.
const BYTES_PER_SECOND_MIN: u64 = 64 * 1024;
/// After the last byte, how long a client may take to close.
const LINGER_MAX: Duration = Duration::from_secs(1);
/// Bytes handed to the system at once.
const PIECE_BYTES: u64 = 1024 * 1024;
/// How long accepting rests when the system has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A file that went out whole: its name, to whom, how many bytes.
pub(super) type OnServed = dyn Fn(FileName, SocketAddr, u64) + Send + Sync;

/// The serving side; lives as long as the process.
pub(super) struct Server {
    pub(super) folder: Arc<Folder>,
    pub(super) options: PeerOptions,
    pub(super) on_served: Box<OnServed>,
    slots: Mutex<BTreeMap<IpAddr, usize>>,
    freed: Condvar,
}

impl Server {
    pub(super) fn new(folder: Arc<Folder>, options: PeerOptions, on_served: Box<OnServed>) -> Self {
        Self {
            folder,
            options,
            on_served,
            slots: Mutex::default(),
            freed: Condvar::new(),
        }
    }

    /// Accepts for ever.
    pub(super) fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            match listener.accept() {
                Ok((stream, from)) => self.admit(stream, from),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept; trying again");
                    std::thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, from: SocketAddr) {
        let source = from.ip().to_canonical();
        let mut slots = self.lock();
        if slots.get(&source).copied().unwrap_or(0) >= CLIENTS_PER_SOURCE_MAX {
            return;
        }
        while slots.values().sum::<usize>() >= CLIENTS_MAX {
            slots = self
                .freed
                .wait(slots)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *slots.entry(source).or_default() += 1;
        drop(slots);
        let server = Arc::clone(self);
        let spawned = std::thread::Builder::new()
            .name("classic-serve".to_owned())
            .spawn(move || {
                if let Err(error) = server.serve(&stream, from) {
                    tracing::debug!(%from, %error, "not served");
                }
                server.release(source);
            });
        if spawned.is_err() {
            self.release(source);
        }
    }

    fn release(&self, source: IpAddr) {
        let mut slots = self.lock();
        if let Some(count) = slots.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                slots.remove(&source);
            }
        }
        drop(slots);
        self.freed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: &TcpStream, from: SocketAddr) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(STALL_MAX))?;
        let request = receive(stream)?;
        // classic-6, classic-33: unfit names did not get here, excluded ones are not there.
        let mut names = request.names.iter();
        let found = names
            .by_ref()
            .filter(|name| !self.options.is_excluded(name))
            .find_map(|name| Some((name, self.folder.read(name).ok()?)));
        let Some((name, (file, is))) = found else {
            // classic-53: no file is answered by closing, without a byte.
            return leave(stream);
        };
        match self.send(stream, request.generation, &file, &is) {
            Ok(()) => {
                (self.on_served)(name.clone(), from, is.size);
                leave(stream)
            }
            Err(error) => {
                // classic-54: what is not whole must not look as if it were.
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
                Err(error)
            }
        }
    }

    /// Sends the file as it is asked for (classic-50, classic-51), exactly as long as it was.
    fn send(
        &self,
        mut stream: &TcpStream,
        generation: Generation,
        file: &std::fs::File,
        is: &LocalFile,
    ) -> io::Result<()> {
        match generation {
            Generation::Lines => stream.write_all(&header(is.size))?,
            Generation::Bare => {}
        }
        let until =
            Instant::now() + WHOLE_MAX + Duration::from_secs(is.size / BYTES_PER_SECOND_MIN);
        let mut left = is.size;
        while left > 0 {
            let last = left <= PIECE_BYTES;
            // The last piece makes it whole; a file that was changed meanwhile is not this file.
            if last && self.folder.again(file)?.as_ref() != Some(is) {
                return Err(io::Error::other("the file was changed while it was sent"));
            }
            if Instant::now() > until {
                return Err(ErrorKind::TimedOut.into());
            }
            let piece = left.min(PIECE_BYTES) as usize;
            match rustix::fs::sendfile(stream, file, None, piece) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(sent) => left -= sent as u64,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

/// Reads a request of either generation (classic-52).
fn receive(mut stream: &TcpStream) -> io::Result<FileRequest> {
    let until = Instant::now() + REQUEST_MAX;
    let mut bytes = Vec::new();
    let mut buffer = [0; REQUEST_BYTES_MAX];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        let wait = if bytes.is_empty() {
            left
        } else {
            left.min(BARE_WAIT)
        };
        stream.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        let ended = match stream.read(&mut buffer) {
            Ok(0) => true,
            Ok(len) => {
                bytes.extend_from_slice(&buffer[..len]);
                false
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => false,
            Err(error) if error.kind() == ErrorKind::WouldBlock => !bytes.is_empty(),
            Err(error) => return Err(error),
        };
        if let Some(request) = read_request(&bytes, ended) {
            return Ok(request);
        }
    }
}

/// Ends our side and lets the client end its own, so that no reset overtakes the file.
fn leave(mut stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    let until = Instant::now() + LINGER_MAX;
    let mut buffer = [0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut buffer) {
            Ok(len) if len > 0 => {}
            Ok(_) | Err(_) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    struct Served {
        temp: tempfile::TempDir,
        addr: SocketAddr,
    }

    fn served() -> Served {
        let temp = tempfile::tempdir().expect("a directory");
        let folder = Arc::new(Folder::open(temp.path()).expect("opened"));
        let server = Server::new(folder, PeerOptions::default(), Box::new(|_, _, _| {}));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound");
        std::thread::spawn(move || Arc::new(server).accept(&listener));
        Served { temp, addr }
    }

    fn ask(addr: SocketAddr, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(addr).expect("it accepts");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a limit");
        stream.write_all(request).expect("it takes it");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("a clean end");
        answer
    }

    /// classic-50, classic-51, classic-52, classic-55.
    #[test]
    fn each_generation_gets_its_own_answer() {
        let served = served();
        fs::write(served.temp.path().join("a é"), "content").expect("written");
        fs::write(served.temp.path().join("empty"), "").expect("written");
        for (request, expected) in [
            ("a é\n", "Content-Length: 7\ncontent"),
            ("a é\r\n", "Content-Length: 7\ncontent"),
            ("\"a \\u00e9\"\n", "Content-Length: 7\ncontent"),
            ("a é", "content"),
            ("\"a \\u00e9\"", "content"),
            ("empty\n", "Content-Length: 0\n"),
            ("empty", ""),
        ] {
            let answer = ask(served.addr, request.as_bytes());
            assert_eq!(String::from_utf8_lossy(&answer), expected, "{request:?}");
        }
    }

    /// classic-6, classic-33, classic-53.
    #[test]
    fn what_is_not_to_be_had_is_answered_by_the_end_alone() {
        let served = served();
        fs::write(served.temp.path().join("a.py"), "x").expect("written");
        fs::create_dir(served.temp.path().join("folder")).expect("made");
        for request in [
            "none",
            "a.py",
            "folder",
            "../etc/passwd",
            "/etc/passwd",
            ".ahoy",
            "",
            "\0",
        ] {
            for end in ["\n", ""] {
                // The very first thing said may be the end of the stream.
                let mut stream = TcpStream::connect(served.addr).expect("it accepts");
                let text = format!("{request}{end}");
                stream.write_all(text.as_bytes()).expect("it takes it");
                stream.shutdown(Shutdown::Write).expect("ended");
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).expect("a clean end");
                assert_eq!(answer, b"", "{text:?}");
            }
        }
    }

    /// classic-56.
    #[test]
    fn silent_clients_keep_nobody_waiting() {
        let served = served();
        fs::write(served.temp.path().join("a"), "content").expect("written");
        let connect = || TcpStream::connect(served.addr).expect("it accepts");
        let _silent: Vec<TcpStream> = (0..CLIENTS_PER_SOURCE_MAX - 1).map(|_| connect()).collect();
        let began = Instant::now();
        assert_eq!(ask(served.addr, b"a\n"), b"Content-Length: 7\ncontent");
        assert!(began.elapsed() < REQUEST_MAX);
    }

    /// classic-54.
    #[test]
    fn a_file_that_changes_while_it_is_sent_ends_in_a_reset() {
        let served = served();
        let path = served.temp.path().join("large");
        for request in ["large\n", "large"] {
            let file = File::create(&path).expect("made");
            file.set_len(64 * 1024 * 1024).expect("lengthened");
            let mut stream = TcpStream::connect(served.addr).expect("it accepts");
            stream.write_all(request.as_bytes()).expect("it takes it");
            let mut first = [0; 1000];
            stream.read_exact(&mut first).expect("it begins");
            file.set_len(10).expect("cut");
            let end = stream.read_to_end(&mut Vec::new());
            assert_eq!(
                end.expect_err("no clean end").kind(),
                ErrorKind::ConnectionReset
            );
        }
    }
}
