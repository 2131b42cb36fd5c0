//! Every request target that the fuzzer found worth keeping, run through the same check again.

#![expect(clippy::disallowed_methods, reason = "the corpus lies on the disk")]

#[path = "../../../fuzz/properties/web_path.rs"]
mod web_path;

#[test]
fn targets() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/web_path");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus is part of the source") {
        let path = entry.expect("readable").path();
        println!("{}", path.display());
        web_path::holds(&std::fs::read(&path).expect("readable"));
        count += 1;
    }
    assert!(count > 20);
}
