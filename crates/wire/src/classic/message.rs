//! What peers tell a tracker, and the directory that it answers with.
//!
//! An entry that is unfit (a name that leads elsewhere, a time that is none) is left out and the
//! rest counts (classic-7); a message that is unfit as a whole is an error.

use core::net::{IpAddr, SocketAddr};
use core::num::NonZeroU16;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::json::{put_number, put_string};
use super::name::{FileName, Mtime};

/// The longest message of a peer, in bytes (classic-9).
pub const MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The longest directory, in bytes (classic-9).
pub const DIRECTORY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The most files of one peer (classic-9); what is beyond is left out.
pub const FILES_MAX: usize = 16_384;

/// A file as its holder announces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// What it is called.
    pub name: FileName,
    /// When it was last changed.
    pub mtime: Mtime,
}

/// What a peer tells its tracker (classic-3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMessage {
    /// The port on which it serves its files.
    pub port: NonZeroU16,
    /// All its files, in an init; None in a keep-alive.
    pub files: Option<Vec<FileEntry>>,
    /// How many entries were unfit and left out.
    pub left_out: usize,
}

/// Where a file is to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Where its holder serves files.
    pub addr: SocketAddr,
    /// When the file was last changed.
    pub mtime: Mtime,
}

/// The tracker's answer: one holder for each name (classic-5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// The holders.
    pub files: BTreeMap<FileName, Holder>,
    /// How many entries were unfit and left out.
    pub left_out: usize,
}

/// Why an object is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessage {
    /// Not JSON, or not of the form of the message.
    #[error("sent a message that cannot be read: {0}")]
    Json(String),
    /// No port that could be dialled.
    #[error("sent a message without a port from 1 to 65535")]
    Port,
}

impl PeerMessage {
    /// Reads one object.
    ///
    /// # Errors
    /// [`InvalidMessage`] (classic-8).
    pub fn decode(object: &[u8]) -> Result<Self, InvalidMessage> {
        let raw: RawMessage<'_> = serde_json::from_slice(object).map_err(explain)?;
        let port = raw.port.and_then(|port| read_port(port.get()));
        let port = port.ok_or(InvalidMessage::Port)?;
        let Some(raw_files) = raw.files else {
            return Ok(Self {
                port,
                files: None,
                left_out: 0,
            });
        };
        let fit = raw_files.iter().filter_map(|file| read_file(file.get()));
        let files: Vec<FileEntry> = fit.take(FILES_MAX).collect();
        let left_out = raw_files.len() - files.len();
        Ok(Self {
            port,
            files: Some(files),
            left_out,
        })
    }

    /// The message as one line of ASCII (classic-2).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut json = b"{\"port\": ".to_vec();
        put_number(self.port.get().into(), &mut json);
        if let Some(files) = &self.files {
            json.extend_from_slice(b", \"files\": [");
            for (place, file) in files.iter().enumerate() {
                if place > 0 {
                    json.extend_from_slice(b", ");
                }
                json.extend_from_slice(b"{\"name\": ");
                put_string(file.name.as_str(), &mut json);
                json.extend_from_slice(b", \"mtime\": ");
                put_number(file.mtime.secs(), &mut json);
                json.push(b'}');
            }
            json.push(b']');
        }
        json.extend_from_slice(b"}\n");
        json
    }
}

impl Directory {
    /// Reads one object.
    ///
    /// # Errors
    /// [`InvalidMessage`] if it is not an object of JSON.
    pub fn decode(object: &[u8]) -> Result<Self, InvalidMessage> {
        let RawDirectory(entries) = serde_json::from_slice(object).map_err(explain)?;
        let mut directory = Self::default();
        for (name, value) in entries {
            let name = std::str::from_utf8(&name).ok();
            let name = name.and_then(|name| FileName::new(name).ok());
            match name.zip(read_holder(value.get())) {
                Some((name, holder)) => drop(directory.files.insert(name, holder)),
                None => directory.left_out += 1,
            }
        }
        Ok(directory)
    }

