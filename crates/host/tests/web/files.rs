//! What is served, and what never is.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

#[test]
fn files_of_every_size_come_whole() {
    let server = Server::start(|_| {});
    // Around the limit of what is kept in memory, and more than a socket takes at once.
    for len in [0, 1, 16 * 1024, 16 * 1024 + 1, 300_000, 9_000_000] {
        let content = pattern(len);
        server.write("file.bin", &content);
        let answer = server.get("/file.bin", "");
        assert_eq!(answer.head.status, 200, "{len}");
        assert_eq!(answer.field("content-length"), len.to_string());
        assert!(answer.body == content, "{len} bytes differ");
    }
}

#[test]
fn ranges_of_small_and_large_files() {
    let server = Server::start(|_| {});
    for len in [10_000, 3_000_000] {
        let content = pattern(len);
        server.write("file.bin", &content);
        let (start, end) = (len / 3, len - 7);
        let answer = server.get(
            "/file.bin",
            &format!("Range: bytes={start}-{}\r\n", end - 1),
        );
        assert_eq!(answer.head.status, 206);
        assert!(answer.body == content[start..end], "{len}");

        let answer = server.get("/file.bin", &format!("Range: bytes={start}-{end},5-9\r\n"));
        assert_eq!(
            answer.field("content-length"),
            answer.body.len().to_string()
        );
        let found = |part: &[u8]| answer.body.windows(part.len()).any(|bytes| bytes == part);
        assert!(found(&content[5..10]), "{len}: the second part");
        assert!(
            found(&content[start..start + 500]) && found(&content[end - 500..=end]),
            "{len}"
        );
    }
}

#[test]
fn nothing_but_files_and_folders_beneath() {
    let server = Server::start(|_| {});
    let outside = TempDir::new().expect("a folder");
    fs::write(outside.path().join("secret.txt"), "secret").expect("written");
    server.write("real.txt", "real");
    server.write("sub/inner.txt", "inner");
    server.write(".hidden", "hidden");
    server.write(".dir/file", "hidden");
    symlink(outside.path(), server.path().join("way-out")).expect("a link");
    symlink(
        outside.path().join("secret.txt"),
        server.path().join("secret.txt"),
    )
    .expect("a link");
    symlink("real.txt", server.path().join("link.txt")).expect("a link");
    symlink("sub", server.path().join("folder-link")).expect("a link");
    symlink("/proc/self/root", server.path().join("magic")).expect("a link");
    let pipe = server.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
    let _socket = UnixListener::bind(server.path().join("socket")).expect("a socket");

    for path in [
        "/secret.txt",
        "/way-out/secret.txt",
        "/link.txt",
        "/folder-link/inner.txt",
        "/folder-link/",
        "/magic/etc/passwd",
        "/pipe",
        "/socket",
        "/.hidden",
        "/.dir/file",
        "/real.txt/x",
        "/nothing",
        "/..%2f",
    ] {
        assert_eq!(server.get(path, "").head.status, 404, "{path}");
    }
    assert_eq!(server.get("/sub/../real.txt", "").body, b"real");
    let page = String::from_utf8(server.get("/", "").body).expect("a page");
    for name in [
        "way-out", "secret", "link", "magic", "pipe", "socket", "hidden", ".dir",
    ] {
        assert!(!page.contains(name), "{name} is shown");
    }
    assert!(page.contains("real.txt") && page.contains("sub/"));
}

#[test]
fn dotfiles_on_request() {
    let server = Server::start(|config| config.site.dotfiles = true);
    server.write(".well-known/x", "here");
    assert_eq!(server.get("/.well-known/x", "").body, b"here");
    let page = String::from_utf8(server.get("/", "").body).expect("a page");
    assert!(page.contains(".well-known/") && !page.contains("\"../\""));
}

#[test]
fn names_of_any_bytes() {
    let server = Server::start(|_| {});
    let name = std::ffi::OsStr::from_bytes(b"a\xff\n <b>&\"%.txt");
    fs::write(server.path().join(name), "odd").expect("written");
    assert_eq!(
        server.get("/a%FF%0A%20%3Cb%3E%26%22%25.txt", "").body,
        b"odd"
    );
    let page = String::from_utf8(server.get("/", "").body).expect("UTF-8 in any case");
    assert!(
        page.contains("href=\"a%FF%0A%20%3Cb%3E%26%22%25.txt\""),
        "{page}"
    );
    assert!(!page.contains("<b>"));
}

