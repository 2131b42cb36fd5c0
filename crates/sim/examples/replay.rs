//! Replays one seed with its whole story, `cargo run -p ahoy-sim --example replay SEED`, or many,
//! naming those that fail: `replay FROM..TO`.

#![expect(
    clippy::disallowed_methods,
    reason = "a program of its own has a command line"
)]

fn main() {
    let text = std::env::args().nth(1).unwrap_or_default();
    if let Some((from, to)) = text.split_once("..") {
        let range = from.parse().unwrap_or(0)..to.parse().unwrap_or(0);
        for seed in range {
            if let Err(what) = ahoy_sim::replay(seed, false) {
                println!("{seed}: {what:.200}");
            }
        }
        return;
    }
    let seed = text.parse().unwrap_or(0);
    match ahoy_sim::replay(seed, true) {
        Ok(_) => println!("seed {seed}: all is well"),
        Err(story) => println!("seed {seed} {:?}: {story}", ahoy_sim::weather(seed)),
    }
}