    /// The directory as one line of ASCII (classic-2).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut json = b"{".to_vec();
        for (place, (name, holder)) in self.files.iter().enumerate() {
            if place > 0 {
                json.extend_from_slice(b", ");
            }
            put_entry(name, holder, &mut json);
        }
        json.extend_from_slice(b"}\n");
        json
    }
}

/// Appends one entry of a directory, without the comma.
pub fn put_entry(name: &FileName, holder: &Holder, json: &mut Vec<u8>) {
    put_string(name.as_str(), json);
    json.extend_from_slice(b": {\"ip\": ");
    put_string(&holder.addr.ip().to_string(), json);
    json.extend_from_slice(b", \"port\": ");
    put_number(holder.addr.port().into(), json);
    json.extend_from_slice(b", \"mtime\": ");
    put_number(holder.mtime.secs(), json);
    json.push(b'}');
}

/// Values are read one by one afterwards, so that one unfit entry spoils no other.
#[derive(Deserialize)]
struct RawMessage<'a> {
    #[serde(borrow, default)]
    port: Option<&'a RawValue>,
    #[serde(borrow, default)]
    files: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct RawFile {
    name: String,
    mtime: f64,
}

#[derive(Deserialize)]
struct RawHolder<'a> {
    ip: IpAddr,
    #[serde(borrow)]
    port: &'a RawValue,
    mtime: f64,
}

/// The entries in the order in which they came. Names are bytes: an escape that is no character
/// (Python writes one for a file name that is not UTF-8) spoils its own entry only.
struct RawDirectory<'a>(Vec<(Vec<u8>, &'a RawValue)>);

struct RawName(Vec<u8>);

fn explain(error: serde_json::Error) -> InvalidMessage {
    InvalidMessage::Json(error.to_string())
}

/// A whole number, or one in quotes, as some programs write it.
fn read_port(value: &str) -> Option<NonZeroU16> {
    value.trim_matches('"').parse().ok()
}

fn read_file(value: &str) -> Option<FileEntry> {
    let raw: RawFile = serde_json::from_str(value).ok()?;
    Some(FileEntry {
        name: FileName::new(&raw.name).ok()?,
        mtime: Mtime::from_secs_f64(raw.mtime)?,
    })
}

fn read_holder(value: &str) -> Option<Holder> {
    let raw: RawHolder<'_> = serde_json::from_str(value).ok()?;
    let port = read_port(raw.port.get())?;
    Some(Holder {
        addr: (raw.ip.to_canonical(), port.get()).into(),
        mtime: Mtime::from_secs_f64(raw.mtime)?,
    })
}

