//! What must hold for any file of rules, and any path.

use ahoy_logic::sync::Rules;
use ahoy_wire::sync::RelPath;

/// Nothing panics; what is below something left out is left out, a line that does not count is one
/// that is there, and two sets leave out what either does.
pub fn holds(data: &[u8]) {
    let (text, path) = match data.iter().position(|byte| *byte == 0) {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &b"a/b"[..]),
    };
    let (rules, bad) = Rules::parse(text);
    let lines = text.split(|byte| *byte == b'\n').count();
    assert!(bad.iter().all(|bad| (1..=lines).contains(&bad.line)));
    let Ok(path) = RelPath::parse(path) else {
        return;
    };
    assert!(!rules.ignores(&RelPath::root(), true));
    let mut is_out = false;
    let mut at = RelPath::root();
    for name in path.names() {
        let Some(below) = at.join(&name) else { return };
        let is_below_out = rules.ignores(&below, true);
        assert!(
            is_below_out || !is_out,
            "{below:?} is in something left out"
        );
        assert!(rules.and(&rules).ignores(&below, true) == is_below_out);
        assert!(Rules::everything().ignores(&below, false));
        (at, is_out) = (below, is_below_out);
    }
}
