//! Sizes as people write them (`1G`, `128M`) and as people read them (`1 GiB`).

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use indicatif::HumanCount;

/// One kibibyte in bytes.
pub(crate) const KIB: u64 = 1 << 10;
/// One mebibyte in bytes.
pub(crate) const MIB: u64 = 1 << 20;
/// One gibibyte in bytes.
pub(crate) const GIB: u64 = 1 << 30;
/// One tebibyte in bytes.
pub(crate) const TIB: u64 = 1 << 40;
/// The largest size taken, in bytes: no processor here has more than 52 bits of physical address.
const MOST: u64 = 1 << 52;

/// A non-zero number of bytes given on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(u64);

impl Size {
    /// A size of `bytes` bytes, for values known to be right.
    pub(crate) const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The size in bytes.
    pub(crate) const fn bytes(self) -> u64 {
        self.0
    }

    /// The way the kernel's command line takes sizes: `1G`, `100M`, `4096`.
    pub(crate) fn word(self) -> String {
        for (unit, letter) in [(GIB, "G"), (MIB, "M"), (KIB, "K")] {
            if self.0.is_multiple_of(unit) {
                return format!("{}{letter}", self.0 / unit);
            }
        }
        self.0.to_string()
    }
}

impl FromStr for Size {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let upper = text.trim().to_ascii_uppercase();
        let digits = upper.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = match upper.get(digits.len()..).unwrap_or_default() {
            "" | "B" => 1,
            "K" | "KB" | "KIB" => KIB,
            "M" | "MB" | "MIB" => MIB,
            "G" | "GB" | "GIB" => GIB,
            "T" | "TB" | "TIB" => TIB,
            other => bail!("unknown unit `{other}` in size `{text}`: use K, M, G or T"),
        };
        let count: u64 =
            digits.parse().with_context(|| format!("`{text}` is not a size such as 128M or 1G"))?;
        match count.checked_mul(unit) {
            Some(0) => bail!("a size of 0 bytes makes no sense"),
            Some(bytes) if bytes <= MOST => Ok(Self(bytes)),
            _ => bail!(
                "`{text}` is more than {}, the most that physical addresses reach",
                human(MOST)
            ),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&human(self.0))
    }
}

/// A requested DIMM: its size and its NUMA node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DimmSpec {
    /// Size in bytes, passed to QEMU as given.
    pub(crate) size: Size,
    /// NUMA node; `None` on a machine without nodes.
    pub(crate) node: Option<u32>,
}

impl FromStr for DimmSpec {
    type Err = anyhow::Error;

    /// Reads `SIZE[@NODE]`.
    fn from_str(text: &str) -> Result<Self> {
        let (size, node) = match text.split_once('@') {
            None => (text, None),
            Some((size, node)) => {
                let node: u32 =
                    node.parse().with_context(|| format!("`{node}` is not a NUMA node number"))?;
                // QEMU's MAX_NODES is 128.
                if node >= 128 {
                    bail!("NUMA node {node} is out of range: nodes are 0 to 127");
                }
                (size, Some(node))
            }
        };
        let size = size.parse()?;
        Ok(Self { size, node })
    }
}

/// Bytes in the largest unit that reads well: exact where it divides, else one decimal.
pub(crate) fn human(bytes: u64) -> String {
    let units = [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")];
    for (unit, name) in units {
        if bytes >= unit {
            let whole = bytes / unit;
            let tenth = bytes % unit * 10 / unit;
            return if bytes.is_multiple_of(unit) {
                format!("{whole} {name}")
            } else {
                format!("{whole}.{tenth} {name}")
            };
        }
    }
    format!("{bytes} B")
}

/// A number with a comma between thousands: `262,144`.
pub(crate) fn grouped(number: u64) -> String {
    HumanCount(number).to_string()
}

/// A count of things: `1 block`, `8 blocks`, `4,096 pages`.
pub(crate) fn counted(count: u64, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", grouped(count))
}

/// Human units and the exact figure: `1 GiB (1,073,741,824 bytes)`.
pub(crate) fn both(bytes: u64) -> String {
    if bytes < KIB {
        return format!("{bytes} bytes");
    }
    format!("{} ({} bytes)", human(bytes), grouped(bytes))
}

/// A change in bytes with its sign: `+4 KiB`, `-4 KiB`, `0 B`.
pub(crate) fn signed(bytes: i64) -> String {
    let sign = match bytes {
        0 => "",
        b if b > 0 => "+",
        _ => "-",
    };
    format!("{sign}{}", human(bytes.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        let read = |text: &str| text.parse::<Size>().unwrap().bytes();
        assert_eq!(read("1G"), GIB);
        assert_eq!(read("128m"), 128 * MIB);
        assert_eq!(read("100MiB"), 100 * MIB);
        assert_eq!(read("4096"), 4096);
        assert_eq!(read(" 2T "), 2 * TIB);
        assert_eq!(read("4096T"), 1 << 52);
    }

    #[test]
    fn nonsense_sizes_are_refused_with_a_reason() {
        for (text, why) in [
            ("", "not a size"),
            ("G", "not a size"),
            ("0", "0 bytes"),
            ("1X", "unknown unit"),
            ("-1G", "not a size"),
            ("1.5G", "not a size"),
            ("99999999999T", "more than 4096 TiB"),
            ("4097T", "more than 4096 TiB"),
            ("18446744073709551615", "more than 4096 TiB"),
        ] {
            let error = text.parse::<Size>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_dimm_may_name_its_node() {
        let dimm: DimmSpec = "1G@3".parse().unwrap();
        assert_eq!((dimm.size.bytes(), dimm.node), (GIB, Some(3)));
        assert_eq!("100M".parse::<DimmSpec>().unwrap().node, None);
        assert!("1G@".parse::<DimmSpec>().is_err());
        assert!("1G@128".parse::<DimmSpec>().is_err());
        assert!("@1".parse::<DimmSpec>().is_err());
    }

    #[test]
    fn sizes_are_shown_exactly_or_with_one_decimal() {
        assert_eq!(human(GIB), "1 GiB");
        assert_eq!(human(GIB + GIB / 2), "1.5 GiB");
        assert_eq!(human(100 * MIB), "100 MiB");
        assert_eq!(human(0), "0 B");
        assert_eq!(both(MIB), "1 MiB (1,048,576 bytes)");
        assert_eq!(signed(-4096), "-4 KiB");
        assert_eq!(signed(0), "0 B");
        assert_eq!(
            (counted(1, "block"), counted(4096, "page")),
            ("1 block".into(), "4,096 pages".into())
        );
    }

    #[test]
    fn a_size_reaches_the_kernel_in_its_largest_whole_unit() {
        assert_eq!("1024M".parse::<Size>().unwrap().word(), "1G");
        assert_eq!("100M".parse::<Size>().unwrap().word(), "100M");
        assert_eq!(Size::new(12345).word(), "12345");
    }
}
