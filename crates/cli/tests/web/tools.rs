//! The other side is a program that many people use: curl, Python's http.client, openssl.

use super::*;

fn curl(args: &[&str]) -> String {
    output(
        Command::new("curl")
            .args(["-sS", "--max-time", "30"])
            .args(args),
    )
}

#[test]
fn curl_downloads_resumes_and_revalidates() {
    let served = Served::start(&["--access-log", "off", "--cache-ms", "0"]);
    let content: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    served.write("data.bin", &content);
    let here = TempDir::new().expect("a folder");
    let file = here.path().join("data.bin");
    let (file_name, url) = (file.to_str().expect("plain"), served.url("/data.bin"));

    curl(&["-o", file_name, &url]);
    assert!(fs::read(&file).expect("downloaded") == content);
    // The beginning is there already.
    fs::write(&file, &content[..777_777]).expect("cut");
    curl(&["-C", "-", "-o", file_name, &url]);
    assert!(fs::read(&file).expect("resumed") == content);

    let code = ["-o", "/dev/null", "-w", "%{http_code}"];
    let status = |args: &[&str]| curl(&[&code[..], args].concat());
    assert_eq!(
        status(&["-z", "Thu, 01 Jan 2099 00:00:00 GMT", &url]),
        "304"
    );
    assert_eq!(
        status(&["-z", "Fri, 01 Jan 1999 00:00:00 GMT", &url]),
        "200"
    );
    let tags = here.path().join("tags");
    let tags = tags.to_str().expect("plain");
    assert_eq!(status(&["--etag-save", tags, &url]), "200");
    assert_eq!(status(&["--etag-compare", tags, &url]), "304");
    assert_eq!(status(&["-0", &url]), "200");
    assert_eq!(status(&["-T", file_name, &url]), "405");
    assert_eq!(status(&["-d", "a=b", &url]), "405");
    assert_eq!(
        status(&["--path-as-is", &served.url("/../../etc/passwd")]),
        "400"
    );
    assert_eq!(curl(&["-r", "10-13", &url]).len(), 4);
    let head = curl(&["-I", &url]);
    assert!(head.contains("Content-Length: 2000000\r\n"), "{head}");
}

#[test]
fn curl_decodes_what_lies_precompressed() {
    let served = Served::start(&["--access-log", "off"]);
    served.write("page.html", "<p>hello</p>");
    output(
        Command::new("gzip")
            .arg("-k")
            .arg(served.path().join("page.html")),
    );
    let url = served.url("/page.html");
    assert_eq!(curl(&["--compressed", &url]), "<p>hello</p>");
    let head = curl(&["-I", "-H", "Accept-Encoding: gzip", &url]);
    assert!(head.contains("Content-Encoding: gzip\r\n"), "{head}");
    assert!(
        head.contains("Content-Type: text/html; charset=utf-8\r\n"),
        "{head}"
    );
}

#[test]
fn python_keeps_one_connection() {
    let served = Served::start(&["--access-log", "off"]);
    served.write("größe.txt", "umlauts");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/web/client.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(served.addr.port().to_string());
    assert_eq!(output(&mut command), "fine\n");
    let (_, printed) = served.stop();
    assert!(printed.ends_with(" on 1 connections\n"), "{printed}");
}

#[test]
fn the_courses_client_gets_its_file() {
    let served = Served::start(&["--access-log", "off"]);
    served.write("HelloWorld.html", "<p>Hello World!</p>\n");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/web/course_client.py");
    let port = served.addr.port().to_string();
    let ask = |name| output(Command::new("python3").args([script, "127.0.0.1", &port, name]));
    assert_eq!(
        ask("HelloWorld.html"),
        "HTTP/1.1 200 OK\n20 text/html; charset=utf-8\n<p>Hello World!</p>\n"
    );
    let missing = ask("nothing.html");
    assert!(missing.starts_with("HTTP/1.1 404 Not Found\n"), "{missing}");
}

/// It is right about what the course asks for, and trusts the path.
#[test]
fn the_courses_server_passes_where_it_is_right_and_fails_by_its_number() {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("notes.txt"), "0123456789").expect("written");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/web/course_server.py");
    let mut server = Command::new("python3")
        .arg(script)
        .arg(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    let mut port = String::new();
    let mut stdout = BufReader::new(server.stdout.take().expect("piped"));
    stdout.read_line(&mut port).expect("its port");
    let addr = format!("127.0.0.1:{}", port.trim());
    let examine = |cases: &[&str]| {
        let mut check = Command::new(env!("CARGO_BIN_EXE_ahoy"));
        check.args(["check", "web", &addr, "--path", "/notes.txt"]);
        for case in cases {
            check.args(["--case", case]);
        }
        let output = check.output().expect("it runs");
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), report)
    };
    let right = ["web-4/get", "web-12/length-is-exact", "web-27", "web-30"];
    let (code, report) = examine(&right);
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains(" 4 passed, 0 failed"), "{report}");
    let (code, report) = examine(&["web-21", "web-40/first-bytes", "web-20/encoded"]);
    assert_eq!(code, Some(1), "{report}");
    for wrong in ["web-21/ways-out", "web-40/first-bytes", "web-20/encoded"] {
        assert!(report.contains(&format!("FAIL  {wrong}\n")), "{report}");
    }
    server.kill().expect("it runs");
    server.wait().expect("it ends");
}

#[test]
fn https_with_a_certificate() {
    let here = TempDir::new().expect("a folder");
    let (key, cert) = (here.path().join("key.pem"), here.path().join("cert.pem"));
    output(
        Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
            ])
            .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&cert),
    );
    let (key, cert) = (key.to_str().expect("plain"), cert.to_str().expect("plain"));
    let served = Served::start(&["--access-log", "off", "--cert", cert, "--key", key]);
    let content: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
    served.write("data.bin", &content);
    let file = here.path().join("data.bin");
    let url = format!("https://{}", served.addr);
    for version in ["--tls-max=1.2", "--tlsv1.3"] {
        let version: Vec<_> = version.split('=').collect();
        let args = ["--cacert", cert, "-o", file.to_str().expect("plain")];
        let (small, large) = (format!("{url}/notes.txt"), format!("{url}/data.bin"));
        curl(&[&version, &args[..], &[large.as_str()]].concat());
        assert!(
            fs::read(&file).expect("downloaded") == content,
            "{version:?}"
        );
        // Two requests on one connection.
        let both = curl(&[&version, &args[..2], &[small.as_str(), small.as_str()]].concat());
        assert_eq!(both, "01234567890123456789");
        assert_eq!(
            curl(&[&version, &args[..2], &["-r", "2-4", small.as_str()]].concat()),
            "234"
        );
    }
    // Plain HTTP there gets an end, and nobody else is disturbed.
    let mut plain = TcpStream::connect(served.addr).expect("a connection");
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("sent");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"));
    assert_eq!(
        curl(&["--cacert", cert, &format!("{url}/notes.txt")]),
        "0123456789"
    );
}
