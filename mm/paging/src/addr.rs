//! Addresses, frame numbers and orders as types of their own.
//!
//! No bare integer crosses a module boundary: a [`PhysAddr`] cannot be dereferenced, a [`VirtAddr`] cannot be passed
//! to firmware, and a [`Pfn`] converts to bytes only with a page size. Arithmetic that firmware or an operator can
//! drive out of range is checked, and its result shows that.

use core::fmt;
use core::hash::Hash;
use core::marker::PhantomData;

/// An address space: the kind of an address.
pub trait Space: Copy + fmt::Debug + Ord + Hash + 'static {
    /// The name of its addresses in `Debug`.
    const ADDRESS: &'static str;
}

macro_rules! space {
    ($(#[$doc:meta])* $name:ident, $address:ident, $range:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {}

        impl Space for $name {
            const ADDRESS: &'static str = stringify!($address);
        }

        #[doc = concat!("A ", $what, " address, in bytes.")]
        pub type $address = Address<$name>;

        #[doc = concat!("A range of ", $what, " addresses, in bytes.")]
        pub type $range = AddressRange<$name>;
    };
}

space! {
    /// The memory bus of the machine.
    Physical, PhysAddr, PhysRange, "physical"
}
space! {
    /// The addresses of the CPU's own instructions. The page-table format defines which are canonical.
    Virtual, VirtAddr, VirtRange, "virtual"
}
space! {
    /// The physical addresses of a guest: the input of second-stage tables.
    Guest, GuestAddr, GuestRange, "guest-physical"
}

/// An address in the address space `S`.
///
/// Addresses of different spaces do not mix:
///
/// ```
/// use hotmem_paging::{GuestAddr, GuestRange};
/// let start = GuestAddr::new(0x4000_0000);
/// assert!(GuestRange::new(start, 0x1000).is_some());
/// ```
///
/// ```compile_fail,E0308
/// use hotmem_paging::{GuestAddr, VirtRange};
/// let start = GuestAddr::new(0x4000_0000);
/// assert!(VirtRange::new(start, 0x1000).is_some());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Address<S: Space>(u64, PhantomData<S>);

impl<S: Space> Address<S> {
    /// Wraps a raw address.
    #[inline]
    pub const fn new(raw: u64) -> Self {
        Self(raw, PhantomData)
    }

    /// The raw address.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The address `bytes` above, or `None` past the end of the address space.
    #[inline]
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(raw) => Some(Self::new(raw)),
            None => None,
        }
    }

    /// The address `bytes` above, wrapping at the end of the address space.
    ///
    /// For arithmetic inside a range that was checked when it was built.
    #[must_use]
    #[inline]
    pub const fn add(self, bytes: u64) -> Self {
        Self::new(self.0.wrapping_add(bytes))
    }

    /// The number of bytes from `base` to `self` (wrapping).
    #[inline]
    pub const fn offset_from(self, base: Self) -> u64 {
        self.0.wrapping_sub(base.0)
    }

    /// Whether the address is a multiple of `align`, a power of two.
    #[inline]
    pub const fn is_aligned(self, align: u64) -> bool {
        self.0 & (align - 1) == 0
    }

    /// The address rounded down to a multiple of `align`, a power of two.
    #[must_use]
    #[inline]
    pub const fn align_down(self, align: u64) -> Self {
        Self::new(self.0 & !(align - 1))
    }
}

impl<S: Space> Default for Address<S> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<S: Space> fmt::Display for Address<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl<S: Space> fmt::Debug for Address<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:#x})", S::ADDRESS, self.0)
    }
}

/// Adjacent bytes of the address space `S`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange<S: Space> {
    start: Address<S>,
    len: u64,
}

impl<S: Space> AddressRange<S> {
    /// The empty range, at 0.
    pub const EMPTY: Self = Self { start: Address::new(0), len: 0 };

