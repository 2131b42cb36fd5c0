//! Cuts a stream of bytes into JSON objects, however the network cut it (classic-1).
//!
//! The older generation puts nothing after a message, so its end can only be found by reading it.
//! Each byte is looked at once, whatever the pieces: only brackets, quotes and escapes count here.
//! Whether the object is good JSON is for [`super::message`] to say.

/// Brackets may be nested so deep; the dialect's own messages have three levels.
const DEPTH_MAX: u32 = 64;

/// What arrived, cut into objects.
#[derive(Clone, Debug)]
pub struct Objects {
    buffer: Vec<u8>,
    /// The object that is being read begins here.
    start: usize,
    /// Looked at up to here.
    scanned: usize,
    depth: u32,
    quoted: bool,
    escaped: bool,
    bytes_max: usize,
    after_object: bool,
    lines: bool,
}

/// Why a stream holds no objects that could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unframed {
    /// Something else than an object where one should begin.
    #[error("sent something that is not a JSON object")]
    NoObject,
    /// Longer than it may be.
    #[error("sent a message of more than {bytes_max} bytes")]
    TooLong {
        /// The longest that is taken, in bytes.
        bytes_max: usize,
    },
    /// Nested too deep.
    #[error("sent a message that is nested too deep")]
    TooDeep,
}

impl Objects {
    /// Nothing yet; an object may be up to `bytes_max` bytes long.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            depth: 0,
            quoted: false,
            escaped: false,
            bytes_max,
            after_object: false,
            lines: false,
        }
    }

    /// Takes what arrived. Follow it with [`Objects::next_object`] until that has no more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next object that is there as a whole.
    ///
    /// # Errors
    /// [`Unframed`]; the stream cannot be read any further.
    pub fn next_object(&mut self) -> Result<Option<&[u8]>, Unframed> {
        if self.depth == 0 {
            self.skip_space()?;
        }
        let end = loop {
            let Some(byte) = self.buffer.get(self.scanned) else {
                break None;
            };
            // Before the byte is looked at: what is said of a stream must not hang on its pieces.
            if self.scanned - self.start == self.bytes_max {
                let bytes_max = self.bytes_max;
                return Err(Unframed::TooLong { bytes_max });
            }
            self.scanned += 1;
            if self.is_last(*byte)? {
                break Some(self.scanned);
            }
        };
        let Some(end) = end else {
            // An idle connection keeps no buffer.
            if self.start == self.buffer.len() {
                self.buffer = Vec::new();
                (self.start, self.scanned) = (0, 0);
            }
            return Ok(None);
        };
        let start = std::mem::replace(&mut self.start, end);
        self.after_object = true;
        Ok(Some(&self.buffer[start..end]))
    }

    /// Whether an object has been followed by a line end so far: the newer generation.
    #[must_use]
    pub fn lines(&self) -> bool {
        self.lines
    }

    /// How many bytes of an unfinished message are held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.buffer.len() - self.start
    }

    fn skip_space(&mut self) -> Result<(), Unframed> {
        while let Some(byte) = self.buffer.get(self.scanned) {
            match byte {
                b'{' => return Ok(()),
                byte if is_space(*byte) => {
                    self.lines |= self.after_object && *byte == b'\n';
                    self.scanned += 1;
                    self.start = self.scanned;
                }
                _ => return Err(Unframed::NoObject),
            }
        }
        Ok(())
    }

    /// Takes one byte into account; true if it ends the object.
    fn is_last(&mut self, byte: u8) -> Result<bool, Unframed> {
        if self.quoted {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.quoted = false,
                _ => {}
            }
            return Ok(false);
        }
        match byte {
            b'"' => self.quoted = true,
            b'{' | b'[' => {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(Unframed::TooDeep);
                }
            }
            b'}' | b']' => {
                self.depth -= 1;
                return Ok(self.depth == 0);
            }
            _ => {}
        }
        Ok(false)
    }
}

/// White space of JSON.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All objects of a stream that comes in pieces of `piece` bytes.
    fn cut(stream: &[u8], piece: usize) -> Result<(Vec<String>, bool), Unframed> {
        let mut objects = Objects::new(40);
        let mut found = Vec::new();
        for piece in stream.chunks(piece) {
            objects.push(piece);
            while let Some(object) = objects.next_object()? {
                found.push(String::from_utf8_lossy(object).into_owned());
            }
        }
        Ok((found, objects.lines()))
    }

    fn check(stream: &str, expected: Result<(&[&str], bool), Unframed>) {
        for piece in [1, 2, 3, 1000] {
            let found = cut(stream.as_bytes(), piece);
            let expected = expected.map(|(objects, lines)| {
                let objects = objects.iter().map(|object| (*object).to_owned());
                (objects.collect::<Vec<_>>(), lines)
            });
            assert_eq!(found, expected, "{stream:?} in pieces of {piece}");
        }
    }

    /// classic-1.
    #[test]
    fn objects_are_found_wherever_the_network_cut() {
        check("{\"port\": 1}", Ok((&["{\"port\": 1}"], false)));
        check("{\"port\": 1}\n", Ok((&["{\"port\": 1}"], true)));
        check("{}{}\r\n {}", Ok((&["{}", "{}", "{}"], true)));
        check("\n\n{}", Ok((&["{}"], false)));
        check(
            "{\"a\": \"}\\\"{\"} {",
            Ok((&["{\"a\": \"}\\\"{\"}"], false)),
        );
        check("{\"a\": [{}, {}]}", Ok((&["{\"a\": [{}, {}]}"], false)));
    }

    /// classic-8, classic-9.
    #[test]
    fn what_is_no_object_or_too_much_ends_the_stream() {
        for stream in ["x", "[1]", "{} x", "\"{}\"", "\u{feff}{}"] {
            assert_eq!(
                cut(stream.as_bytes(), 1),
                Err(Unframed::NoObject),
                "{stream}"
            );
        }
        let long = format!("{{{}", " ".repeat(40));
        check(&long, Err(Unframed::TooLong { bytes_max: 40 }));
        let fits = format!("{{{}}}", " ".repeat(38));
        check(&fits, Ok((&[&fits], false)));
        let mut objects = Objects::new(1000);
        objects.push(&[b'{'; 65]);
        assert_eq!(objects.next_object(), Err(Unframed::TooDeep));
    }
}
