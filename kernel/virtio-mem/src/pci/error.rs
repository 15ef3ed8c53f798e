//! Why a function cannot be used.

use hotmem::PhysRange;

hotmem::errors! {
    /// Why a function cannot be used.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum PciError {
        /// It has no such registers.
        Missing(what: &'static str) => "it has no registers for {what}",
        /// Its registers for something are in a BAR that does not exist: for what, and the number of the BAR.
        NoBar(what: &'static str, bar: u8) =>
            "its registers for {what} are in BAR {bar}, which does not exist",
        /// Its registers for something are in a BAR that is not memory, or has no address: for what, and the number of the BAR.
        NoMemory(what: &'static str, bar: u8) =>
            "its registers for {what} are in BAR {bar}, which has no memory address",
        /// Its registers are not in their BAR, or not aligned there, or fewer than there have to be.
        Outside {
            /// Which registers.
            what: &'static str,
            /// Where they start in the BAR.
            offset: u32,
            /// Their bytes.
            bytes: u32,
            /// Bytes of the BAR.
            bar: u64,
        } => "its registers for {what} are {bytes:#x} bytes at {offset:#x} of a BAR of {bar:#x} bytes",
        /// Registers cannot be mapped.
        Map(range: PhysRange) => "its registers at {range} cannot be mapped",
        /// Registers that the driver needs have no address, and cannot get one.
        NoPlace {
            /// Their BAR.
            bar: u8,
            /// Their bytes.
            bytes: u64,
            /// Why not.
            why: NoPlace,
        } => "BAR {bar}, of {bytes:#x} bytes, has no address and gets none: {why}",
    }

    /// Why registers get no address.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum NoPlace {
        /// No bridge leads from bus 0 to the bus of their function.
        NoBridge => "no bridge leads to the function",
        /// A bridge on the way to their function does not keep its window.
        Closed => "a bridge on the way does not keep its window",
        /// Firmware describes no window of bus 0.
        NoWindow => "firmware describes no window for it",
        /// No window has so much room that no other function uses.
        NoRoom => "no window has so much room",
        /// Other functions have more registers than can be kept in mind, or the heap has no room for them.
        TooMany => "other functions have too many registers",
    }
}
