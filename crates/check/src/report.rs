//! What came out of an examination: whether it is accepted, and the text, JSON and JUnit forms of
//! it.
//!
//! Everything that came from the other side was escaped where it entered the transcript, so no form
//! can carry a terminal sequence or break the markup.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::case::{Column, Level};
use crate::runner::{CaseResult, Verdict};

/// A whole examination.
#[derive(Clone, Debug)]
pub struct Report {
    /// The service, in its one word.
    pub service: String,
    /// Who was examined.
    pub target: String,
    /// Whether a broken SHOULD counts as well.
    pub strict: bool,
    /// The cases in the order in which they ran.
    pub results: Vec<CaseResult>,
}

/// How many cases ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requirements that held.
    pub passed: usize,
    /// Requirements broken that count.
    pub failed: usize,
    /// Broken SHOULDs that do not count, because the examination is not strict.
    pub advised: usize,
    /// Cases that did not apply.
    pub skipped: usize,
    /// Faults of the examiner.
    pub errors: usize,
}

impl Report {
    /// How many cases ended in which way.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for result in &self.results {
            match &result.verdict {
                Verdict::Passed => counts.passed += 1,
                Verdict::Failed(_) if self.forgives(result) => counts.advised += 1,
                Verdict::Failed(_) => counts.failed += 1,
                Verdict::Skipped(_) => counts.skipped += 1,
                Verdict::Error(_) => counts.errors += 1,
            }
        }
        counts
    }

    /// Whether the other side is accepted: something held, and nothing that counts is broken or
    /// unknown. An examination in which every case was skipped accepts nobody.
    #[must_use]
    pub fn accepts(&self) -> bool {
        let counts = self.counts();
        counts.passed > 0 && counts.failed == 0 && counts.errors == 0
    }

    /// The last line of the text form.
    #[must_use]
    pub fn summary(&self) -> String {
        let counts = self.counts();
        let verdict = if self.accepts() {
            "accepted"
        } else {
            "NOT accepted"
        };
        let mut line = format!(
            "{} at {}: {verdict}; {} passed, {} failed",
            self.service, self.target, counts.passed, counts.failed
        );
        for (count, word) in [
            (counts.advised, "SHOULD not met"),
            (counts.skipped, "skipped"),
            (counts.errors, "errors of the examiner"),
        ] {
            if count > 0 {
                let _ = write!(line, ", {count} {word}");
            }
        }
        line
    }

    /// The JSON form: one object, ends with a newline.
    #[must_use]
    pub fn json(&self) -> String {
        let counts = self.counts();
        let cases: Vec<Value> = self
            .results
            .iter()
            .map(|result| self.case_json(result))
            .collect();
        let whole = json!({
            "service": self.service,
            "target": self.target,
            "strict": self.strict,
            "accepted": self.accepts(),
            "counts": {
                "passed": counts.passed,
                "failed": counts.failed,
                "advised": counts.advised,
                "skipped": counts.skipped,
                "errors": counts.errors,
            },
            "cases": cases,
        });
        format!("{whole:#}\n")
    }

    /// The JUnit form, as CI systems read it. A broken SHOULD that does not count is a skipped
    /// test.
    #[must_use]
    pub fn junit(&self) -> String {
        let counts = self.counts();
        let seconds: f64 = self
            .results
            .iter()
            .map(|result| result.took.as_secs_f64())
            .sum();
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
        let _ = writeln!(
            xml,
            "  <testsuite name=\"ahoy.{}\" hostname=\"{}\" tests=\"{}\" failures=\"{}\" \
             errors=\"{}\" skipped=\"{}\" time=\"{seconds:.3}\">",
            escaped(&self.service),
            escaped(&self.target),
            self.results.len(),
            counts.failed,
            counts.errors,
            counts.skipped + counts.advised,
        );
        for result in &self.results {
            self.case_junit(result, &mut xml);
        }
        xml.push_str("  </testsuite>\n</testsuites>\n");
        xml
    }

    /// A broken SHOULD is forgiven unless the examination is strict.
    fn forgives(&self, result: &CaseResult) -> bool {
        !self.strict && result.requirement.level == Level::Should
    }

    fn verdict_word(&self, result: &CaseResult) -> &'static str {
        match &result.verdict {
            Verdict::Passed => "passed",
            Verdict::Failed(_) if self.forgives(result) => "advised",
            Verdict::Failed(_) => "failed",
            Verdict::Skipped(_) => "skipped",
            Verdict::Error(_) => "error",
        }
    }

    fn case_json(&self, result: &CaseResult) -> Value {
        json!({
            "id": result.requirement.id,
            "case": result.title,
            "level": result.requirement.level.word(),
            "sentence": result.requirement.sentence,
            "verdict": self.verdict_word(result),
            "why": why(&result.verdict),
            "took_ms": u64::try_from(result.took.as_millis()).unwrap_or(u64::MAX),
            "transcript": result.transcript,
        })
    }

    fn case_junit(&self, result: &CaseResult, xml: &mut String) {
        let _ = write!(
            xml,
            "    <testcase classname=\"ahoy.{}\" name=\"{}\" time=\"{:.3}\"",
            escaped(&self.service),
            escaped(&result.title),
            result.took.as_secs_f64(),
        );
        let element = match &result.verdict {
            Verdict::Passed => {
                xml.push_str("/>\n");
                return;
            }
            Verdict::Failed(_) if self.forgives(result) => "skipped",
            Verdict::Failed(_) => "failure",
            Verdict::Skipped(_) => "skipped",
            Verdict::Error(_) => "error",
        };
        let requirement = result.requirement;
        let said = why(&result.verdict).unwrap_or_default();
        let (level, sentence) = (requirement.level.word(), requirement.sentence);
        let _ = writeln!(xml, ">\n      <{element} message=\"{}\">", escaped(said));
        let _ = writeln!(xml, "{} {level}: {}", requirement.id, escaped(sentence));
        for line in &result.transcript {
            let _ = writeln!(xml, "{}", escaped(line));
        }
        let _ = writeln!(xml, "      </{element}>\n    </testcase>");
    }
}

