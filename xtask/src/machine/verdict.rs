//! The kernel's verdict on a run.

use std::fmt;

/// How such a line begins.
const PREFIX: &str = "hotmem: verdict ";

/// What the kernel, or this program, thinks of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everything asked for was done, and every check held.
    Pass,
    /// The kernel declined, for the reason given, and nothing changed.
    Refused(String),
    /// Something is wrong.
    Fail(String),
}

impl Verdict {
    /// The verdict in a console line; `None` for any other line. A verdict we do not know is a failure.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let text = line.strip_prefix(PREFIX)?;
        let (word, why) = text.split_once(": ").unwrap_or((text, ""));
        Some(match word {
            "pass" => Self::Pass,
            "refused" => Self::Refused(why.to_owned()),
            "fail" => Self::Fail(why.to_owned()),
            _ => Self::Fail(format!("unknown verdict `{text}`")),
        })
    }

    /// The verdict in one word, as the report has it.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Refused(_) => "refused",
            Self::Fail(_) => "fail",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::Refused(why) | Self::Fail(why) => write!(f, "{}: {why}", self.word()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_with_their_reasons() {
        assert_eq!(Verdict::parse("hotmem: verdict pass"), Some(Verdict::Pass));
        let refused = Verdict::Refused("size 0x6400000: no whole blocks".into());
        assert_eq!(
            Verdict::parse("hotmem: verdict refused: size 0x6400000: no whole blocks"),
            Some(refused)
        );
        assert_eq!(
            Verdict::parse("hotmem: verdict fail: invariant 4"),
            Some(Verdict::Fail("invariant 4".into()))
        );
        assert_eq!(Verdict::parse("hotmem: ready"), None);
    }

    #[test]
    fn an_unknown_verdict_is_a_failure() {
        let verdict = Verdict::parse("hotmem: verdict passed").unwrap();
        assert_eq!(verdict.word(), "fail");
    }
}
