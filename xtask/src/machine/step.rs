//! What the kernel says about each operation it performed: one line `hotmem: step {json}`.
//!
//! The same objects, checked here field by field, are the steps of the JSON report. Addresses and sizes
//! are bytes. Instruction counts are null unless the guest counts instructions.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How such a line begins.
const PREFIX: &str = "hotmem: step ";

/// One operation performed.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(tag = "operation", rename_all = "lowercase")]
pub(crate) enum Step {
    Add(Add),
    Online(Online),
    Use(Use),
    Offline(Offline),
    Scrub(Scrub),
    Remove(Remove),
}

/// Where the page descriptors of a hot-added range live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Placement {
    /// At the start of the range itself.
    Device,
    /// At the start of each memory block.
    Block,
    /// In memory that was there at boot.
    Boot,
}

impl Placement {
    /// The word for it on the kernel's command line and at its monitor.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Block => "block",
            Self::Boot => "boot",
        }
    }
}

/// The pages at the head of a range (or block) that hold its page descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Group {
    /// Physical address of the first memmap page.
    pub(crate) memmap_start: u64,
    /// Number of memmap pages.
    pub(crate) memmap_pages: u64,
    /// Number of sections they describe.
    pub(crate) sections: u64,
}

/// A range made known to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Add {
    /// Null, like size and node, when the firmware could not say.
    pub(crate) start: Option<u64>,
    pub(crate) size: Option<u64>,
    pub(crate) node: Option<u64>,
    pub(crate) placement: Placement,
    /// Empty when the memmap lies in boot memory.
    pub(crate) groups: Vec<Group>,
    /// Bytes taken from memory outside the range.
    pub(crate) system_bytes: i64,
    pub(crate) instructions: Option<u64>,
    /// From the interrupt to the reply to the firmware.
    pub(crate) event_instructions: Option<u64>,
    /// The status that was reported to the firmware; null if no firmware requested the operation.
    pub(crate) ost: Option<u64>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl Add {
    /// First byte of the range, 0 if unknown.
    pub(crate) fn start(&self) -> u64 {
        self.start.unwrap_or_default()
    }

    /// Bytes in the range, 0 if unknown.
    pub(crate) fn size(&self) -> u64 {
        self.size.unwrap_or_default()
    }

    /// First byte behind the range.
    pub(crate) fn end(&self) -> u64 {
        self.start().saturating_add(self.size())
    }

    /// Pages that hold page descriptors of the range, in the range itself.
    pub(crate) fn memmap_pages(&self) -> u64 {
        self.groups.iter().map(|group| group.memmap_pages).sum()
    }
}

/// One memory block after it went online.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct OnlineBlock {
    /// The block's number.
    pub(crate) block: u64,
    pub(crate) state: String,
    /// Bytes given to the page allocator.
    pub(crate) managed_bytes: u64,
}

/// Memory blocks handed to the page allocator.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Online {
    pub(crate) blocks: Vec<OnlineBlock>,
    pub(crate) instructions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl Online {
    /// Bytes given to the page allocator.
    pub(crate) fn managed(&self) -> u64 {
        self.blocks.iter().map(|block| block.managed_bytes).sum()
    }
}

/// All hot-added memory allocated and freed twice, then written and read back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Use {
    pub(crate) touched_bytes: u64,
    pub(crate) first_pass_instructions: Option<u64>,
    pub(crate) second_pass_instructions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// Memory blocks taken back from the page allocator.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub(crate) struct Offline {
    pub(crate) instructions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Further facts, handed on as they are.
    #[serde(flatten)]
    pub(crate) more: Map<String, Value>,
}

/// Memory cleared before its device goes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Scrub {
    pub(crate) start: u64,
    pub(crate) size: u64,
    /// Bytes that were cleared: those that may have held data.
    pub(crate) scrubbed_bytes: u64,
    /// Blocks that have bad memory.
    pub(crate) skipped_blocks: u64,
    pub(crate) instructions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// A range forgotten by the kernel.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub(crate) struct Remove {
    /// Bytes given back (negative) to memory outside the range.
    pub(crate) system_bytes: i64,
    pub(crate) instructions: Option<u64>,
    pub(crate) ost: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Further facts, handed on as they are.
    #[serde(flatten)]
    pub(crate) more: Map<String, Value>,
}

impl Step {
    /// The step in a console line; `None` for any other line.
    ///
    /// # Errors
    /// When the line claims to be a step but its JSON lacks a field or has one of the wrong type.
    pub(crate) fn parse(line: &str) -> Option<Result<Self>> {
        let json = line.strip_prefix(PREFIX)?;
        Some(serde_json::from_str(json).with_context(|| format!("bad step line `{line}`")))
    }
}

/// One kind of step.
pub(crate) trait Kind: Sized {
    /// The operation's name.
    const OPERATION: &str;

    /// The step itself if it is of this kind.
    fn of(step: Step) -> Option<Self>;

    /// Why the operation failed, if it did.
    fn error(&self) -> Option<&str>;