/// One result in the text form; a failure brings the requirement and the transcript with it.
#[must_use]
pub fn case_text(result: &CaseResult, strict: bool) -> String {
    let requirement = result.requirement;
    let word = match &result.verdict {
        Verdict::Passed => "pass",
        Verdict::Failed(_) if !strict && requirement.level == Level::Should => "note",
        Verdict::Failed(_) => "FAIL",
        Verdict::Skipped(_) => "skip",
        Verdict::Error(_) => "ERROR",
    };
    let mut text = format!("{word:5} {}\n", result.title);
    if let Some(why) = why(&result.verdict) {
        let (level, sentence) = (requirement.level.word(), requirement.sentence);
        let _ = writeln!(text, "      {} {level}: {sentence}", requirement.id);
        let _ = writeln!(text, "      {why}");
        for line in &result.transcript {
            let _ = writeln!(text, "        {line}");
        }
    }
    text
}

/// The cases of `column` with their numbers and sentences, one a line, without running any.
#[must_use]
pub fn list_text(column: &Column) -> String {
    let mut text = String::new();
    for case in &column.cases {
        let (level, sentence) = (case.requirement.level.word(), case.requirement.sentence);
        let _ = writeln!(text, "{:36} {level:6} {sentence}", case.title());
    }
    text
}

fn why(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Passed => None,
        Verdict::Failed(why) | Verdict::Skipped(why) | Verdict::Error(why) => Some(why),
    }
}

/// Text as XML content or attribute value; what XML 1.0 cannot carry becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut xml = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            '\t' | '\n' | '\r' => xml.push(character),
            '\u{FFFE}' | '\u{FFFF}' => xml.push('\u{FFFD}'),
            other if other.is_control() => xml.push('\u{FFFD}'),
            other => xml.push(other),
        }
    }
    xml
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::case::Requirement;

    const MUST: Requirement = Requirement {
        id: "toy-1",
        level: Level::Must,
        sentence: "Toys \"work\" & last.",
    };
    const SHOULD: Requirement = Requirement {
        id: "toy-2",
        level: Level::Should,
        sentence: "Toys are pretty.",
    };

    fn report(strict: bool, verdicts: &[(&'static Requirement, Verdict)]) -> Report {
        let result = |(requirement, verdict): &(&'static Requirement, Verdict)| CaseResult {
            requirement,
            title: format!("{}/case", requirement.id),
            verdict: verdict.clone(),
            took: Duration::from_millis(12),
            transcript: vec!["> \"<\\x00>\"".to_owned()],
        };
        Report {
            service: "toy".to_owned(),
            target: "127.0.0.1:1".to_owned(),
            strict,
            results: verdicts.iter().map(result).collect(),
        }
    }

    #[test]
    fn only_what_counts_decides() {
        let ugly = Verdict::Failed("ugly".to_owned());
        let skipped = Verdict::Skipped("no toys here".to_owned());
        let lost = Verdict::Error("lost".to_owned());
        for (strict, verdicts, accepted) in [
            (false, vec![(&MUST, Verdict::Passed)], true),
            (
                false,
                vec![(&MUST, Verdict::Passed), (&SHOULD, ugly.clone())],
                true,
            ),
            (
                true,
                vec![(&MUST, Verdict::Passed), (&SHOULD, ugly.clone())],
                false,
            ),
            (
                false,
                vec![(&MUST, ugly.clone()), (&SHOULD, Verdict::Passed)],
                false,
            ),
            (false, vec![(&MUST, skipped.clone())], false),
            (false, vec![(&MUST, Verdict::Passed), (&MUST, lost)], false),
            (false, vec![], false),
        ] {
            assert_eq!(
                report(strict, &verdicts).accepts(),
                accepted,
                "{strict} {verdicts:?}"
            );
        }
    }

    #[test]
    fn the_machine_forms_carry_everything() {
        let verdicts = [
            (&MUST, Verdict::Failed("got <b> & \"c\"".to_owned())),
            (&SHOULD, Verdict::Failed("ugly".to_owned())),
        ];
        let report = report(false, &verdicts);
        let json: Value = serde_json::from_str(&report.json()).expect("is JSON");
        assert_eq!(json["accepted"], false);
        assert_eq!(json["cases"][0]["id"], "toy-1");
        assert_eq!(json["cases"][0]["verdict"], "failed");
        assert_eq!(json["cases"][1]["verdict"], "advised");
        let junit = report.junit();
        assert!(
            junit.contains("tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"1\""),
            "{junit}"
        );
        assert!(
            junit.contains("message=\"got &lt;b&gt; &amp; &quot;c&quot;\""),
            "{junit}"
        );
        assert_eq!(
            junit.matches("<testcase").count(),
            junit.matches("</testcase>").count()
        );
    }
}
