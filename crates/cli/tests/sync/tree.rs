//! What is in a folder, read in full, to compare one with another; and trees to begin with.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

/// One thing in a folder.
#[derive(Clone, PartialEq, Eq)]
pub enum Node {
    Dir {
        mode: u32,
        mtime: (i64, i64),
    },
    File {
        mode: u32,
        mtime: (i64, i64),
        content: Vec<u8>,
    },
    Link {
        mtime: (i64, i64),
        target: PathBuf,
    },
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dir { mode, mtime } => write!(f, "dir {mode:o} {mtime:?}"),
            Self::File {
                mode,
                mtime,
                content,
            } => {
                let start = content[..content.len().min(16)].escape_ascii();
                write!(
                    f,
                    "file {mode:o} {mtime:?} {} bytes \"{start}\"",
                    content.len()
                )
            }
            Self::Link { mtime, target } => write!(f, "link {mtime:?} -> {target:?}"),
        }
    }
}

/// Everything in a folder but ahoy's own directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree(pub BTreeMap<PathBuf, Node>);

impl Tree {
    /// Reads a folder; what vanishes meanwhile is left out.
    pub fn read(root: &Path) -> Self {
        let mut tree = Self::default();
        let mut todo = vec![PathBuf::new()];
        while let Some(dir) = todo.pop() {
            let Ok(entries) = fs::read_dir(root.join(&dir)) else {
                continue;
            };
            for entry in entries.flatten() {
                let path = dir.join(entry.file_name());
                if entry.file_name() == ".ahoy" {
                    continue;
                }
                let Some(node) = read_node(&root.join(&path)) else {
                    continue;
                };
                if let Node::Dir { .. } = node {
                    todo.push(path.clone());
                }
                tree.0.insert(path, node);
            }
        }
        tree
    }

    /// The content of a file.
    pub fn content(&self, path: &str) -> Option<&[u8]> {
        match self.0.get(Path::new(path))? {
            Node::File { content, .. } => Some(content),
            Node::Dir { .. } | Node::Link { .. } => None,
        }
    }

    /// Where a link points.
    pub fn target(&self, path: &str) -> Option<&Path> {
        match self.0.get(Path::new(path))? {
            Node::Link { target, .. } => Some(target),
            Node::Dir { .. } | Node::File { .. } => None,
        }
    }

    pub fn has(&self, path: &str) -> bool {
        self.0.contains_key(Path::new(path))
    }

    /// Whether some file has this content, whatever its name.
    pub fn holds(&self, wanted: &[u8]) -> bool {
        self.0
            .values()
            .any(|node| matches!(node, Node::File { content, .. } if content == wanted))
    }

    /// What is not the same in another tree.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut paths: Vec<_> = self.0.keys().chain(other.0.keys()).collect();
        paths.sort();
        paths.dedup();
        let differ = paths
            .into_iter()
            .filter(|path| self.0.get(*path) != other.0.get(*path));
        let words = |path: &PathBuf| {
            format!(
                "{path:?}: {:?} against {:?}",
                self.0.get(path),
                other.0.get(path)
            )
        };
        differ.map(words).take(20).collect()
    }
}

fn read_node(path: &Path) -> Option<Node> {
    let found = path.symlink_metadata().ok()?;
    let mtime = (found.mtime(), found.mtime_nsec());
    let mode = found.mode() & 0o7777;
    if found.is_dir() {
        return Some(Node::Dir { mode, mtime });
    }
    if found.is_symlink() {
        return Some(Node::Link {
            mtime,
            target: fs::read_link(path).ok()?,
        });
    }
    Some(Node::File {
        mode,
        mtime,
        content: fs::read(path).ok()?,
    })
}

/// Files in ahoy's own directory of a shared folder beside its marker and lock: nothing may stay
/// there when all is done.
pub fn litter(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![root.join(".ahoy")];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).expect("ahoy's own directory").flatten() {
            let path = entry.path();
            if path.is_dir() && !path.is_symlink() {
                todo.push(path);
            } else if entry.file_name() != "share" && entry.file_name() != "lock" {
                found.push(path);
            }
        }
    }
    found
}

/// Bytes that no file system and no compression can make little of; the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Sets the mtime of what is at `path` itself, whatever it is.
pub fn set_mtime(path: &Path, secs: i64, nanos: i64) {
    let time = Timespec {
        tv_sec: secs,
        tv_nsec: nanos,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("an mtime");
}

/// A bit of everything that a file system can hold.
pub fn variety(root: &Path) {
    let file = |name: &[u8], content: &[u8], mode: u32| {
        let path = root.join(OsStr::from_bytes(name));
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode");
    };
    for dir in ["deep/er/still", "empty", "closed"] {
        fs::create_dir_all(root.join(dir)).expect("a directory");
    }
    file(b"nothing", b"", 0o644);
    file(b"small", b"hello", 0o600);
    file(b"run", b"#!/bin/sh\n", 0o755);
    file(b"set user", b"x", 0o4755);
    file(b"read only", b"r", 0o444);
    // Around the size up to which content travels with its record.
    for len in [65_535, 65_536, 65_537] {
        file(
            format!("deep/{len}").as_bytes(),
            &noise(len as u64, len),
            0o640,
        );
    }
    file(b"deep/er/big", &noise(7, 3_000_000), 0o644);
    file(b"deep/er/same", &noise(7, 3_000_000), 0o644);
    file(b"deep/er/still/holes", &vec![0; 1_000_000], 0o644);
    // Any name that Linux allows.
    file(b"new\nline", b"1", 0o644);
    file(b"\xff\xfe not UTF-8", b"2", 0o644);
    file(b"-rf --no-preserve-root", b"3", 0o644);
    file(b"back\\slash \"quote\" $HOME `id` *?[", b"4", 0o644);
    file(&[b'n'; 255], b"5", 0o644);
    file("ÅÅ".as_bytes(), b"two ways to write one letter", 0o644);
    file(b".hidden", b"6", 0o644);
    file(b"Case", b"7", 0o644);
    file(b"case", b"8", 0o644);
    symlink("small", root.join("link")).expect("a link");
    symlink("/nowhere/at all", root.join("dangling")).expect("a link");
    symlink("../../..", root.join("deep/up")).expect("a link");
    let odd = PathBuf::from(std::ffi::OsString::from_vec(b"\xff".to_vec()));
    symlink(odd, root.join("odd link")).expect("a link");
    set_mtime(&root.join("small"), 1_000_000_000, 123_456_789);
    set_mtime(&root.join("nothing"), -5, 999_999_999);
    set_mtime(&root.join("run"), 0, 0);
    set_mtime(&root.join("link"), 1_234_567_890, 1);
    fs::set_permissions(root.join("closed"), Permissions::from_mode(0o700)).expect("a mode");
    set_mtime(&root.join("empty"), 1_111_111_111, 111_111_111);
    set_mtime(&root.join("deep/er"), 1_222_222_222, 222_222_222);
}

/// `count` small files in `count / 100` directories.
pub fn many(root: &Path, count: usize) {
    for n in 0..count {
        let dir = root.join(format!("d{:03}", n / 100));
        if n.is_multiple_of(100) {
            fs::create_dir_all(&dir).expect("a directory");
        }
        fs::write(dir.join(format!("f{n:05}")), noise(n as u64 + 1, 4096)).expect("a file");
    }
}
