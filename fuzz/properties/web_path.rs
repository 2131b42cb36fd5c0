//! What must hold of every path that is looked for on the disk.

use ahoy_logic::web::parse_target;

/// Panics if it does not hold for `data`.
pub fn holds(data: &[u8]) {
    for dotfiles in [false, true] {
        let Ok(target) = parse_target(data, dotfiles) else {
            continue;
        };
        assert!(target.path.len() < 4096, "the kernel takes it");
        if target.path.is_empty() {
            assert!(target.folder, "only the served folder has no name");
            continue;
        }
        for name in target.path.split(|&byte| byte == b'/') {
            assert!(
                (1..=255).contains(&name.len()),
                "a name that a file can have"
            );
            assert!(
                name != b"." && name != b"..",
                "nothing that leads elsewhere"
            );
            assert!(!name.contains(&0));
            assert!(dotfiles || !name.starts_with(b"."), "nothing hidden");
        }
    }
}
