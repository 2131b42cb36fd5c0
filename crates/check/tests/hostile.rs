//! No server and no client can hold the examiner: it comes to an end, in its time, with a report
//! that accepts nobody, whatever the other side does or leaves undone.
//!
//! The other sides here know nothing of any protocol. What a fault of one protocol is found by is
//! in the tests of its column.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ahoy_check::attempt::Limits;
use ahoy_check::case::Column;
use ahoy_check::report::Report;
use ahoy_check::runner::{LEFT_BEHIND, Verdict, run, select};
use ahoy_check::{echo, enroll, hello, web};

const LIMITS: Limits = Limits {
    reply_max: Duration::from_millis(150),
    quiet: Duration::from_millis(30),
    case_max: Duration::from_millis(600),
};

/// Who sends without end sends so much at once,
const ENDLESS_BYTES: usize = 16 * 1024;

/// and then lets the others have the processor for so long.
const ENDLESS_PAUSE: Duration = Duration::from_millis(5);

/// How a server treats whoever comes.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// Accepts, reads what comes and says nothing.
    Silent,
    /// Accepts and does not even read.
    Deaf,
    /// Closes at once.
    Closes,
    /// Says the first, and then the second without end.
    Endless(&'static [u8], &'static [u8]),
    /// Says one byte after the other, each well before anybody gives up.
    Trickles(&'static [u8]),
}

const MANNERS: [Manner; 10] = [
    Manner::Silent,
    Manner::Deaf,
    Manner::Closes,
    Manner::Endless(b"", &[b'a'; 4096]),
    Manner::Endless(b"HTTP/1.1 200 OK\r\n\r\n", &[b'a'; 4096]),
    Manner::Endless(b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n"),
    Manner::Endless(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\na\r\nffffffffffffffff\r\na\r\n",
    ),
    Manner::Endless(
        b"",
        b"\x80\x04}\x94\x8c\x08clientid\x94M\x4d\xc3s.\x80\x04K\x01.",
    ),
    Manner::Endless(b"", b"OK 1234 127.0.0.1 50000 "),
    Manner::Trickles(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
];

#[test]
fn no_server_holds_the_examiner() {
    let columns: [fn(SocketAddr) -> Column; 5] = [
        echo_column,
        hello_column,
        web_column,
        |addr| enroll_column(addr, enroll::Clients::Many),
        |addr| enroll_column(addr, enroll::Clients::One),
    ];
    let examinations: Vec<_> = MANNERS
        .into_iter()
        .flat_map(|manner| columns.map(|column| (manner, column)))
        .map(|(manner, column)| {
            let examine = move || examined(column(serve(manner)), &[]);
            (manner, thread::spawn(examine))
        })
        .collect();
    for (manner, examination) in examinations {
        let report = examination.join().expect("an examination never crashes");
        judge(&format!("{manner:?}"), &report);
    }
}

/// Clients that are no clients: what they do, and the program.
const CLIENTS: [(&str, &[&str]); 7] = [
    ("is not there", &["/nowhere/no-such-program"]),
    ("ends at once", &["true"]),
    ("prints without end", &["yes"]),
    ("leaves somebody behind", &["sh", "-c", "sleep 3 & exit 1"]),
    ("connects and is silent", &["python3", "-c", CONNECTS, ""]),
    ("sends without end", &["python3", "-c", CONNECTS, "endless"]),
    ("never connects", &["sleep", "1000"]),
];

/// A Python program for either transport: what to do, then what the examiner appends.
const CONNECTS: &str = "
import socket, sys, time
host, port = [word for word in sys.argv[2:] if word not in ('HELLO', '0042')][:2]
s = socket.create_connection((host, int(port)))
if sys.argv[1]:
    while True: s.sendall(b'a' * 4096)
time.sleep(1000)
";

#[test]
fn no_client_holds_the_examiner() {
    let examinations: Vec<_> = CLIENTS
        .into_iter()
        .flat_map(|(what, words)| [(what, words, true), (what, words, false)])
        .map(|(what, words, is_hello)| {
            let command = words.iter().map(|word| (*word).to_owned()).collect();
            // Waiting for a client that never connects takes its time: only once.
            let wanted: &[&str] = match (what, is_hello) {
                ("never connects", true) => &["hello-23"],
                ("never connects", false) => &["enroll-16/registration"],
                _ => &[],
            };
            let examine = move || {
                let column = if is_hello {
                    hello_clients_column(command)
                } else {
                    enroll_clients_column(command)
                };
                examined(column, wanted)
            };
            (what, thread::spawn(examine))
        })
        .collect();
    for (what, examination) in examinations {
        let report = examination.join().expect("an examination never crashes");
        judge(what, &report);
    }
}

fn examined(column: Column, wanted: &[&str]) -> Report {
    let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
    let (service, target) = (column.service.to_owned(), column.target.clone());
    let column = select(column, &wanted).expect("names that have cases");
    Report {
        service,
        target,
        strict: false,
        results: run(column, LIMITS, |_| {}),
    }
}

/// Nobody is accepted, every script ended by itself and none of them crashed.
fn judge(what: &str, report: &Report) {
    let who = format!("{} {what}", report.service);
    assert!(!report.accepts(), "{who}: {}", report.summary());
    for result in &report.results {
        let title = &result.title;
        match &result.verdict {
            Verdict::Error(why) => panic!("{who}: {title}: {why}"),
            Verdict::Failed(why) => assert!(!why.contains(LEFT_BEHIND), "{who}: {title}: {why}"),
            Verdict::Passed | Verdict::Skipped(_) => {}
        }
    }
    // Every form of the report can be written, whatever is in it.
    serde_json::from_str::<serde_json::Value>(&report.json()).expect("JSON");
    assert!(report.junit().ends_with("</testsuites>\n"));
}

/// A server of that manner on one port of both transports; it lives as long as the test.
fn serve(manner: Manner) -> SocketAddr {
    let (listener, datagrams) = loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound");
        if let Ok(datagrams) = UdpSocket::bind(addr) {
            break (listener, datagrams);
        }
    };
    let addr = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            // The other side leaves when it has had enough.
            thread::spawn(move || treat(stream, manner));
        }
    });
    thread::spawn(move || answer(&datagrams, manner));
    addr
}