#[test]
fn coded_forms() {
    let server = Server::start(|_| {});
    for (name, content) in [
        ("a.css", "plain"),
        ("a.css.gz", "gzipped"),
        ("a.css.br", "brotli"),
    ] {
        server.write(name, content);
    }
    // Left over from before the plain form was written.
    server.write("a.css.zst", "stale");
    let zst = fs::File::options()
        .write(true)
        .open(server.path().join("a.css.zst"))
        .expect("open");
    zst.set_modified(std::time::UNIX_EPOCH).expect("stamped");
    for (accept, body, coding) in [
        ("", "plain", ""),
        ("gzip", "gzipped", "gzip"),
        ("gzip, br", "brotli", "br"),
        ("zstd", "plain", ""),
    ] {
        let answer = server.get("/a.css", &format!("Accept-Encoding: {accept}\r\n"));
        assert_eq!(String::from_utf8_lossy(&answer.body), body, "{accept:?}");
        assert_eq!(answer.field("content-encoding"), coding, "{accept:?}");
        assert_eq!(answer.field("content-type"), "text/css; charset=utf-8");
        assert_eq!(answer.field("vary"), "Accept-Encoding");
    }
    let itself = server.get("/a.css.gz", "Accept-Encoding: gzip\r\n");
    assert_eq!(
        (itself.body, itself.head.count("content-encoding")),
        (b"gzipped".to_vec(), 0)
    );
}

#[test]
fn a_changed_file_is_another_version() {
    let server = Server::start(|_| {});
    server.write("a.txt", "one");
    let first = server.get("/a.txt", "").field("etag");
    server.write("new.txt", "two");
    fs::rename(server.path().join("new.txt"), server.path().join("a.txt")).expect("renamed");
    let fields = format!("If-None-Match: {first}\r\n");
    let second = server.get("/a.txt", &fields);
    assert_eq!(
        (second.head.status, second.body.as_slice()),
        (200, b"two".as_slice())
    );
    let fields = format!("If-None-Match: {}\r\n", second.field("etag"));
    assert_eq!(server.get("/a.txt", &fields).head.status, 304);
    fs::remove_file(server.path().join("a.txt")).expect("removed");
    assert_eq!(server.get("/a.txt", "").head.status, 404);
}

#[test]
fn the_cache_forgets_in_time_and_stays_small() {
    let server = Server::start(|config| config.cache_validity = Duration::from_millis(50));
    for number in 0..700 {
        server.write(&format!("{number}.txt"), format!("file {number}"));
    }
    // More large files than the cache holds descriptors for.
    for number in 0..200 {
        server.write(&format!("{number}.bin"), pattern(20_000));
    }
    let mut stream = server.connect();
    for number in 0..700 {
        stream
            .write_all(&get_request(&format!("/{number}.txt")))
            .expect("sent");
        assert_eq!(
            Answer::read_one(&mut stream).body,
            format!("file {number}").into_bytes()
        );
        if number < 200 {
            stream
                .write_all(&get_request(&format!("/{number}.bin")))
                .expect("sent");
            assert_eq!(Answer::read_one(&mut stream).body.len(), 20_000);
        }
    }
    server.write("0.txt", "changed");
    let deadline = std::time::Instant::now() + PATIENCE;
    while server.get("/0.txt", "").body != b"changed" {
        assert!(
            std::time::Instant::now() < deadline,
            "the old content stays"
        );
    }
}

#[test]
fn a_file_that_shrinks_under_way_ends_the_connection() {
    let server = Server::start(|_| {});
    let len = 30_000_000;
    server.write("big.bin", vec![7; len]);
    let mut stream = server.connect();
    stream.write_all(&get_request("/big.bin")).expect("sent");
    let mut first = [0; 1000];
    stream.read_exact(&mut first).expect("the beginning");
    let big = fs::File::options()
        .write(true)
        .open(server.path().join("big.bin"))
        .expect("open");
    big.set_len(1000).expect("cut");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < len, "no byte was invented");
    assert_eq!(server.get("/big.bin", "").body.len(), 1000);
}

#[test]
fn a_folder_that_is_none_is_an_error() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    for root in [file, folder.path().join("missing")] {
        let error = serve(
            &Config {
                root,
                site: Site {
                    listing: true,
                    dotfiles: false,
                    access_log: false,
                    boundary_key: [0; 32],
                },
                limits: Limits::default(),
                connections_max: 1,
                workers: 1,
                cache_validity: Duration::ZERO,
                drain_max: Duration::ZERO,
                tls: None,
            },
            vec![],
            None,
            &Stop::new().expect("descriptors"),
        );
        assert!(
            error
                .expect_err("nothing to serve")
                .to_string()
                .starts_with("cannot serve /")
        );
    }
}