impl<'de: 'a, 'a> Deserialize<'de> for RawDirectory<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawDirectory<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a member for each file")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((RawName(name), value)) = map.next_entry()? {
                    entries.push((name, value));
                }
                Ok(RawDirectory(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl<'de> Deserialize<'de> for RawName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = RawName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                Ok(RawName(bytes.to_vec()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(RawName(text.as_bytes().to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, secs: i64) -> FileEntry {
        let name = FileName::new(name).expect("a name");
        let mtime = Mtime::from_secs(secs).expect("a time");
        FileEntry { name, mtime }
    }

    fn message(port: u16, files: Option<Vec<FileEntry>>, left_out: usize) -> PeerMessage {
        let port = NonZeroU16::new(port).expect("a port");
        PeerMessage {
            port,
            files,
            left_out,
        }
    }

    /// classic-2, classic-3: the very bytes of the courses' programs.
    #[test]
    fn messages_have_the_plain_form() {
        let init = message(8000, Some(vec![entry("fileA.txt", 1_771_289_241)]), 0);
        let text = b"{\"port\": 8000, \"files\": [{\"name\": \"fileA.txt\", \
                     \"mtime\": 1771289241}]}\n";
        assert_eq!(init.encode(), text);
        assert_eq!(PeerMessage::decode(text), Ok(init));
        let alive = message(8000, None, 0);
        assert_eq!(alive.encode(), b"{\"port\": 8000}\n");
        let empty = message(1, Some(Vec::new()), 0);
        assert_eq!(empty.encode(), b"{\"port\": 1, \"files\": []}\n");
        let mut directory = Directory::default();
        let addr = "127.0.0.1:8000".parse().expect("an address");
        let FileEntry { name, mtime } = entry("fileA.txt", 1_771_289_241);
        directory.files.insert(name, Holder { addr, mtime });
        let text = b"{\"fileA.txt\": {\"ip\": \"127.0.0.1\", \"port\": 8000, \
                     \"mtime\": 1771289241}}\n";
        assert_eq!(directory.encode(), text);
        assert_eq!(Directory::decode(text), Ok(directory));
        assert_eq!(Directory::decode(b"{}"), Ok(Directory::default()));
    }

    /// classic-3, classic-7.
    #[test]
    fn what_is_meant_is_read_and_what_is_unfit_is_left_out() {
        for (text, expected) in [
            (
                r#"{"files":[],"port":80,"more":{"a":[]}}"#,
                message(80, Some(vec![]), 0),
            ),
            (r#"{"port": "81", "files": null}"#, message(81, None, 0)),
            (
                r#"{"port":1,"files":[{"mtime":12.9,"name":"\u00e9 \ud83d\ude00","size":3}]}"#,
                message(1, Some(vec![entry("é 😀", 12)]), 0),
            ),
            (
                r#"{"port":1,"files":[{"name":"../a","mtime":1},{"name":"a"},7,null,"b",
                   {"name":"\udc80","mtime":1},{"name":"c","mtime":1e99},
                   {"name":"ok","mtime":2}]}"#,
                message(1, Some(vec![entry("ok", 2)]), 7),
            ),
        ] {
            assert_eq!(PeerMessage::decode(text.as_bytes()), Ok(expected), "{text}");
        }
        let directory = br#"{"\udc80": {"ip": "127.0.0.1", "port": 1, "mtime": 1},
            "a": {"ip": "host", "port": 1, "mtime": 1}, "..": {"ip": "::1", "port": 1, "mtime": 1},
            "b": {"ip": "::1", "port": 0, "mtime": 1}, "c": 3,
            "d": {"ip": "::ffff:127.0.0.1", "port": 9, "mtime": 1.5}}"#;
        let directory = Directory::decode(directory).expect("an object");
        assert_eq!(directory.left_out, 5);
        let text = directory.encode();
        assert_eq!(
            text,
            b"{\"d\": {\"ip\": \"127.0.0.1\", \"port\": 9, \"mtime\": 1}}\n"
        );
    }

    /// classic-8.
    #[test]
    fn what_is_no_message_is_an_error() {
        for text in [
            "{",
            "{\"port\": }",
            "{\"port\": 1,}",
            "{\"port\": 1, \"files\": 3}",
            "{]",
        ] {
            let read = PeerMessage::decode(text.as_bytes());
            assert!(matches!(read, Err(InvalidMessage::Json(_))), "{text}");
        }
        for text in [
            "{}",
            "{\"port\": 0}",
            "{\"port\": 65536}",
            "{\"port\": null}",
        ] {
            let read = PeerMessage::decode(text.as_bytes());
            assert_eq!(read, Err(InvalidMessage::Port), "{text}");
        }
        assert!(Directory::decode(b"{\"a\": }").is_err());
    }

    /// classic-9.
    #[test]
    fn files_beyond_the_maximum_are_left_out() {
        let file = "{\"name\": \"a\", \"mtime\": 1}";
        let files = vec![file; FILES_MAX + 3].join(",");
        let read = PeerMessage::decode(format!("{{\"port\":1,\"files\":[{files}]}}").as_bytes());
        let read = read.expect("a message");
        assert_eq!(read.files.map(|files| files.len()), Some(FILES_MAX));
        assert_eq!(read.left_out, 3);
    }
}