    /// `step`, which has to be of this kind.
    ///
    /// # Errors
    /// When it is of another kind.
    fn expected(step: Step) -> Result<Self> {
        let why = step.error().map_or(String::new(), |why| format!(" failed: {why}"));
        let said = format!("{}{why}", step.operation());
        Self::of(step).with_context(|| {
            format!("expected {}, but the kernel reports: {said}", Self::OPERATION)
        })
    }

    /// The step, which must not have failed.
    ///
    /// # Errors
    /// When it did; the error says why.
    fn good(self) -> Result<Self> {
        match self.error() {
            None => Ok(self),
            Some(why) => bail!("{} failed: {why}", Self::OPERATION),
        }
    }
}

/// Implements [`Kind`], and what all kinds have in common for a [`Step`].
macro_rules! kinds {
    ($($kind:ident $operation:literal),*) => {
        impl Step {
            /// The operation's name.
            pub(crate) const fn operation(&self) -> &'static str {
                match self { $(Self::$kind(_) => $operation),* }
            }

            /// Why the operation failed, if it did.
            pub(crate) fn error(&self) -> Option<&str> {
                match self { $(Self::$kind(step) => step.error.as_deref()),* }
            }
        }

        $(impl Kind for $kind {
            const OPERATION: &str = $operation;

            fn of(step: Step) -> Option<Self> {
                if let Step::$kind(step) = step { Some(step) } else { None }
            }

            fn error(&self) -> Option<&str> {
                self.error.as_deref()
            }
        })*
    };
}

kinds!(Add "add", Online "online", Use "use", Offline "offline", Scrub "scrub", Remove "remove");

#[cfg(test)]
mod tests {
    use super::*;

    const ADD: &str = r#"hotmem: step {"operation":"add","start":4294967296,"size":1073741824,"node":0,"placement":"device","groups":[{"memmap_start":4294967296,"memmap_pages":4096,"sections":8}],"system_bytes":0,"instructions":null,"event_instructions":null,"ost":0,"error":null}"#;

    #[test]
    fn an_add_is_read_whole() {
        let Step::Add(add) = Step::parse(ADD).unwrap().unwrap() else {
            panic!("not an add");
        };
        assert_eq!((add.start(), add.size(), add.ost), (1 << 32, 1 << 30, Some(0)));
        assert_eq!(add.groups[0].memmap_pages, 4096);
    }

    #[test]
    fn other_lines_are_not_steps() {
        assert!(Step::parse("hotmem: ready").is_none());
        assert!(Step::parse("stepping out").is_none());
    }

    #[test]
    fn a_step_of_another_kind_or_a_failed_one_is_an_error_with_its_reason() {
        let step = || Step::parse(ADD).unwrap().unwrap();
        assert_eq!(Add::expected(step()).unwrap().good().unwrap().ost, Some(0));
        let error = Remove::expected(step()).unwrap_err().to_string();
        assert_eq!(error, "expected remove, but the kernel reports: add");
        let failed = ADD.replace("\"error\":null", "\"error\":\"odd\"");
        let failed = || Step::parse(&failed).unwrap().unwrap();
        let error = Remove::expected(failed()).unwrap_err().to_string();
        assert_eq!(error, "expected remove, but the kernel reports: add failed: odd");
        let error = Add::expected(failed()).unwrap().good().unwrap_err().to_string();
        assert_eq!(error, "add failed: odd");
    }

    #[test]
    fn a_step_that_lacks_a_field_or_has_a_wrong_type_is_an_error() {
        for broken in [
            ADD.replace("\"system_bytes\":0,", ""),
            ADD.replace("\"start\":4294967296", "\"start\":\"0x100000000\""),
            ADD.replace("\"device\"", "\"elsewhere\""),
            ADD.replace("\"add\"", "\"addition\""),
            ADD.replace('}', ""),
        ] {
            assert!(Step::parse(&broken).unwrap().is_err(), "{broken}");
        }
    }

    #[test]
    fn the_report_has_no_error_field_unless_there_is_one() {
        let step = Step::parse(ADD).unwrap().unwrap();
        let json = serde_json::to_string(&step).unwrap();
        assert!(
            json.starts_with(r#"{"operation":"add","start":4294967296"#) && !json.contains("error"),
            "{json}"
        );
        let refused =
            Step::parse(&ADD.replace("\"error\":null", "\"error\":\"odd\"")).unwrap().unwrap();
        assert_eq!(refused.error(), Some("odd"));
        assert!(serde_json::to_string(&refused).unwrap().contains(r#""error":"odd""#));
    }

    #[test]
    fn further_facts_of_a_remove_are_handed_on() {
        let line = r#"hotmem: step {"operation":"remove","start":4294967296,"system_bytes":-4096,"instructions":7,"ost":0,"error":null}"#;
        let step = Step::parse(line).unwrap().unwrap();
        let json = serde_json::to_value(&step).unwrap();
        assert_eq!(
            (json["start"].as_u64(), json["system_bytes"].as_i64()),
            (Some(1 << 32), Some(-4096))
        );
    }
}
