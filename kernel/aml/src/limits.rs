//! The bounds that keep hostile tables harmless.

/// Bounds on what loading may take from the heap and on what one evaluation may take at all.
///
/// The pools for evaluation are taken while loading; nothing after [`Aml::load`](crate::Aml::load)
/// touches the heap. `cargo xtask aml dsdt.dat ssdt*.dat`, in hotmem's repository, shows how much heap and stack the tables of
/// a machine take, before a kernel runs on it; [`Usage`] says it afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all tables together.
    pub code: u32,
    /// Named objects that tables may define.
    pub nodes: u32,
    /// Bytes of buffers and strings, and package elements, that tables may define.
    pub data: u32,
    /// Bytes of buffers and strings that methods may create in one evaluation.
    pub bytes: u32,
    /// Package elements that methods may create in one evaluation.
    pub cells: u32,
    /// Names that methods may create in one evaluation.
    pub names: u32,
    /// Bytes by which strings and buffers of the tables may outgrow their first values over the
    /// whole uptime; a sixteenth as many package elements. A string that grows takes twice what
    /// it needs, so this bounds final sizes, not the number of stores; a package that is stored
    /// takes its size anew.
    pub growth: u32,
    /// How deep terms, packages and calls may nest. One level takes at most 700
    /// bytes of stack in an optimised build: see [`stack`](Self::stack).
    pub depth: u16,
    /// Methods that may call one another.
    pub calls: u16,
    /// Terms and loop rounds in one evaluation.
    pub steps: u32,
    /// Milliseconds that one evaluation may sleep and stall.
    pub sleep_ms: u32,
}

impl Limits {
    /// Enough for a machine with 256 memory slots, each a device with six methods, and 256
    /// processors beside them.
    ///
    /// What that takes, measured on QEMU's q35 with 256 slots (a table of 40 KB with 2,300 names):
    /// 330 KiB of heap held and 337 KiB while loading. Its methods use 152 of the bytes, 11 of
    /// the names and none of the cells, nest 12 levels deep, and an event that notifies all
    /// slots takes 270,000 steps. A call takes three levels or more; ACPICA allows some 250 calls, on a
    /// stack of its own. The deepest nesting that is allowed takes 260 KiB of stack.
    pub const DEFAULT: Self = Self {
        code: 4 << 20,
        nodes: 32 << 10,
        data: 1 << 20,
        bytes: 64 << 10,
        cells: 2 << 10,
        names: 256,
        growth: 4 << 10,
        depth: 384,
        calls: 96,
        steps: 2_000_000,
        sleep_ms: 2_000,
    };
}

impl Limits {
    /// As [`DEFAULT`](Self::DEFAULT), for kernels whose stacks have 16 KiB: byte code takes 10 KiB of that at most. A
    /// method that nests deeper fails by name. Those of QEMU's machines do not, but for `_FIT`, which describes NVDIMMs
    /// that are plugged later: it nests 15 levels deep.
    pub const SMALL_STACK: Self = Self { depth: 14, calls: 4, ..Self::DEFAULT };

    /// Bytes of stack that one evaluation takes at most in an optimised build.
    #[must_use]
    pub const fn stack(&self) -> usize {
        self.depth as usize * 700
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How much of the pools is used: what the tables define, and the most that any evaluation
/// needed so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of heap that are held, those for evaluations among them.
    pub heap: usize,
    /// Bytes of tables.
    pub code: u32,
    /// Named objects of the tables.
    pub nodes: u32,
    /// Bytes of buffers and strings of the tables.
    pub data: u32,
    /// Most bytes of buffers and strings in one evaluation.
    pub peak_bytes: u32,
    /// Most package elements in one evaluation.
    pub peak_cells: u32,
    /// Most names of methods in one evaluation.
    pub peak_names: u32,
    /// Most steps in one evaluation.
    pub peak_steps: u32,
    /// Deepest nesting in one evaluation.
    pub peak_depth: u16,
}
