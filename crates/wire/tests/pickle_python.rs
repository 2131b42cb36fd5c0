//! CPython's own `pickle` as the judge of ours: what it writes we read, what we write it writes.
//!
//! One Python process answers for all cases of a test. It gets `repr(value)` as we print it, so the
//! printing is judged too.

#![expect(
    clippy::disallowed_types,
    reason = "the other side is a Python process"
)]

mod soup;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use ahoy_wire::pickle::{Value, decode, encode};
use data_encoding::HEXLOWER;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use soup::soup;

/// Reads `dump` and a repr in hex, and answers its repr, its str and a pickle for each protocol; or
/// `load` and a pickle, and answers the value's repr and how many bytes it took. All in hex.
///
/// `fresh` makes every object anew, so that none is shared that a program reading its input would
/// not share either.
const ORACLE: &str = r#"
import io, pickle, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
inf, nan = float("inf"), float("nan")
def fresh(v):
    if isinstance(v, str): return v.encode().decode()
    if isinstance(v, bytes): return bytes(bytearray(v))
    if isinstance(v, dict): return {fresh(k): fresh(w) for k, w in v.items()}
    if isinstance(v, (list, tuple, set, frozenset)): return type(v)([fresh(w) for w in v])
    return v
class DataOnly(pickle.Unpickler):
    def find_class(self, module, name): raise pickle.UnpicklingError("not data")
def load(data):
    file = io.BytesIO(data)
    try:
        return [repr(DataOnly(file, encoding="utf-8").load()).encode(), str(file.tell()).encode()]
    except Exception as error:
        return [b"error: " + repr(error).encode(), b""]
for line in sys.stdin:
    verb, argument = line.split()
    argument = bytes.fromhex(argument)
    if verb == "load":
        print(*[answer.hex() for answer in load(argument)], flush=True)
        continue
    value = fresh(eval(argument.decode()))
    answers = [repr(value).encode(), str(value).encode()]
    for protocol in range(6):
        try:
            answers.append(pickle.dumps(value, protocol=protocol))
        except Exception as error:
            answers.append(b"error: " + repr(error).encode())
    print(*[answer.hex() for answer in answers], flush=True)
"#;