fn treat(mut stream: TcpStream, manner: Manner) -> std::io::Result<()> {
    match manner {
        Manner::Silent => {
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer)? > 0 {}
            // It ends when its client resets the connection or the test ends.
            hold(&stream);
        }
        Manner::Deaf => hold(&stream),
        Manner::Closes => {}
        Manner::Endless(first, then) => {
            stream.write_all(first)?;
            let block = then.repeat(ENDLESS_BYTES.div_ceil(then.len()));
            loop {
                stream.write_all(&block)?;
                wait(ENDLESS_PAUSE);
            }
        }
        Manner::Trickles(first) => {
            let more = first.iter().chain(std::iter::repeat(&b'a'));
            for byte in more {
                stream.write_all(&[*byte])?;
                wait(LIMITS.reply_max / 5);
            }
        }
    }
    Ok(())
}

/// Keeps a connection open for longer than any case lasts.
fn hold(_stream: &TcpStream) {
    wait(LIMITS.case_max * 3);
}

/// Lets time pass: what this server does is to be slow.
fn wait(time: Duration) {
    let (_keep, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}

fn answer(datagrams: &UdpSocket, manner: Manner) {
    let mut buffer = [0; 65_536];
    while let Ok((_, from)) = datagrams.recv_from(&mut buffer) {
        match manner {
            Manner::Silent | Manner::Deaf | Manner::Closes => {}
            // More than anybody's buffer takes; without end, others would never be heard.
            Manner::Endless(first, then) => {
                for _ in 0..300 {
                    let _ = datagrams.send_to(&[first, then].concat(), from);
                }
            }
            Manner::Trickles(first) => {
                let _ = datagrams.send_to(&first[..1], from);
            }
        }
    }
}

fn echo_column(addr: SocketAddr) -> Column {
    echo::column(&echo::Target {
        addr,
        tcp: true,
        udp: true,
        idle: None,
    })
}

fn hello_column(addr: SocketAddr) -> Column {
    hello::column(&hello::Target {
        addr,
        udp: true,
        tcp: true,
        lease: None,
        idle: None,
        protect: false,
    })
}

fn web_column(addr: SocketAddr) -> Column {
    web::column(&web::Target {
        addr,
        path: "/notes.txt".to_owned(),
        folder: Some("/folder".to_owned()),
        request: None,
        idle: None,
    })
}

fn enroll_column(addr: SocketAddr, clients: enroll::Clients) -> Column {
    enroll::column(&enroll::Target {
        addr,
        clients,
        idle: None,
    })
}

fn hello_clients_column(command: Vec<String>) -> Column {
    hello::client_column(&hello::Client {
        command,
        tcp: true,
        reply: Some(Duration::from_millis(100)),
        timestamps: true,
    })
}

fn enroll_clients_column(command: Vec<String>) -> Column {
    enroll::client_column(&enroll::Client {
        command,
        wait: Some(Duration::from_millis(100)),
    })
}
