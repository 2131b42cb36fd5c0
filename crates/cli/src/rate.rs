//! Limits on bytes per second as people write them: `500K`, `2M`, `1.5MiB/s`, `10Mbit/s`.

use ahoy_logic::limit::Rate;

use crate::words::bytes;

/// What a flag says: this rate, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cap(pub Option<Rate>);

/// Units by what they stand for, in bytes, small letters. As with rsync: K is 1024, KB is 1000.
const UNITS: [(&str, f64); 17] = [
    ("", 1.0),
    ("b", 1.0),
    ("k", 1_024.0),
    ("kib", 1_024.0),
    ("kb", 1_000.0),
    ("m", 1_048_576.0),
    ("mib", 1_048_576.0),
    ("mb", 1_000_000.0),
    ("g", 1_073_741_824.0),
    ("gib", 1_073_741_824.0),
    ("gb", 1_000_000_000.0),
    ("kbit", 125.0),
    ("mbit", 125_000.0),
    ("gbit", 125_000_000.0),
    ("kbps", 125.0),
    ("mbps", 125_000.0),
    ("gbps", 125_000_000.0),
];

/// Reads a rate; `0`, `none` and `unlimited` are no limit.
pub fn cap(text: &str) -> Result<Cap, String> {
    const EXPECTED: &str = "expected bytes per second, such as 500K, 2M, 1.5MiB/s or 10Mbit/s; 0 \
                            for no limit";
    let lower = text.trim().to_ascii_lowercase();
    if matches!(lower.as_str(), "none" | "unlimited") {
        return Ok(Cap(None));
    }
    let plain = lower.strip_suffix("/s").unwrap_or(&lower);
    let end = plain.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = plain.split_at(end.unwrap_or(plain.len()));
    let number: f64 = number.parse().map_err(|_| EXPECTED)?;
    let unit = unit.trim_start();
    let (_, factor) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(EXPECTED)?;
    // Above 2^64 it becomes 2^64 - 1, which no wire reaches.
    let rate = (number * factor) as u64;
    if number == 0.0 {
        return Ok(Cap(None));
    }
    let rate = Rate::new(rate).ok_or_else(|| {
        let least = bytes(Rate::MIN.bytes_per_second());
        format!("{text} is too slow to keep connections alive; the least is {least}/s")
    })?;
    Ok(Cap(Some(rate)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_as_people_write_them() {
        let check = |text: &str, want: u64| {
            let Cap(rate) = cap(text).expect(text);
            assert_eq!(rate.map_or(0, Rate::bytes_per_second), want, "{text}");
        };
        check("500K", 512_000);
        check("500k", 512_000);
        check("2M", 2 << 20);
        check("1.5MiB/s", 3 << 19);
        check("1.5 MB/s", 1_500_000);
        check("10Mbit/s", 1_250_000);
        check("100Mbps", 12_500_000);
        check("65536", 65_536);
        check("1G", 1 << 30);
        check("0", 0);
        check("0K", 0);
        check("none", 0);
        check("unlimited", 0);
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for bad in [
            "", "K", "fast", "-5K", "1.2.3M", "5X", "1e9", "2M/h", "inf", "nan",
        ] {
            let said = cap(bad).expect_err(bad);
            assert!(said.contains("such as"), "{bad}: {said}");
        }
        let slow = cap("500").expect_err("it is too slow");
        assert!(slow.contains("the least is 9.8 KiB/s"), "{slow}");
    }
}
