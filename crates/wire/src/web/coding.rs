//! Content codings and the weights a client gives them (RFC 9110 section 12.5.3).

/// A coding a file may be stored in beside its plain form, in order of our preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Coding {
    /// Brotli, `.br`.
    Br,
    /// Zstandard, `.zst`.
    Zstd,
    /// Gzip, `.gz`.
    Gzip,
}

impl Coding {
    /// Every coding, most preferred first.
    pub const ALL: [Coding; 3] = [Coding::Br, Coding::Zstd, Coding::Gzip];

    /// As `Content-Encoding` names it.
    pub fn token(self) -> &'static str {
        match self {
            Coding::Br => "br",
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
        }
    }

    /// What is appended to a file's name for its coded form.
    pub fn suffix(self) -> &'static str {
        match self {
            Coding::Br => ".br",
            Coding::Zstd => ".zst",
            Coding::Gzip => ".gz",
        }
    }

    /// Its place in [`Coding::ALL`].
    pub fn index(self) -> usize {
        match self {
            Coding::Br => 0,
            Coding::Zstd => 1,
            Coding::Gzip => 2,
        }
    }
}

/// The weights of one request, in thousandths; 0 is "not acceptable".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptEncoding {
    coded: [u16; 3],
    identity: u16,
}

impl Default for AcceptEncoding {
    /// No such field: the plain form. Any coding would be allowed, but a client that can decode
    /// says so.
    fn default() -> Self {
        AcceptEncoding {
            coded: [0; 3],
            identity: 1000,
        }
    }
}

impl AcceptEncoding {
    /// Reads the field's values, one per field line. What is not understood is passed over.
    pub fn parse<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut named: [Option<u16>; 4] = [None; 4];
        let mut star = None;
        for member in values.flat_map(|value| value.split(|&b| b == b',')) {
            let mut parts = member.split(|&b| b == b';');
            let token = parts.next().unwrap_or_default().trim_ascii();
            let Some(weight) = weight(parts) else {
                continue;
            };
            let slot = match token.to_ascii_lowercase().as_slice() {
                b"br" => &mut named[0],
                b"zstd" => &mut named[1],
                b"gzip" | b"x-gzip" => &mut named[2],
                b"identity" => &mut named[3],
                b"*" => &mut star,
                _ => continue,
            };
            slot.get_or_insert(weight);
        }
        let star_or = |weight: Option<u16>, default| weight.or(star).unwrap_or(default);
        AcceptEncoding {
            coded: [
                star_or(named[0], 0),
                star_or(named[1], 0),
                star_or(named[2], 0),
            ],
            identity: named[3].unwrap_or(if star == Some(0) { 0 } else { 1 }),
        }
    }

    /// The weight of a coding, 0 to 1000.
    pub fn weight(&self, coding: Coding) -> u16 {
        self.coded[coding.index()]
    }

    /// The weight of the plain form. Unnamed it is the least that is not 0: acceptable, but after
    /// anything the client did name.
    pub fn identity_weight(&self) -> u16 {
        self.identity
    }
}

/// The weight among a member's parameters: 1000 if none, `None` if it cannot be read.
fn weight<'a>(parameters: impl Iterator<Item = &'a [u8]>) -> Option<u16> {
    for parameter in parameters {
        let parameter = parameter.trim_ascii();
        if let [b'q' | b'Q', b'=', value @ ..] = parameter {
            return thousandths(value);
        }
    }
    Some(1000)
}

/// `qvalue`: 0 or 1, and up to three digits after the point.
fn thousandths(value: &[u8]) -> Option<u16> {
    let (whole, fraction) = match value {
        [b'0', b'.', fraction @ ..] => (0, fraction),
        [b'1', b'.', fraction @ ..] => (1000, fraction),
        b"0" => (0, &[][..]),
        b"1" => (1000, &[][..]),
        _ => return None,
    };
    if fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |place: usize| u16::from(fraction.get(place).map_or(0, |d| d - b'0'));
    let value = whole + digit(0) * 100 + digit(1) * 10 + digit(2);
    (value <= 1000).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: weights of br, zstd, gzip, identity.
    fn check(field: &str, want: [u16; 4]) {
        let read = AcceptEncoding::parse(std::iter::once(field.as_bytes()));
        let [br, zstd, gzip] = Coding::ALL.map(|coding| read.weight(coding));
        assert_eq!([br, zstd, gzip, read.identity_weight()], want, "{field:?}");
    }

    #[test]
    fn weights() {
        check("", [0, 0, 0, 1]);
        check("gzip", [0, 0, 1000, 1]);
        check("gzip, deflate, br, zstd", [1000, 1000, 1000, 1]);
        check("gzip;q=0.5, BR ; Q=0.25", [250, 0, 500, 1]);
        check("gzip;q=0", [0, 0, 0, 1]);
        check("*", [1000, 1000, 1000, 1]);
        check("*;q=0", [0, 0, 0, 0]);
        check("*;q=0, identity;q=0.5", [0, 0, 0, 500]);
        check("identity;q=1, gzip;q=0.9", [0, 0, 900, 1000]);
        check("br;q=0.001,*;q=0.1", [1, 100, 100, 1]);
        check("gzip;q=2", [0, 0, 0, 1]);
        check("gzip;q=0.1234", [0, 0, 0, 1]);
        check("gzip;q=1.001", [0, 0, 0, 1]);
        check("x-gzip", [0, 0, 1000, 1]);
        check(",,;q=1,gzip;level=9;q=0.3", [0, 0, 300, 1]);
    }

    #[test]
    fn absent_is_the_plain_form() {
        assert_eq!(AcceptEncoding::default().weight(Coding::Gzip), 0);
        assert_eq!(AcceptEncoding::default().identity_weight(), 1000);
    }
}
