//! The hello client as the course has it: one line for every try, a prompt in between.
//!
//! Standard output has the three lines of spec/hello.md and nothing else, so that it can be
//! compared byte for byte; the prompt and the reasons go to standard error.

use std::io::{self, BufRead, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use ahoy_host::hello::client::Ask;
use ahoy_logic::hello::Transport;
use ahoy_wire::hello::{HelloId, ID_BYTES_MAX, IdShape};
use jiff::Zoned;

use super::{Preset, Shape};
use crate::cmd::{Hint, Misuse, complain, host_and_port, resolve, say};

/// How often a bad id at the prompt is asked for again before that counts as the end of input.
const BAD_IDS_MAX: usize = 10;

/// The longest line that is taken from standard input, in bytes.
const LINE_BYTES_MAX: u64 = 4096;

#[derive(clap::Args)]
pub(super) struct ClientArgs {
    /// Ask over UDP (the default).
    #[arg(long, conflicts_with = "tcp", env = "AHOY_HELLO_CLIENT_UDP")]
    udp: bool,
    /// Ask over TCP.
    #[arg(long, env = "AHOY_HELLO_CLIENT_TCP")]
    tcp: bool,
    /// The word HELLO, as the course's command line has it.
    #[arg(value_name = "HELLO")]
    word: String,
    /// The server's address.
    ip: String,
    /// The server's port.
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The id to ask for: four digits.
    #[arg(allow_hyphen_values = true)]
    id: String,
    /// Which school's times and prints to use where no option gives another.
    #[arg(long, value_enum, default_value_t, env = "AHOY_HELLO_PRESET")]
    preset: Preset,
    /// Wait this long for a reply, in milliseconds [default: 15000].
    #[arg(long, value_name = "MS", env = "AHOY_HELLO_REPLY_MS",
          value_parser = clap::value_parser!(u64).range(1..))]
    reply_ms: Option<u64>,
    /// Give up after this many failed tries.
    #[arg(long, value_name = "N", default_value_t = 3, env = "AHOY_HELLO_TRIES",
          value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,
    /// Which ids are ids.
    #[arg(long, value_enum, default_value_t = Shape::Digits4, env = "AHOY_HELLO_CLIENT_ID_SHAPE")]
    id_shape: Shape,
    /// Talk to a server under --protect over UDP: pad the request, and send it again while there is
    /// no reply.
    #[arg(long, env = "AHOY_HELLO_PROTECT")]
    protect: bool,
    /// Print without the time.
    #[arg(long, env = "AHOY_HELLO_NO_TIME")]
    no_time: bool,
}

pub(super) fn run(args: &ClientArgs) -> anyhow::Result<ExitCode> {
    if args.word != "HELLO" {
        let what = format!("the first word must be HELLO, not {:?}", args.word);
        let hint = "for instance: ahoy hello client HELLO 127.0.0.1 5000 0042";
        return Err(anyhow::Error::new(Misuse(what)).context(Hint(hint.to_owned())));
    }
    let shape = IdShape::from(args.id_shape);
    let mut id = parse_id(&args.id, shape).map_err(|why| {
        let hint = "other shapes of ids are sent with --id-shape token";
        anyhow::Error::new(Misuse(why)).context(Hint(hint.to_owned()))
    })?;
    let ask = Ask {
        server: resolve(&host_and_port(&args.ip, args.port))?,
        transport: if args.tcp {
            Transport::Tcp
        } else {
            Transport::Udp
        },
        reply: args
            .reply_ms
            .map_or(args.preset.reply(), Duration::from_millis),
        protect: args.protect,
    };
    let print = Print {
        timestamps: args.preset.timestamps() && !args.no_time,
    };
    // Each try has a socket of its own (hello-28); the third failure is the last (hello-29).
    for try_number in 1..=args.tries {
        match ask.once(id) {
            Ok(client) => {
                print.established(id, client);
                return Ok(ExitCode::SUCCESS);
            }
            Err(failure) => {
                complain(&format!("hello: {failure}"));
                print.line(&format!("Connection Error {id}"));
            }
        }
        if try_number < args.tries {
            match prompt(shape) {
                Some(next) => id = next,
                None => break,
            }
        }
    }
    print.line("Connection Failure");
    Ok(ExitCode::from(1))
}

/// The lines of the course.
struct Print {
    timestamps: bool,
}

impl Print {
    /// hello-30: what the reply says, not what we think of ourselves.
    fn established(&self, id: HelloId, client: SocketAddr) {
        let (ip, port) = (client.ip(), client.port());
        self.line(&format!("Connection established {id} {ip} {port}"));
    }

    /// hello-31: local time, always six digits of the second.
    fn line(&self, text: &str) {
        if self.timestamps {
            let time = Zoned::now().strftime("%Y-%m-%d %H:%M:%S%.6f");
            say(&format!("{text} on {time}"));
        } else {
            say(text);
        }
    }
}

/// Asks for another id; None at the end of standard input (hello-32).
fn prompt(shape: IdShape) -> Option<HelloId> {
    let mut stdin = io::stdin().lock();
    for _ in 0..BAD_IDS_MAX {
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "Another id: ").and_then(|()| stderr.flush());
        drop(stderr);
        let mut line = Vec::new();
        let read = (&mut stdin)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line);
        if !matches!(read, Ok(1..)) {
            return None;
        }
        match parse_id(String::from_utf8_lossy(&line).trim(), shape) {
            Ok(id) => return Some(id),
            Err(why) => complain(&format!("hello: {why}")),
        }
    }
    None
}

/// hello-33: a clear word instead of a request that no server will answer.
fn parse_id(text: &str, shape: IdShape) -> Result<HelloId, String> {
    let id: Option<HelloId> = text.parse().ok().filter(|id| shape.admits(id));
    id.ok_or_else(|| {
        let wanted = match shape {
            IdShape::FourDigits => "four digits".to_owned(),
            IdShape::Token => {
                format!("one word of at most {ID_BYTES_MAX} printable ASCII characters")
            }
        };
        format!("{text:?} is not an id: it must be {wanted}")
    })
}
