//! The hot paths, each as a piece of work whose instructions can be counted.
//!
//! `ahoy-instructions CASE` prepares a case and does its work once, inside `measured`, which is
//! where `bench/instructions/run` has callgrind count. `ahoy-instructions --list` names the cases,
//! with how many of what each works off. Everything is the same in every run: no clock, no chance,
//! no input. Hashing of content is not counted, since its instructions depend on the processor.

mod burst;
mod decode;
mod lease;
mod plan;

use std::hint::black_box;
use std::process::ExitCode;

/// One case.
struct Case {
    name: &'static str,
    /// How many of what is worked off, for a figure that says something.
    items: usize,
    item: &'static str,
    run: fn(),
}

const CASES: [Case; 9] = [
    Case {
        name: "decode-sync",
        items: decode::FRAMES,
        item: "frame",
        run: decode::sync,
    },
    Case {
        name: "decode-hello",
        items: decode::REQUESTS,
        item: "request",
        run: decode::hello,
    },
    Case {
        name: "decode-tracker",
        items: decode::MESSAGES,
        item: "message",
        run: decode::tracker,
    },
    Case {
        name: "decode-web",
        items: decode::HEADS,
        item: "request",
        run: decode::web,
    },
    Case {
        name: "plan",
        items: plan::RECORDS,
        item: "record",
        run: plan::run,
    },
    Case {
        name: "burst",
        items: burst::CHANGES,
        item: "file",
        run: burst::run,
    },
    Case {
        name: "start",
        items: burst::ROWS,
        item: "row",
        run: burst::start,
    },
    Case {
        name: "chunks",
        items: decode::CUT_MIB,
        item: "MiB",
        run: decode::cut,
    },
    Case {
        name: "leases",
        items: lease::LEASES,
        item: "lease",
        run: lease::run,
    },
];

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    if wanted == "--list" {
        for case in &CASES {
            println!("{} {} {}", case.name, case.items, case.item);
        }
        return ExitCode::SUCCESS;
    }
    let Some(case) = CASES.iter().find(|case| case.name == wanted) else {
        eprintln!("Error: no case is called {wanted:?}\nHint: --list names them");
        return ExitCode::from(2);
    };
    (case.run)();
    ExitCode::SUCCESS
}

/// Only what happens in here is counted. Whatever was prepared comes in, whatever came of it goes
/// out, so that neither making nor dropping it counts.
#[inline(never)]
fn measured<T, R>(prepared: T, work: impl FnOnce(T) -> R) -> R {
    black_box(work(black_box(prepared)))
}

/// Numbers that look like chance, always the same (SplitMix64: Steele, Lea, Flood, 2014).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}
