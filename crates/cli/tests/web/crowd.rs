//! Many clients that say nothing, and a server that runs out of descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, prlimit, setrlimit};

use super::*;

/// Silent clients in the large crowd. The process and the server each need a descriptor for one.
const CROWD: usize = 10_000;

/// Connects without a word.
fn connect(addr: SocketAddr) -> TcpStream {
    TcpStream::connect(addr).expect("a connection")
}

#[test]
fn ten_thousand_idle_connections_do_not_stop_a_fresh_one() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    )
    .expect("allowed");
    let room = limit.maximum.is_none_or(|most| most >= 10_500);
    assert!(
        room,
        "this test needs a hard limit of 10,500 descriptors, not {:?}",
        limit.maximum
    );

    let served = Served::start(&["--access-log", "off"]);
    let mut crowd: Vec<_> = (0..CROWD).map(|_| connect(served.addr)).collect();
    let begun = Instant::now();
    assert!(ask(served.addr, "/notes.txt").ends_with("0123456789"));
    let took = begun.elapsed();
    assert!(
        took < Duration::from_secs(5),
        "the fresh one waited {took:?}"
    );
    // They were not closed to make room for it.
    for silent in crowd.iter_mut().step_by(997) {
        silent
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit");
        let request = b"GET /notes.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        silent.write_all(request).expect("still open");
        let mut answer = String::new();
        silent.read_to_string(&mut answer).expect("an answer");
        assert!(answer.ends_with("0123456789"), "{answer}");
    }
    let held = resident_bytes(&served) / CROWD;
    assert!(held < 8 * 1024, "{held} bytes for each idle connection");
}

#[test]
fn without_descriptors_it_goes_on() {
    let served = Served::start(&[
        "--access-log",
        "off",
        "--workers",
        "1",
        "--cache-ms",
        "60000",
    ]);
    for number in 0..20 {
        served.write(&format!("{number}.bin"), vec![b'x'; 50_000]);
        assert!(ask(served.addr, &format!("/{number}.bin")).ends_with("xxx"));
    }
    // From now on it gets none beyond these, which it holds already.
    let limit = Rlimit {
        current: Some(30),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    prlimit(Some(served.pid()), Resource::Nofile, limit).expect("our child");
    let mut crowd: Vec<_> = (0..100).map(|_| connect(served.addr)).collect();
    for _ in 0..5 {
        assert!(ask(served.addr, "/notes.txt").ends_with("0123456789"));
    }
    let before = cpu_ticks(&served);
    // The last of the crowd is told nothing, and so is a good clock.
    let last = crowd.last_mut().expect("a hundred");
    last.set_read_timeout(Some(Duration::from_millis(300)))
        .expect("a time limit");
    let _ = last.read(&mut [0]);
    let spent = cpu_ticks(&served) - before;
    assert!(
        spent < 15,
        "{spent} ticks of 10 ms spent on doing nothing for 300 ms"
    );
    drop(crowd);
    assert!(ask(served.addr, "/5.bin").ends_with("xxx"));
    assert!(served.stop().0.success());
}

fn resident_bytes(served: &Served) -> usize {
    let status = proc_file(served, "status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("Linux");
    let kib: usize = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    kib * 1024
}

/// Processor time of the server, in hundredths of a second.
fn cpu_ticks(served: &Served) -> u64 {
    let stat = proc_file(served, "stat");
    let after_name = stat.rsplit(')').next().expect("Linux");
    let words: Vec<_> = after_name.split_whitespace().collect();
    let number = |index: usize| words[index].parse::<u64>().expect("a number");
    number(11) + number(12)
}

fn proc_file(served: &Served, name: &str) -> String {
    let path = format!("/proc/{}/{name}", served.child.id());
    fs::read_to_string(path).expect("it runs")
}
