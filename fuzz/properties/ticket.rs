//! What must hold for any text that somebody takes for a ticket, or a server name.

use ahoy_wire::sync::Hint;
use ahoy_wire::ticket::Ticket;

/// Nothing panics, and what can be read is written as what reads the same.
pub fn holds(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match text.parse::<Ticket>() {
        Ok(ticket) => {
            let again = ticket.to_string();
            assert_eq!(again.parse::<Ticket>().as_ref(), Ok(&ticket));
            let _ = ticket.check_time(0);
        }
        // For people: one line, and not a second ticket.
        Err(error) => {
            let said = error.to_string();
            assert!(!said.contains('\n') && said.len() < 200, "{said}");
        }
    }
    if let Some(hint) = Hint::parse(&text) {
        assert_eq!(hint.to_string(), text.to_ascii_lowercase());
    }
}
