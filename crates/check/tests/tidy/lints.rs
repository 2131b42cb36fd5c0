//! The calls a floor must not make, in the `clippy.toml` of each crate: they are there, and each
//! says why. Clippy itself finds the breaches.

use crate::{CRATES, read, report, root};

/// What a floor without clock, disk, socket and thread must at least ban.
const PURE: [&str; 9] = [
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::fs::File",
    "std::fs::read",
    "std::fs::write",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::thread::spawn",
];

/// And a floor whose runs must repeat exactly.
const REPEATABLE: [&str; 4] = [
    "std::collections::HashMap::iter",
    "std::collections::HashMap::keys",
    "std::collections::HashMap::values",
    "std::collections::HashSet::iter",
];

#[test]
fn the_pure_floors_ban_the_world() {
    let mut breaches = Vec::new();
    for (krate, calls) in [
        ("wire", PURE.as_slice()),
        ("logic", PURE.as_slice()),
        ("sim", PURE.as_slice()),
        ("logic", REPEATABLE.as_slice()),
        ("sim", REPEATABLE.as_slice()),
    ] {
        let bans = bans(krate);
        for call in calls {
            if !bans.iter().any(|ban| ban.contains(&format!("\"{call}\""))) {
                breaches.push(format!("crates/{krate}/clippy.toml: ban {call}"));
            }
        }
    }
    report(
        "wire, logic and sim see no clock, disk, socket or thread",
        breaches,
    );
}

#[test]
fn every_ban_says_why() {
    let mut breaches = Vec::new();
    for krate in CRATES {
        let bans = bans(krate);
        if bans.is_empty() {
            breaches.push(format!("crates/{krate}/clippy.toml: bans nothing"));
        }
        for ban in bans {
            if !ban.contains("reason = \"") {
                breaches.push(format!("crates/{krate}/clippy.toml: no reason in {ban}"));
            }
        }
    }
    report("each disallowed call has a reason", breaches);
}

/// The entries of one crate's `clippy.toml`, one a line.
fn bans(krate: &str) -> Vec<String> {
    let text = read(&root().join(format!("crates/{krate}/clippy.toml")));
    let entries = text
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with('{'));
    entries.map(str::to_owned).collect()
}
