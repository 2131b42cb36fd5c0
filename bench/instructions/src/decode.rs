//! Bytes from strangers into messages, and a file into chunks.

use ahoy_logic::sync::chunks;
use ahoy_wire::hello;
use ahoy_wire::peer::PeerId;
use ahoy_wire::sync::{Frame, Intake, Item, Message, NodeId, Records, Wanted};
use ahoy_wire::tracker::{
    Announcement, Challenge, HoldingSummary, PeerAddress, PeerEntry, PeerMessage, ShareId,
    Signature, TrackerMessage, Ttl,
};
use ahoy_wire::{bounded::Bounded, web};

use crate::{Numbers, measured, plan};

/// Frames of a session: 20 messages of 100 records, 200 pieces of content, 780 small ones.
pub const FRAMES: usize = 1_000;

/// Requests to hello.
pub const REQUESTS: usize = 20_000;

/// Messages to and from a tracker.
pub const MESSAGES: usize = 4_000;

/// Requests to the web server.
pub const HEADS: usize = 4_000;

/// Length of the file that is cut.
pub const CUT_MIB: usize = 8;

/// What comes on a link, in pieces as a socket brings them.
pub fn sync() {
    let mut numbers = Numbers(1);
    let mut bytes = Vec::new();
    for number in 0..FRAMES as u32 {
        frame(number, &mut numbers).encode(&mut bytes);
    }
    let frames = measured((Intake::default(), &bytes[..]), |(mut intake, bytes)| {
        let mut frames = 0;
        for mut piece in bytes.chunks(16 * 1024) {
            while let Ok(Some(_)) = intake.take(&mut piece, false) {
                frames += 1;
            }
        }
        frames
    });
    assert_eq!(frames, FRAMES);
}

fn frame(number: u32, numbers: &mut Numbers) -> Frame {
    match number % 50 {
        0 => {
            let first = number as usize * 2;
            let item = |record| Item {
                record,
                signature: None,
                content: None,
            };
            let items = (first..first + 100)
                .map(|n| item(plan::record(n)))
                .collect();
            Frame::Message(Message::Records(Records { upto: 1, items }))
        }
        1..=10 => Frame::Data {
            request: number,
            offset: u64::from(number) << 20,
            bytes: numbers.bytes(4_096),
        },
        11..=20 => Frame::Get {
            request: number,
            wanted: Wanted {
                node: NodeId([3; 16]),
                hash: plan::hash(number as usize),
            },
            offset: 0,
            len: 1 << 20,
        },
        21..=30 => Frame::Done { request: number },
        31..=40 => Frame::Message(Message::Holding {
            upto: u64::from(number),
        }),
        41..=45 => Frame::Credit { batches: 1 },
        _ => Frame::Ping,
    }
}

/// Datagrams, good and bad.
pub fn hello() {
    let datagrams: Vec<Vec<u8>> = (0..REQUESTS)
        .map(|n| match n % 10 {
            0 => b"HELLO".to_vec(),
            1 => format!("HELLO  {n:04} and more").into_bytes(),
            2 => format!("hello {n:04}\r\n").into_bytes(),
            _ => format!("HELLO {:04}", n % 10_000).into_bytes(),
        })
        .collect();
    let good = measured(&datagrams, |datagrams| {
        let good = |bytes: &&Vec<u8>| hello::Request::from_whole(bytes).is_ok();
        datagrams.iter().filter(good).count()
    });
    assert!(good >= REQUESTS * 8 / 10, "{good}");
}

/// Announcements to a tracker, and the lists that it gives.
pub fn tracker() {
    let mut bytes = Vec::new();
    for n in 0..MESSAGES / 2 {
        let message = match n % 4 {
            0 => PeerMessage::Announce(announcement(n).sign(|_| [7; Signature::BYTES])),
            1 => PeerMessage::List(ShareId::new([3; 32])),
            _ => PeerMessage::KeepAlive,
        };
        message.encode(&mut bytes);
    }
    let split = bytes.len();
    for n in 0..MESSAGES / 2 {
        let message = if n % 4 == 0 {
            TrackerMessage::Peers {
                share: ShareId::new([3; 32]),
                last: true,
                entries: Bounded::truncated((n..n + 8).map(entry)),
            }
        } else {
            TrackerMessage::Alive
        };
        message.encode(&mut bytes);
    }
    let count = measured(bytes.split_at(split), |(mut said, mut answered)| {
        let mut count = 0;
        while let Ok((_, len)) = PeerMessage::decode(said) {
            said = &said[len..];
            count += 1;
        }
        while let Ok((_, len)) = TrackerMessage::decode(answered) {
            answered = &answered[len..];
            count += 1;
        }
        count
    });
    assert_eq!(count, MESSAGES);
}

fn announcement(n: usize) -> Announcement {
    Announcement {
        challenge: Challenge([1; 16]),
        share: ShareId::new([3; 32]),
        peer: PeerId::new([n as u8; 32]),
        sequence: n as u64,
        ttl: Ttl::from_seconds(30).expect("in range"),
        holding: HoldingSummary {
            files: 2,
            bytes: 1 << 40,
            version: Bounded::truncated(*b"mark"),
        },
        addresses: Bounded::truncated(
            ["192.0.2.1:7447", "[2001:db8::1]:7447"]
                .into_iter()
                .filter_map(|text| PeerAddress::new(text.parse().ok()?)),
        ),
    }
}

fn entry(n: usize) -> PeerEntry {
    PeerEntry {
        signed: announcement(n).sign(|_| [7; Signature::BYTES]),
        seen: PeerAddress::new(([192, 0, 2, 1], 7_447).into()).expect("an address"),
    }
}

/// What browsers and command lines ask for.
pub fn web() {
    let heads: Vec<String> = (0..HEADS)
        .map(|n| match n % 4 {
            0 => format!("GET /file-{n}.html HTTP/1.1\r\nHost: localhost:8080\r\n\r\n"),
            1 => format!(
                "GET /a/b/c/file%20{n}.css?v=1 HTTP/1.1\r\nHost: files.example\r\n\
                 User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0)\r\n\
                 Accept: text/css,*/*;q=0.1\r\nAccept-Language: en-US,en;q=0.5\r\n\
                 Accept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\n\
                 If-Modified-Since: Sat, 21 Nov 2026 10:00:00 GMT\r\n\
                 If-None-Match: \"abc{n}\", W/\"def\"\r\n\r\n"
            ),
            2 => format!(
                "GET /film.mkv HTTP/1.1\r\nHost: h\r\nRange: bytes={n}-{}, -500\r\n\
                 If-Range: \"tag\"\r\n\r\n",
                n + 1_000
            ),
            _ => "HEAD / HTTP/1.0\r\n\r\n".to_owned(),
        })
        .collect();
    let whole = measured(&heads, |heads| {
        let whole = |head: &&String| {
            let parsed = web::parse_request(head.as_bytes());
            matches!(parsed, Ok(web::Parsed::Complete { .. }))
        };
        heads.iter().filter(whole).count()
    });
    assert_eq!(whole, HEADS);
}

/// A file into chunks where its content says.
pub fn cut() {
    let bytes = Numbers(1).bytes(CUT_MIB << 20);
    let chunks = measured(&bytes[..], |mut bytes| {
        let mut count = 0;
        while !bytes.is_empty() {
            bytes = &bytes[chunks::content_len(bytes, 14)..];
            count += 1;
        }
        count
    });
    assert!((CUT_MIB * 32..CUT_MIB * 128).contains(&chunks), "{chunks}");
}
