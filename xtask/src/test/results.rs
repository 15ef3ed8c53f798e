//! What came of the tests: by suite, for the closing table and for a JUnit file.

use std::fmt::Write;

/// How many tests went which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Tests that held.
    pub(crate) passed: u64,
    /// Tests that did not, or could not run.
    pub(crate) failed: u64,
}

impl Counts {
    /// Both together.
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }
}

/// One test that ran.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Case {
    /// Its name.
    pub(crate) name: String,
    /// How long it took, where that is known.
    pub(crate) seconds: Option<f32>,
    /// What went wrong, if something did.
    pub(crate) failure: Option<String>,
}

/// Tests that ran together.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Suite {
    /// What they are tests of.
    pub(crate) name: String,
    /// How long all of them took.
    pub(crate) seconds: f32,
    /// How they went.
    pub(crate) counts: Counts,
    /// Each that is known by name.
    pub(crate) cases: Vec<Case>,
}

impl Suite {
    /// A suite with these cases.
    pub(crate) fn of(name: &str, seconds: f32, cases: Vec<Case>) -> Self {
        let failed = cases.iter().filter(|case| case.failure.is_some()).count();
        let passed = cases.len() - failed;
        let counts = Counts { passed: passed as u64, failed: failed as u64 };
        Self { name: name.to_owned(), seconds, counts, cases }
    }
}

/// The sum over `suites`.
pub(crate) fn total(suites: &[Suite]) -> Counts {
    suites.iter().fold(Counts::default(), |sum, suite| sum.plus(suite.counts))
}

/// A line for each suite that ran a test, with its time.
pub(crate) fn table(suites: &[Suite]) -> String {
    let ran = || suites.iter().filter(|suite| suite.counts != Counts::default());
    let width = ran().map(|suite| suite.name.len()).max().unwrap_or_default();
    ran()
        .map(|Suite { name, seconds, counts, .. }| {
            let Counts { passed, failed } = counts;
            format!("{name:width$}  {seconds:7.1} s  {passed:4} passed, {failed} failed\n")
        })
        .collect()
}

/// The results in the XML of JUnit, which CI services read.
pub(crate) fn junit(suites: &[Suite]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for suite in suites.iter().filter(|suite| suite.counts != Counts::default()) {
        let Counts { passed, failed } = suite.counts;
        // Writing to a string does not fail.
        let _ = writeln!(
            xml,
            "<testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" time=\"{:.3}\">",
            escaped(&suite.name),
            passed + failed,
            suite.seconds
        );
        suite.cases.iter().for_each(|case| xml.push_str(&junit_case(&suite.name, case)));
        xml.push_str("</testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn junit_case(suite: &str, Case { name, seconds, failure }: &Case) -> String {
    let time = seconds.map_or(String::new(), |seconds| format!(" time=\"{seconds:.3}\""));
    let (suite, name) = (escaped(suite), escaped(name));
    let inside = failure.as_deref().map_or(String::new(), |text| {
        let first = text.lines().next().unwrap_or_default();
        format!("<failure message=\"{}\">{}</failure>", escaped(first), escaped(text))
    });
    format!("<testcase classname=\"{suite}\" name=\"{name}\"{time}>{inside}</testcase>\n")
}

/// `text` with XML's own characters written as XML wants them; other control characters are not allowed in XML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(character),
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;
    use crate::layout::too_long;

    #[test]
    fn the_table_fits_the_terminal_with_the_longest_name_of_a_run() {
        let samples = |arch: Arch| {
            let words = |sample: &&[&str]| format!("{arch} {}", sample.join(" "));
            arch.about().samples.iter().map(words).collect::<Vec<_>>()
        };
        let counts = Counts { passed: 12345, failed: 1234 };
        let suite = |name: String| Suite { name, seconds: 12345.6, counts, cases: Vec::new() };
        let suites: Vec<_> = Arch::all().flat_map(samples).map(suite).collect();
        let text = table(&suites);
        assert!(text.lines().count() > 3 && too_long(&text).is_empty(), "{text}");
    }

    fn suites() -> Vec<Suite> {
        let case = |name: &str, failure: Option<&str>| Case {
            name: name.into(),
            seconds: Some(1.5),
            failure: failure.map(str::to_owned),
        };
        let cases = vec![case("good", None), case("bad", Some("a < b & \"c\"\n\u{1b}[1m"))];
        vec![Suite::of("x86_64", 3.0, cases), Suite::of("nothing ran", 0.0, Vec::new())]
    }

    #[test]
    fn counts_are_those_of_the_cases() {
        assert_eq!(total(&suites()), Counts { passed: 1, failed: 1 });
    }

    #[test]
    fn each_suite_that_ran_has_a_line_with_its_time() {
        assert_eq!(table(&suites()), "x86_64      3.0 s     1 passed, 1 failed\n");
    }

    #[test]
    fn junit_names_each_case_and_holds_no_character_that_xml_forbids() {
        let xml = junit(&suites());
        assert!(
            xml.contains("<testsuite name=\"x86_64\" tests=\"2\" failures=\"1\" time=\"3.000\">")
        );
        assert!(
            xml.contains("<testcase classname=\"x86_64\" name=\"good\" time=\"1.500\"></testcase>")
        );
        assert!(xml.contains("<failure message=\"a &lt; b &amp; &quot;c&quot;\">"), "{xml}");
        assert!(!xml.contains('\u{1b}') && !xml.contains("nothing ran"));
    }
}
