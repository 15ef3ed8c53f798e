//! The architecture that this build is for, by the same names for every architecture.

#[cfg(all(bare, target_arch = "aarch64"))]
pub use crate::aarch64::Aarch64 as Arch;
#[cfg(not(bare))]
pub use crate::host::Host as Arch;
#[cfg(all(bare, target_arch = "powerpc64"))]
pub use crate::ppc64::Ppc64 as Arch;
#[cfg(all(bare, target_arch = "x86_64"))]
pub use crate::x86_64::X86_64 as Arch;

pub use crate::common::probe;
use crate::contract::{
    Addressing, Architecture, Clock, Cpu, Cpus, Guests, Io, Layout, Mmio, Traps,
};

/// A virtual CPU.
pub type Vcpu = <Arch as Guests>::Vcpu;
/// The format of the kernel's page tables.
pub type Format = <Arch as Architecture>::Format;
/// The TLB: caches translations of the kernel's page tables.
pub type CpuTlb = <Arch as Architecture>::CpuTlb;
/// The console.
pub type Port = <Arch as Architecture>::Port;
/// The interrupt controllers.
pub type Controllers<R> = <Arch as Architecture>::Controllers<R>;
/// The firmware functions that a device tree names.
pub type Rtas = <Arch as Architecture>::Rtas;
/// The tables that a CPU needs to take traps.
pub type CpuTables = <Arch as Traps>::CpuTables;
/// The tops of the stacks for traps.
pub type TrapStacks = <Arch as Traps>::TrapStacks;
/// The registers of the interrupted code.
pub type TrapFrame = <Arch as Traps>::TrapFrame;

/// Defines functions by the names that they have in a trait of the contract.
macro_rules! functions {
    ($part:ident: $($name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*) => {$(
        #[doc = concat!("[`", stringify!($part), "::", stringify!($name), "`]")]
        #[inline(always)]
        pub fn $name($($arg: $type),*) $(-> $result)? {
            Arch::$name($($arg),*)
        }
    )*};
}

/// Defines constants by the names that they have in a trait of the contract.
macro_rules! constants {
    ($part:ident: $($name:ident: $type:ty;)*) => {$(
        #[doc = concat!("[`", stringify!($part), "::", stringify!($name), "`]")]
        pub const $name: $type = Arch::$name;
    )*};
}

/// [`Layout`] of this architecture.
pub mod layout {
    use super::{Arch, Layout};
    use hotmem_paging::addr::{PhysAddr, VirtAddr};

    constants! { Layout:
        PAGE_SHIFT: u32;
        SECTION_SHIFT: u32;
        BLOCK_SHIFT: u32;
        LINEAR_BASE: VirtAddr;
        VMEMMAP_BASE: VirtAddr;
        DEVICE_BASE: VirtAddr;
        FIRMWARE_BASE: VirtAddr;
        STACK_BASE: VirtAddr;
        PHYS_LIMIT: PhysAddr;
        RETURN_ADDRESS: u64;
        TRAP_STACKS: &'static [&'static str];
    }
}

/// [`Addressing`] of this architecture.
pub mod addressing {
    use super::{Addressing, Arch};
    use core::ptr::NonNull;
    use hotmem_paging::addr::{VirtAddr, VirtRange};

    functions! { Addressing:
        pointer_in(base: VirtAddr, offset: u64) -> NonNull<u8>;
        pointer(at: VirtAddr) -> NonNull<u8>;
        bytes(range: VirtRange) -> Option<NonNull<u8>>;
    }
}

/// [`Mmio`] of this architecture.
pub mod mmio {
    // UNSAFETY: passes safety contracts on.
    #![expect(unsafe_code)]

    use super::{Arch, Mmio};
    use crate::mmio::Register;

    /// [`Mmio::load_register`]
    ///
    /// # Safety
    ///
    /// Those of [`Mmio::load_register`].
    #[inline(always)]
    pub unsafe fn load<T: Register>(at: *const T) -> T {
        // SAFETY: by the contract of this function.
        unsafe { Arch::load_register(at) }
    }

    /// [`Mmio::store_register`]
    ///
    /// # Safety
    ///
    /// Those of [`Mmio::store_register`].
    #[inline(always)]
    pub unsafe fn store<T: Register>(at: *mut T, value: T) {
        // SAFETY: by the contract of this function.
        unsafe { Arch::store_register(at, value) }
    }
}

/// [`Cpu`] and [`Clock`] of this architecture.
pub mod cpu {
    // UNSAFETY: passes safety contracts on.
    #![expect(unsafe_code)]

    use super::{Arch, Clock, Cpu, Cpus};
    pub use crate::area::{CpuArea, Launch};
    pub use crate::contract::{Exit, Features};
    use core::fmt;
    use hotmem_paging::addr::{PhysAddr, VirtAddr, VirtRange};

    functions! { Cpu:
        exit(exit: Exit) -> !;
        halt() -> !;
        enter(area: &'static CpuArea);
        number() -> usize;
        relax();
        clean_cache(range: VirtRange);
        enable_interrupts();
        disable_interrupts();
        interrupts_are_enabled() -> bool;
        mask_interrupts() -> bool;
        restore_interrupts(were_on: bool);
        enable_interrupts_and_wait();
        features() -> Features;
        mode() -> impl fmt::Display;
        set_up();
        frame_pointer() -> u64;
    }

    functions! { Clock:
        timestamp() -> u64;
        timestamp_hertz() -> u64;
        timestamp_is_known() -> bool;
        instructions() -> u64;
    }

    constants! { Cpus:
        LANDING_LIMIT: Option<PhysAddr>;
    }

    functions! { Cpus:
        fill_landing(page: &mut [u8], at: PhysAddr, launch: &'static Launch) -> Result<(), &'static str>;
    }

    /// [`Cpu::switch`]
    ///
    /// # Safety
    ///
    /// Those of [`Cpu::switch`].
    pub unsafe fn switch(root: PhysAddr, top: VirtAddr, main: extern "C" fn() -> !) -> ! {
        // SAFETY: by the contract of this function.
        unsafe { Arch::switch(root, top, main) }
    }
}

/// [`Io`] of this architecture.
pub mod io {
    use super::{Arch, Io};
    use crate::io::{IoError, Place};

    functions! { Io:
        read(place: Place, bytes: u32) -> Result<u64, IoError>;
        write(place: Place, bytes: u32, value: u64) -> Result<(), IoError>;
    }
}
