//! A ticket as a QR code made of half blocks, two modules to a character.

use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};

/// Black on white from the 256 fixed colours: themes change the first sixteen.
const PAINT: &str = "\x1b[38;5;16;48;5;231m";
const PLAIN: &str = "\x1b[0m";

/// The lines of the code for `ticket`, dark on light whatever the terminal's colours, and their
/// width in characters; `None` if the ticket is too long for a code.
pub fn lines(ticket: &str) -> Option<(Vec<String>, usize)> {
    // Capitals and digits alone take 5.5 bits each instead of 8.
    let code = QrCode::with_error_correction_level(ticket.to_ascii_uppercase(), EcLevel::L).ok()?;
    let image = code.render::<Dense1x2>().module_dimensions(1, 1).build();
    let width = image.lines().next().map_or(0, |line| line.chars().count());
    Some((
        image
            .lines()
            .map(|line| format!("{PAINT}{line}{PLAIN}"))
            .collect(),
        width,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_of_usual_length_fits_a_usual_terminal() {
        let (lines, width) =
            lines(&"ahoy1abcdefghijklmnopqrstuvwxyz234567".repeat(6)).expect("a code");
        assert!(width <= 80, "{width}");
        assert!(lines.len() <= 40, "{}", lines.len());
        for line in lines {
            let modules = line
                .strip_prefix(PAINT)
                .and_then(|line| line.strip_suffix(PLAIN));
            let modules = modules.expect("painted");
            assert_eq!(modules.chars().count(), width);
            assert!(
                modules
                    .chars()
                    .all(|c| " \u{2580}\u{2584}\u{2588}".contains(c))
            );
        }
        assert!(super::lines(&"a".repeat(10_000)).is_none());
    }
}
