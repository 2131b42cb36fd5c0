//! Replays one seed with its whole story: `cargo run -p ahoy-sim --example replay SEED`.

#![expect(
    clippy::disallowed_methods,
    reason = "a program of its own has a command line"
)]

fn main() {
    let seed = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    match ahoy_sim::replay(seed, true) {
        Ok(_) => println!("seed {seed}: all is well"),
        Err(story) => println!("seed {seed} {:?}: {story}", ahoy_sim::weather(seed)),
    }
}
