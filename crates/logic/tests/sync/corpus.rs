//! Everything that the fuzzers found worth keeping of stories and of lies, played again
//! (`fuzz/properties/`).

#![expect(clippy::disallowed_methods, reason = "the corpus lies on the disk")]

use std::path::Path;

#[path = "../../../../fuzz/properties/engine.rs"]
mod engine;
#[path = "../../../../fuzz/properties/planner.rs"]
mod planner;
#[path = "../../../../fuzz/properties/rules.rs"]
mod rules;

#[test]
fn engine() {
    replay("engine", engine::holds);
}

#[test]
fn planner() {
    replay("planner", planner::holds);
}

#[test]
fn rules() {
    replay("rules", rules::holds);
}

fn replay(name: &str, holds: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut count = 0;
    for entry in std::fs::read_dir(folder.join(name)).expect("the corpus is part of the source") {
        let path = entry.expect("readable").path();
        println!("{}", path.display());
        holds(&std::fs::read(&path).expect("readable"));
        count += 1;
    }
    assert!(count > 20, "{count} inputs of {name}");
}