    /// `len` bytes from `start`, or `None` if they run past the end of the address space.
    ///
    /// A range may end exactly at 2^64.
    pub const fn new(start: Address<S>, len: u64) -> Option<Self> {
        match start.get().checked_add(len) {
            Some(_) => Some(Self { start, len }),
            None if start.get().wrapping_add(len) == 0 => Some(Self { start, len }),
            None => None,
        }
    }

    /// First byte.
    #[inline]
    pub const fn start(self) -> Address<S> {
        self.start
    }

    /// One past the last byte (wraps to 0 for a range that ends at 2^64).
    #[inline]
    pub const fn end(self) -> Address<S> {
        self.start.add(self.len)
    }

    /// Bytes.
    #[inline]
    pub const fn len(self) -> u64 {
        self.len
    }

    /// Whether the range holds no byte.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Whether `address` lies in the range.
    #[inline]
    pub const fn contains(self, address: Address<S>) -> bool {
        address.offset_from(self.start) < self.len
    }

    /// Whether every byte of `other` lies in the range.
    #[inline]
    pub const fn covers(self, other: Self) -> bool {
        let offset = other.start.offset_from(self.start);
        other.len <= self.len && offset <= self.len - other.len
    }

    /// Whether the ranges share a byte.
    #[inline]
    pub const fn overlaps(self, other: Self) -> bool {
        self.len != 0
            && other.len != 0
            && (self.contains(other.start) || other.contains(self.start))
    }

    /// The bytes that are in both, if any.
    pub fn intersection(self, other: Self) -> Option<Self> {
        if !self.overlaps(other) {
            return None;
        }
        let (low, high) = if self.start <= other.start { (self, other) } else { (other, self) };
        let len = high.len.min(low.len - high.start.offset_from(low.start));
        Some(Self { start: high.start, len })
    }
}

impl<S: Space> Default for AddressRange<S> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<S: Space> fmt::Display for AddressRange<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.len.checked_sub(1) {
            Some(last) => write!(f, "[{}-{}]", self.start, self.start.add(last)),
            None => write!(f, "[{}, empty]", self.start),
        }
    }
}

impl<S: Space> fmt::Debug for AddressRange<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A page frame number: a physical address in units of the base page.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Pfn(u64);

impl Pfn {
    /// Wraps a raw frame number.
    #[inline]
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The raw frame number.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The frame `pages` above.
    #[must_use]
    #[inline]
    pub const fn add(self, pages: u64) -> Self {
        Self(self.0.wrapping_add(pages))
    }

    /// The number of pages from `base` to `self`.
    #[inline]
    pub const fn offset_from(self, base: Self) -> u64 {
        self.0.wrapping_sub(base.0)
    }

    /// Whether the frame number is a multiple of the pages of `order`.
    #[inline]
    pub const fn is_aligned(self, order: Order) -> bool {
        self.0 & (order.pages() - 1) == 0
    }

    /// The frame number rounded down to a multiple of the pages of `order`.
    #[must_use]
    #[inline]
    pub const fn align_down(self, order: Order) -> Self {
        Self(self.0 & !(order.pages() - 1))
    }
}

impl fmt::Display for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pfn {:#x}", self.0)
    }
}

impl fmt::Debug for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pfn({:#x})", self.0)
    }
}

/// A run of page frames, `start..end`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PfnRange {
    /// First frame.
    pub start: Pfn,
    /// One past the last frame.
    pub end: Pfn,
}

impl PfnRange {
    /// No frames.
    pub const EMPTY: Self = Self { start: Pfn(0), end: Pfn(0) };

    /// `pages` frames from `start`.
    #[inline]
    pub const fn new(start: Pfn, pages: u64) -> Self {
        Self { start, end: start.add(pages) }
    }

    /// Pages in the run.
    #[inline]
    pub const fn pages(self) -> u64 {
        self.end.offset_from(self.start)
    }

