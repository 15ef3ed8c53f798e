//! The table of the monitor's commands: each entry has a name, its help, and the function that reads its words.

use super::command::{Command, HotplugCommand, Shown};
use super::life::Life;
use super::words::{CommandError, Words, order};
use core::fmt::{self, Write};
use hotmem_hotplug::{JsonString, json_list};

/// Reads the words after a name.
type Read = for<'t> fn(&mut Words<'t>) -> Result<Command, CommandError<'t>>;

/// A command.
#[derive(Debug)]
pub(super) struct Entry {
    /// The word that calls it.
    pub(super) name: &'static str,
    /// Its forms and their effects: a line for each form.
    pub(super) help: &'static [Usage],
    /// Reads the words after its name.
    pub(super) read: Read,
}

/// The words after a command's name, and the effect of the command.
type Usage = (&'static str, &'static str);

/// All commands.
pub(super) const TABLE: &[Entry] = &[
    Entry {
        name: "help",
        help: &[("[--json]", "this list")],
        read: |words| Ok(Command::Show(Shown::Help, words.json()?)),
    },
    Entry {
        name: "blocks",
        help: &[("[--json]", "memory blocks and their states")],
        read: |words| Ok(Command::Show(Shown::Blocks, words.json()?)),
    },
    Entry {
        name: "shares",
        help: &[("[--json]", "what the pages of each block are in use for")],
        read: |words| Ok(Command::Show(Shown::Shares, words.json()?)),
    },
    Entry {
        name: "stats",
        help: &[("[--json]", "counts over all memory")],
        read: |words| Ok(Command::Show(Shown::Stats, words.json()?)),
    },
    Entry {
        name: "zones",
        help: &[("[--json]", "zones of each node, free extents by order")],
        read: |words| Ok(Command::Show(Shown::Zones, words.json()?)),
    },
    Entry {
        name: "cpus",
        help: &[
            ("[--json]", "CPUs, their states and counters"),
            ("start HARDWARE", "start the CPU with this firmware id"),
            ("churn [masked]|rest", "have all but the first allocate and free; stop that"),
            ("hold PAGES", "the others hold memory once the first sleeps, until rest"),
            ("tick [HERTZ|off]", "have a timer handler on each allocate and free; stop that"),
        ],
        read: |words| words.cpus(),
    },
    Entry {
        name: "firmware",
        help: &[("[--json]", "firmware's tables, and the parts that are left out")],
        read: |words| Ok(Command::Hotplug(HotplugCommand::Firmware { json: words.json()? })),
    },
    Entry {
        name: "page",
        help: &[("PFN [--json]", "the state of a page")],
        read: |words| Ok(Command::Show(Shown::Page(words.pfn()?), words.json()?)),
    },
    Entry {
        name: "mapping",
        help: &[("PFN [--json]", "the mappings of a page and its descriptor, the CPU's mode")],
        read: |words| Ok(Command::Show(Shown::Mapping(words.pfn()?), words.json()?)),
    },
    Entry {
        name: "peek",
        help: &[("VADDR [CPU]", "read eight bytes, or report a fault")],
        read: |words| Ok(Command::Peek(words.address()?, words.cpu()?)),
    },
    Entry {
        name: "walk",
        help: &[("VADDR", "walk the page tables for an address")],
        read: |words| words.address().map(Command::Walk),
    },
    Entry { name: "verify", help: &[("", "check every invariant")], read: |_| Ok(Command::Verify) },
    Entry {
        name: "alloc",
        help: &[("ORDER [CPU]", "allocate 2^ORDER unmovable pages")],
        read: |words| Ok(Command::Alloc(words.read("an order from 0 to 19", order)?, words.cpu()?)),
    },
    Entry {
        name: "free",
        help: &[("PFN", "free pages that alloc allocated")],
        read: |words| words.pfn().map(Command::Free),
    },
    Entry {
        name: "add",
        help: &[("START SIZE [device|block|boot]", "add plugged memory that no device owns")],
        read: |words| Ok(Command::Hotplug(HotplugCommand::Add(words.range()?, words.flags()?))),
    },
    Entry {
        name: "remove",
        help: &[("START SIZE", "remove memory added by add")],
        read: |words| Ok(Command::Hotplug(HotplugCommand::Remove(words.range()?))),
    },
    Entry {
        name: "online",
        help: &[("N [WAY]", "bring block N online: online, online_kernel, online_movable")],
        read: |words| Ok(Command::Hotplug(HotplugCommand::Online(words.block()?, words.way()?))),
    },
    Entry {
        name: "offline",
        help: &[
            ("N", "take block N offline, migrating pages in use"),
            ("status|cancel", "show the eject under way; cancel it"),
        ],
        read: |words| words.offline(),
    },
    Entry {
        name: "pmem",
        help: &[
            ("list [--json]", "persistent memory, and whether it holds data"),
            ("add N [device|block] [force]", "use it as RAM; force: even if it holds data"),
            ("remove N", "give it up in steps, migrating pages in use: offline status"),
        ],
        read: |words| words.pmem(),
    },
    Entry {
        name: "policy",
        help: &[("[POLICY [RATIO]]", "the policy for added memory: offline, a WAY, auto_movable")],
        read: |words| words.policy().map(Command::Life),
    },
    Entry {
        name: "virtio_mem",
        help: &[("[eager|need [LOW HIGH]]", "plug what a host offers at once, or by need")],
        read: |words| words.growth(),
    },
    Entry {
        name: "vmemmap",
        help: &[("[enable|disable]", "allow memmaps in the memory they describe")],
        read: |words| words.vmemmap().map(Command::Life),
    },
    Entry {
        name: "convert",
        help: &[("START SIZE block", "give each block of a device range its own memmap")],
        read: |words| words.convert().map(Command::Life),
    },
    Entry {
        name: "explain-remove",
        help: &[("START SIZE [--json]", "whether the range can be removed, or what prevents it")],
        read: |words| words.explain().map(Command::Life),
    },
    Entry {
        name: "memtrace",
        help: &[
            ("NODE:FIRST-LAST[,...]", "take offline boot blocks out of the linear map"),
            ("contig NODE SIZE", "find, empty and take contiguous boot memory of this size"),
            ("status [--json]|release", "show taken memory; return it to the linear map"),
        ],
        read: |words| words.memtrace().map(Command::Life),
    },
    Entry {
        name: "poison",
        help: &[("PFN [later]", "take a bad page out of use; later: as a machine check does")],
        read: |words| words.poison().map(Command::Life),
    },
    Entry {
        name: "compact",
        help: &[("NODE ZONE ORDER", "compact memory into a free extent of that order")],
        read: |words| words.compact().map(Command::Life),
    },
    Entry {
        name: "dump",
        help: &[("[--json]", "the pages that a crash dump saves")],
        read: |words| Ok(Command::Life(Life::Dump { json: words.json()? })),
    },
    Entry {
        name: "notify",
        help: &[
            ("", "the watchers of online and offline"),
            ("add PRIORITY [online|offline]", "add a watcher, which may object to one of both"),
            ("remove NUMBER", "remove a watcher"),
        ],
        read: |words| words.watch().map(|watch| Command::Life(Life::Watch(watch))),
    },
    Entry {
        name: "pool",
        help: &[
            ("[--json]", "the pool of movable pages"),
            ("grow N [ORDER]|shrink N|check", "add or free extents; check what they hold"),
            ("sum", "a checksum of what they hold, in the order of their handles"),
            ("pin|unpin|free HANDLE", "forbid or allow moving an extent; free it"),
        ],
        read: |words| words.pool().map(Command::Pool),
    },
    Entry {
        name: "cache",
        help: &[
            ("[--json]", "the page cache, and the store of objects under it"),
            ("write OBJECT OFFSET BYTE [COUNT]", "write bytes of an object, which grows"),
            ("read OBJECT OFFSET", "read a byte of an object"),
            ("flush|drop|check", "write back; drop cached pages; compare with the store"),
        ],
        read: |words| words.cache().map(Command::Cache),
    },
    Entry {
        name: "vm",
        help: &[
            ("[--json]", "the guests, and the blocks that hold them"),
            ("create NAME SIZE [@NODE]", "a guest in movable memory, which runs the payload"),
            ("create NAME SIZE linux|self", "a guest that runs Linux, or this kernel"),
            ("create NAME SIZE --vcpus N", "the same, with several virtual CPUs"),
            ("create NAME SIZE --extent BYTES", "the same, in extents of so many bytes"),
            ("run NAME [ROUNDS [MISDEED]]", "let it run: rounds, 0 for ever; do wrong after one"),
            ("run NAME ROUNDS --bytes BYTES", "the same, of a payload that works on a part only"),
            ("console NAME [BYTE]", "what it wrote to its serial port"),
            ("type NAME LINE", "type a line at its serial port"),
            ("pause|kill|log NAME", "pause it, end it, show why it stopped"),
            ("verify", "check the invariants of guests"),
        ],
        read: |words| words.vm().map(Command::Vm),
    },
    Entry {
        name: "use",
        help: &[("[all|SEED]", "use all added memory: allocate, write, read back, free")],
        read: |words| words.sample().map(Command::Use),
    },
    Entry {
        name: "bench",
        help: &[("[--json]", "instructions of an allocation and its free, case by case")],
        read: |words| Ok(Command::Bench { json: words.json()? }),
    },
    Entry {
        name: "holds",
        help: &[("[--json]", "how long locks were held, if the image records that")],
        read: |words| Ok(Command::Show(Shown::Holds, words.json()?)),
    },
    Entry {
        name: "snapshot",
        help: &[("save|check", "save the state of memory, or compare with it")],
        read: |words| words.snapshot(),
    },
    Entry {
        name: "fault",
        help: &[
            ("OP K", "step K of the next add, online, offline, remove or convert fails"),
            ("firmware K", "call K of firmware from now on fails"),
            ("off", "forget both, and tell of the call of firmware"),
        ],
        read: |words| words.fault().map(Command::Fault),
    },
    Entry {
        name: "verdict",
        help: &[("", "pass, refused or fail, over all operations so far")],
        read: |_| Ok(Command::Verdict),
    },
    Entry {
        name: "log",
        help: &[("LEVEL", "off, error, warn, info, debug or trace")],
        read: |words| words.read("a log level", |word| word.parse().ok()).map(Command::Log),
    },
    Entry {
        name: "crash",
        help: &[
            ("[CPU]", "write to an unmapped address"),
            ("stack [CPU]", "overflow the stack"),
            ("deaf [CPU]", "disable interrupts for ever"),
        ],
        read: |words| words.crash(),
    },
    Entry {
        name: "exit",
        help: &[("[CODE]", "leave the machine, CODE 0 to 100")],
        read: |words| words.code().map(Command::Exit),
    },
];