struct Python {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

struct Dumped {
    repr: String,
    str: String,
    /// By protocol.
    pickles: Vec<Vec<u8>>,
}

impl Python {
    fn start() -> Self {
        let mut process = Command::new("python3")
            .args(["-W", "ignore", "-c", ORACLE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed for this test");
        let input = process.stdin.take().expect("piped");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        Self {
            process,
            input,
            output,
        }
    }

    fn dump(&mut self, value: &Value) -> Dumped {
        let mut answer = self
            .ask("dump", value.repr().to_string().as_bytes())
            .into_iter();
        let mut text = || String::from_utf8(answer.next().expect("a text")).expect("UTF-8");
        let (repr, str) = (text(), text());
        Dumped {
            repr,
            str,
            pickles: answer.collect(),
        }
    }

    /// The value's repr, and the length of its pickle in digits.
    fn load(&mut self, pickle: &[u8]) -> [String; 2] {
        let answer = self.ask("load", pickle);
        let texts = answer
            .into_iter()
            .map(|text| String::from_utf8(text).expect("UTF-8"));
        texts.collect::<Vec<_>>().try_into().expect("two texts")
    }

    fn ask(&mut self, verb: &str, argument: &[u8]) -> Vec<Vec<u8>> {
        writeln!(self.input, "{verb} {}", HEXLOWER.encode(argument)).expect("Python reads");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("Python answers");
        line.trim_end_matches('\n')
            .split(' ')
            .map(|part| HEXLOWER.decode(part.as_bytes()).expect("hex"))
            .collect()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn python_and_we_agree_on_any_value() {
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(400)
    });
    let python = std::cell::RefCell::new(Python::start());
    runner
        .run(&value(), |value| {
            let answer = python.borrow_mut().dump(&value);
            prop_assert_eq!(&answer.repr, &value.repr().to_string());
            prop_assert_eq!(&answer.str, &value.to_string());
            let ours = encode(&value).expect("small");
            prop_assert_eq!(&ours, &answer.pickles[4]);
            for (protocol, pickle) in answer.pickles.iter().enumerate() {
                // Python writes what these protocols have no instruction for as function calls.
                if protocol <= 3 && needs_calls(&value, protocol) {
                    let error = decode(pickle).expect_err("calls are refused").to_string();
                    prop_assert!(error.contains("GLOBAL"), "protocol {protocol}: {error}");
                    continue;
                }
                let (read, len) = decode(pickle).map_err(|error| {
                    TestCaseError::fail(format!("protocol {protocol}: {error}"))
                })?;
                prop_assert_eq!(len, pickle.len());
                prop_assert_eq!(read.repr().to_string(), value.repr().to_string());
            }
            Ok(())
        })
        .expect("no counterexample");
}

/// Python takes more than we do, but what we take it takes too, and for the same.
#[test]
fn what_we_read_python_reads_alike() {
    let mut runner = TestRunner::new(config());
    let python = std::cell::RefCell::new(Python::start());
    runner
        .run(&soup(), |bytes| {
            // Only such pickles reach Python, whose reader would otherwise do what they say.
            // And none with a memo number in it: for a large one it reserves gigabytes and dies.
            if let Ok((value, len)) = decode(&bytes)
                && !has_wide_set(&value)
                && !bytes.iter().any(|byte| b"pr".contains(byte))
            {
                let [repr, python_len] = python.borrow_mut().load(&bytes);
                // It also looks at keys of dicts that are thrown away later on, and takes Python
                // 2's byte strings for text or for bytes, not for what they are.
                prop_assume!(!repr.contains("unhashable") && !repr.contains("DecodeError"));
                prop_assert_eq!(value.repr().to_string(), repr);
                prop_assert_eq!(len.to_string(), python_len);
            }
            Ok(())
        })
        .expect("no counterexample");
}

#[test]
fn containers_of_many_items_are_written_in_pythons_batches() {
    let mut python = Python::start();
    for count in [0, 1, 2, 3, 4, 255, 257, 999, 1000, 1001, 1010] {
        let numbers: Vec<Value> = (0..count).map(Value::Int).collect();
        let halves = numbers[..numbers.len() / 2].iter();
        let dict = Value::Dict(halves.map(|key| (key.clone(), Value::None)).collect());
        for value in [
            Value::List(numbers.clone()),
            Value::Tuple(numbers.clone()),
            dict,
        ] {
            let answer = python.dump(&value);
            assert!(
                encode(&value).expect("within limits") == answer.pickles[4],
                "{count}"
            );
        }
    }
}

#[test]
fn long_texts_are_written_as_python_does() {
    let mut python = Python::start();
    for len in [254, 255, 256, 257, 60_000, 65_513] {
        for value in [
            Value::Str("é".repeat(len / 2)),
            Value::Bytes(vec![b'x'; len]),
        ] {
            let answer = python.dump(&value);
            assert!(
                encode(&value).expect("within limits") == answer.pickles[4],
                "{len}"
            );
        }
    }
}

#[test]
fn a_shared_object_is_read_at_every_place_and_by_every_protocol() {
    let shared = "(lambda name: {'name': name, 'again': name, 'list': [[name]] * 3})('Zoë')";
    let expected = "{'name': 'Zoë', 'again': 'Zoë', 'list': [['Zoë'], ['Zoë'], ['Zoë']]}";
    for protocol in 0..=5 {
        let program = format!(
            "import pickle, sys; sys.stdout.buffer.write(pickle.dumps({shared}, {protocol}))"
        );
        let output = Command::new("python3")
            .args(["-c", &program])
            .output()
            .expect("python3");
        let (value, len) = decode(&output.stdout).expect("plain data");
        assert_eq!(value.repr().to_string(), expected, "protocol {protocol}");
        assert_eq!(len, output.stdout.len());
    }
}

/// Whether protocols up to 3 write the value with the help of functions: bytes before 3, sets.
fn needs_calls(value: &Value, protocol: usize) -> bool {
    let any = |values: &[Value]| values.iter().any(|value| needs_calls(value, protocol));
    match value {
        Value::Bytes(_) => protocol < 3,
        Value::Set(_) | Value::FrozenSet(_) => true,
        Value::List(items) | Value::Tuple(items) => any(items),
        Value::Dict(entries) => entries
            .iter()
            .any(|(key, value)| needs_calls(key, protocol) || needs_calls(value, protocol)),
        Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Str(_) => false,
    }
}

/// Whether the order in which Python prints the value is by chance.
fn has_wide_set(value: &Value) -> bool {
    match value {
        Value::Set(items) | Value::FrozenSet(items) => {
            items.len() > 1 || items.iter().any(has_wide_set)
        }
        Value::List(items) | Value::Tuple(items) => items.iter().any(has_wide_set),
        Value::Dict(entries) => entries
            .iter()
            .any(|(key, value)| has_wide_set(key) || has_wide_set(value)),
        Value::None
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::Bytes(_)
        | Value::Str(_) => false,
    }
}

fn config() -> Config {
    Config {
        cases: 400,
        failure_persistence: None,
        ..Config::default()
    }
}

/// Any value, except that sets have one item at most: Python's order of more is by chance.
fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 60, 6, |inner| {
        let key = hashable();
        let items = prop::collection::vec(inner.clone(), 0..6);
        prop_oneof![
            items.clone().prop_map(Value::List),
            items.prop_map(Value::Tuple),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(dict),
            prop::collection::vec(key.clone(), 0..2).prop_map(Value::Set),
            prop::collection::vec(key, 0..2).prop_map(Value::FrozenSet),
        ]
    })
}

/// Keys that Python tells apart: texts only, each once.
fn dict(entries: Vec<(Value, Value)>) -> Value {
    let mut distinct: Vec<(Value, Value)> = Vec::new();
    for (key, value) in entries {
        if !distinct.iter().any(|(known, _)| *known == key) {
            distinct.push((key, value));
        }
    }
    Value::Dict(distinct)
}

fn hashable() -> BoxedStrategy<Value> {
    let single = prop_oneof![
        text().prop_map(Value::Str),
        (2..=i128::MAX).prop_map(Value::Int),
        prop::collection::vec(any::<u8>(), 0..5).prop_map(Value::Bytes),
        Just(Value::None),
    ];
    prop_oneof![
        4 => single.clone(),
        1 => prop::collection::vec(single, 1..3).prop_map(Value::Tuple),
    ]
    .boxed()
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => text().prop_map(Value::Str),
        1 => Just(Value::None),
        1 => any::<bool>().prop_map(Value::Bool),
        2 => any::<i32>().prop_map(|number| Value::Int(number.into())),
        1 => any::<i64>().prop_map(|number| Value::Int(number.into())),
        1 => any::<i128>().prop_map(Value::Int),
        1 => (0..128u32, any::<bool>()).prop_map(|(bit, less)| {
            let number = 1i128.checked_shl(bit).unwrap_or(0);
            Value::Int(if less { number.wrapping_neg().wrapping_sub(1) } else { number })
        }),
        1 => (-70_000..70_000i128).prop_map(Value::Int),
        2 => any::<f64>().prop_map(Value::Float),
        1 => (-400..400i32, -30..30i32)
            .prop_map(|(digits, power)| Value::Float(f64::from(digits) * 10f64.powi(power))),
        1 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Value::Bytes),
    ]
}

/// Texts with everything that has to be escaped somewhere. No private-use or unassigned code
/// points: which are unassigned depends on Python's edition of Unicode.
fn text() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(
        "\\'\"\0\n\r\t\x1a\x1b\x7f\u{80}\u{85}\u{9b}\u{a0}\u{ad}éÿĀ\
         \u{202e}\u{2028}\u{200b}✓\u{fffd}\u{1f600}\u{e0001}"
            .chars()
            .collect::<Vec<_>>(),
    );
    let character = prop_oneof![3 => prop::char::range(' ', '~'), 1 => odd];
    prop_oneof![
        6 => prop::collection::vec(character, 0..12).prop_map(String::from_iter),
        1 => "[a-z]{240,300}",
    ]
}
