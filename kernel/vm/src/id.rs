//! The numbers of guests.

/// The most guests at a time. Tags of guests are numbered from 1, and processors have at least 15.
pub const MAX_VMS: usize = 8;

/// The most virtual CPUs of a guest.
pub const MAX_VCPUS: usize = 8;

/// A virtual CPU: the guest, and the number among those of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuId {
    /// The guest.
    pub vm: VmId,
    /// The number, from 0.
    pub number: usize,
}

/// The number of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmId(u8);

impl VmId {
    /// All numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..MAX_VMS as u8).map(Self)
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// Its number in the manager's words: from 1, so that a word of an unowned extent names no guest.
    pub(crate) const fn number(self) -> u16 {
        self.0 as u16 + 1
    }

    /// The tag of its cached translations.
    pub(crate) const fn tag(self) -> u16 {
        self.number()
    }

    pub(crate) fn of_number(number: u16) -> Option<Self> {
        Self::all().find(|id| id.number() == number)
    }
}