    /// Whether `pfn` lies in the run.
    #[inline]
    pub const fn contains(self, pfn: Pfn) -> bool {
        pfn.offset_from(self.start) < self.pages()
    }

    /// Whether every frame of `other` lies in the run.
    #[inline]
    pub const fn covers(self, other: Self) -> bool {
        self.start.0 <= other.start.0 && other.end.0 <= self.end.0
    }

    /// The frames that are in both runs, if any.
    #[inline]
    pub fn intersection(self, other: Self) -> Option<Self> {
        let start = self.start.max(other.start);
        let end = self.end.min(other.end);
        (start < end).then_some(Self { start, end })
    }

    /// The shortest run that covers both; an empty run adds nothing.
    #[must_use]
    #[inline]
    pub fn hull(self, other: Self) -> Self {
        if self.pages() == 0 || other.pages() == 0 {
            return if self.pages() == 0 { other } else { self };
        }
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// The frames of the run, ascending.
    #[inline]
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Pfn> + ExactSizeIterator {
        (0..self.pages() as usize).map(move |i| self.start.add(i as u64))
    }
}

impl fmt::Display for PfnRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pfns {:#x}..{:#x}", self.start.0, self.end.0)
    }
}

impl fmt::Debug for PfnRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The size of a naturally aligned run of pages: `1 << order` pages.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Order(u8);

impl Order {
    /// One page.
    pub const ZERO: Self = Self(0);
    /// The number of orders that a zone keeps lists for: a 2 GiB block of 4 KiB pages has order 19.
    pub const COUNT: usize = 20;
    /// The largest order.
    pub const MAX: Self = Self(Self::COUNT as u8 - 1);

    /// The order `raw`, or `None` above [`Order::MAX`].
    #[inline]
    pub const fn new(raw: u8) -> Option<Self> {
        if (raw as usize) < Self::COUNT { Some(Self(raw)) } else { None }
    }

    /// The largest order whose pages fit into `pages` (1 at least), capped at [`Order::MAX`].
    #[inline]
    pub const fn fitting(pages: u64) -> Self {
        let log = 63 - (pages | 1).leading_zeros() as u8;
        if log < Self::MAX.0 { Self(log) } else { Self::MAX }
    }

    /// The raw order.
    #[inline]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Pages of the order.
    #[inline]
    pub const fn pages(self) -> u64 {
        1 << self.0
    }

    /// The next smaller order, or `None` for one page.
    #[inline]
    pub const fn half(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// The next larger order, or `None` at [`Order::MAX`].
    #[inline]
    pub const fn double(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order {}", self.0)
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Order({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_may_end_at_the_top_of_the_address_space_but_not_pass_it() {
        let top = PhysAddr::new(u64::MAX - 0xfff);
        assert_eq!(PhysRange::new(top, 0x1000).map(|r| r.end().get()), Some(0));
        assert_eq!(PhysRange::new(top, 0x1001), None);
        assert!(PhysRange::new(top, 0x1000).unwrap().contains(PhysAddr::new(u64::MAX)));
    }

    #[test]
    fn ranges_that_only_touch_do_not_overlap() {
        let range = |start, len| PhysRange::new(PhysAddr::new(start), len).unwrap();
        assert!(!range(0, 0x1000).overlaps(range(0x1000, 0x1000)));
        assert!(range(0, 0x1001).overlaps(range(0x1000, 0x1000)));
        assert!(!range(0x800, 0).overlaps(range(0, 0x1000)));
        assert!(range(0, 0x2000).covers(range(0x1000, 0x1000)));
        assert!(!range(0x1000, 0x1000).covers(range(0, 0x2000)));
    }

    #[test]
    fn the_fitting_order_is_the_floor_of_the_logarithm() {
        assert_eq!(Order::fitting(1), Order(0));
        assert_eq!(Order::fitting(3), Order(1));
        assert_eq!(Order::fitting(32768), Order(15));
        assert_eq!(Order::fitting(u64::MAX), Order::MAX);
    }
}