/// The column of a command's effect, after its form.
const COLUMNS: usize = 38;

/// Columns of a terminal.
const WIDTH: usize = 80;

/// Writes the output of `help`: each form of each command, with its effect, which may take several lines.
pub(super) fn help(out: &mut dyn Write) -> fmt::Result {
    TABLE.iter().try_for_each(|Entry { name, help, .. }| {
        let width = COLUMNS.saturating_sub(name.len() + 1);
        help.iter().try_for_each(|(usage, what)| {
            write!(out, "{name} {usage:width$}")?;
            effect(what, out)
        })
    })
}

/// Writes an effect behind a form, broken where it does not fit.
fn effect(what: &str, out: &mut dyn Write) -> fmt::Result {
    let mut column = COLUMNS;
    for word in what.split(' ') {
        if column + 1 + word.len() > WIDTH {
            write!(out, "\n{:COLUMNS$}", "")?;
            column = COLUMNS;
        }
        write!(out, " {word}")?;
        column += 1 + word.len();
    }
    writeln!(out)
}

/// Writes names and forms of all commands as one line of JSON: a list.
pub(super) fn help_json(out: &mut dyn Write) -> fmt::Result {
    json_list(out, TABLE, |Entry { name, help, .. }, out| {
        write!(out, "{{\"name\":{},\"forms\":", JsonString(name))?;
        json_list(out, *help, |(usage, _), out| write!(out, "{}", JsonString(usage)))?;
        write!(out, "}}")
    })?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_name_of_its_own_and_lines_of_help_that_fit() {
        for (index, entry) in TABLE.iter().enumerate() {
            assert!(TABLE.iter().skip(index + 1).all(|other| other.name != entry.name));
            assert!(!entry.help.is_empty(), "{}", entry.name);
            for (usage, what) in entry.help {
                let fits = entry.name.len() + 1 + usage.len() <= COLUMNS && what.len() <= 64;
                assert!(fits, "{} {usage}: {what}", entry.name);
            }
        }
    }

    #[test]
    fn help_has_a_line_for_each_form_with_its_effect_in_one_column() {
        let mut text = String::new();
        help(&mut text).unwrap();
        let line = "alloc ORDER [CPU]                      allocate 2^ORDER unmovable pages";
        assert!(text.lines().any(|one| one == line), "{text}");
        let line = "cache write OBJECT OFFSET BYTE [COUNT] write bytes of an object, which grows";
        assert!(text.lines().any(|one| one == line), "{text}");
        let forms: usize = TABLE.iter().map(|entry| entry.help.len()).sum();
        assert_eq!(text.lines().filter(|line| !line.starts_with(' ')).count(), forms);
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
    }

    #[test]
    fn help_in_json_has_the_name_and_the_forms_of_each_command() {
        let mut text = String::new();
        help_json(&mut text).unwrap();
        assert!(text.contains(r#"{"name":"online","forms":["N [WAY]"]}"#), "{text}");
        assert_eq!(text.matches("\"name\":").count(), TABLE.len());
    }
}
