//! Every input that the fuzzers found worth keeping, run through the same checks again.
//!
//! `fuzz/properties/NAME.rs` says what must hold, `fuzz/corpus/NAME/` holds the inputs. A finding
//! is closed by adding its input there.

#![expect(clippy::disallowed_methods, reason = "the corpus lies on the disk")]

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/properties/classic.rs"]
mod classic;
#[path = "../../../fuzz/properties/hello.rs"]
mod hello;
#[path = "../../../fuzz/properties/pickle.rs"]
mod pickle;
#[path = "../../../fuzz/properties/sync.rs"]
mod sync;
#[path = "../../../fuzz/properties/ticket.rs"]
mod ticket;
#[path = "../../../fuzz/properties/tracker.rs"]
mod tracker;
#[path = "../../../fuzz/properties/web.rs"]
mod web;

#[test]
fn classic() {
    replay("classic", classic::holds);
}

#[test]
fn hello() {
    replay("hello", hello::holds);
}

#[test]
fn pickle() {
    replay("pickle", pickle::holds);
}

#[test]
fn web() {
    replay("web", web::holds);
}

#[test]
fn tracker() {
    replay("tracker", tracker::holds);
}

#[test]
fn sync() {
    replay("sync", sync::holds);
}

#[test]
fn ticket() {
    replay("ticket", ticket::holds);
}

fn replay(name: &str, holds: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(name);
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("the corpus is part of the source") {
        let path = entry.expect("readable").path();
        let data = fs::read(&path).expect("readable");
        println!("{}", path.display());
        holds(&data);
        count += 1;
    }
    assert!(count > 0, "no inputs in {}", folder.display());
}
