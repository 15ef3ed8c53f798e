//! The life of memory on a machine whose MMU is the real one. One test: a process has one such machine.

// UNSAFETY: adds memory that the machine has, and looks by system call whether an address is mapped.
#![expect(unsafe_code)]

use hotmem::{
    Geometry, Mm, NodeId, Order, Pages, PhysAddr, PhysMem, PhysRange, Placement, ZoneKind,
};
use hotmem_hosted::{Hosted, boot};
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

const MIB: u64 = 1 << 20;

/// Whether this process may read `phys` in the linear map, according to the system and not to the manager's map: a
/// system call with an address without a translation fails, and does not end the process.
fn is_readable(mm: &Mm<Hosted>, phys: PhysAddr) -> bool {
    let at = mm.machine().linear_base().add(phys.get());
    let byte = std::ptr::with_exposed_provenance(at.get() as usize);
    let Ok((_reader, writer)) = std::io::pipe() else { return false };
    // SAFETY: the system reads a byte there, or returns `EFAULT`.
    unsafe { libc::write(writer.as_raw_fd(), byte, 1) == 1 }
}

/// Fills pages with words and reads them back.
fn holds(pages: &Pages<'_, Hosted>) -> bool {
    let seed = pages.pfn().get();
    let all = || (0..pages.order().pages()).filter_map(|index| pages.words(index));
    for words in all() {
        words.iter().zip(seed..).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
    }
    let read = all().map(|words| {
        words
            .iter()
            .zip(seed..)
            .filter(|(word, value)| word.load(Ordering::Relaxed) == *value)
            .count()
    });
    read.sum::<usize>() as u64 == pages.order().pages() * <Hosted>::PAGE_BYTES / 8
}

#[test]
fn memory_is_added_used_and_removed_and_then_the_mmu_has_no_translation() {
    let booted = boot().unwrap();
    let mm = &booted.mm;
    mm.verify().unwrap();
    let facts = |mm: &Mm<Hosted>| {
        let mut facts = Vec::new();
        mm.snapshot(&mut |fact| facts.push(fact));
        facts
    };
    let before = facts(mm);
    let dimm = PhysRange::new(booted.window.start(), 512 * MIB).unwrap();
    for placement in Placement::ALL {
        assert!(!is_readable(mm, dimm.start()));
        // SAFETY: the machine has memory there, which is not in use.
        unsafe { mm.add(dimm, NodeId::ZERO, placement) }.unwrap();
        for id in mm.blocks_in(dimm) {
            mm.online(id, ZoneKind::Normal).unwrap();
        }
        mm.verify().unwrap();
        let held: Vec<_> = (0..=9).map(|raw| mm.alloc(Order::new(raw).unwrap()).unwrap()).collect();
        assert!(held.iter().all(holds));
        // Kernel allocations prefer added memory.
        assert!(held.iter().all(|pages| dimm.contains(<Hosted>::address(pages.pfn()))));
        mm.verify().unwrap();
        drop(held);
        for id in mm.blocks_in(dimm) {
            mm.offline(id).unwrap();
        }
        assert!(is_readable(mm, dimm.start()));
        mm.remove(dimm).unwrap();
        assert!(!is_readable(mm, dimm.start()));
        mm.verify().unwrap();
        assert_eq!(facts(mm), before);
    }
}
