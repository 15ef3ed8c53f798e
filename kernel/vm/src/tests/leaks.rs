//! Nothing that a guest wrote is found where its memory was: after a move, after its end, or in another guest.

use super::*;
use crate::VcpuId;
use core::mem::MaybeUninit;
use hotmem::paging::PhysAddr;

/// What guest `vm` writes to each of its words.
fn marker(vm: u16) -> u64 {
    0x6d61_726b_0000_0000 | u64::from(vm)
}

/// The addresses of the words of a range.
fn words(start: u64, bytes: u64) -> impl Iterator<Item = PhysAddr> {
    (start..start + bytes).step_by(8).map(PhysAddr::new)
}

/// Writes a guest's marker to all of its memory, as the guest would.
fn mark(bench: &Bench<Tiny>, vms: &Vms<Fake, Soft>, id: VmId) {
    let bytes = vms.host.with_space(id.number(), |space| space.ram.len()).unwrap();
    for page in 0..bytes / PAGE {
        let at = pfn(vms, id, page).get() * PAGE;
        words(at, PAGE).for_each(|at| bench.mm.machine().mmu().poke(at, marker(id.number())));
    }
}

/// Words of all memory, at boot and plugged, that hold the marker of guest `vm`.
fn marked(bench: &Bench<Tiny>, vm: u16) -> u64 {
    let all = words(0, 16 * MIB).chain(words(WINDOW, 4 * MIB));
    all.filter(|at| bench.mm.machine().mmu().peek(*at) == marker(vm)).count() as u64
}

#[test]
fn a_frame_that_a_guest_moved_from_holds_nothing_of_it() {
    let (bench, vms) = machine();
    let id = guest(&vms, "a", MIB / 2);
    mark(bench, &vms, id);
    for block in FIRST..FIRST + 4 {
        bench.mm.offline(BlockId::new(block)).unwrap();
        assert_eq!(marked(bench, id.number()), MIB / 2 / 8, "block {block}");
        online(bench, block);
    }
    assert!(vms.status().next().unwrap().moved.pages >= 128);
}

#[test]
fn a_killed_guest_leaves_nothing_in_its_frames() {
    let (bench, vms) = machine();
    let (a, b) = (guest(&vms, "a", MIB / 2), guest(&vms, "b", MIB / 4));
    mark(bench, &vms, a);
    mark(bench, &vms, b);
    vms.kill(a).unwrap();
    assert_eq!((marked(bench, a.number()), marked(bench, b.number())), (0, MIB / 4 / 8));
    let mut tables = Vec::new();
    vms.visit_tables(b, &mut |table| tables.push(table.frame));
    assert!(tables.len() >= 3);
    vms.kill(b).unwrap();
    assert_eq!(marked(bench, b.number()), 0);
    // Its tables are cleared, too.
    let left = tables.into_iter().flat_map(|table| words(table.get(), PAGE));
    assert_eq!(left.filter(|at| bench.mm.machine().mmu().peek(*at) != 0).count(), 0);
}

#[test]
fn a_new_guest_finds_zeroes_behind_its_payload_whoever_had_the_memory_before() {
    let (bench, vms) = machine();
    // Everything that is free holds data of somebody else.
    let mut taken = Vec::new();
    while let Ok(pages) = bench.mm.alloc(Order::ZERO) {
        let words = pages.words(0).unwrap();
        words.iter().for_each(|word| word.store(marker(99), std::sync::atomic::Ordering::Relaxed));
        taken.push(pages);
    }
    let mut holders = Vec::new();
    let holder = Holder::register(bench);
    while let Some(handle) = holder.take_in_zone(bench, Order::ZERO) {
        holders.push(handle);
    }
    drop(taken);
    holders.into_iter().for_each(|handle| holder.release(bench, handle));
    let id = guest(&vms, "a", MIB);
    for page in 1..256 {
        let at = pfn(&vms, id, page).get() * PAGE;
        let found =
            words(at, PAGE).map(|at| bench.mm.machine().mmu().peek(at)).find(|&word| word != 0);
        assert_eq!(found, None, "page {page}");
    }
}

#[test]
fn without_scrubbing_the_frames_of_a_guest_stay_as_they_were() {
    let (bench, vms) = machine();
    vms.set_scrub(false);
    let id = guest(&vms, "a", MIB / 4);
    mark(bench, &vms, id);
    vms.kill(id).unwrap();
    // Page tables and the lists of free pages are elsewhere, so all of it is left.
    assert_eq!(marked(bench, id.number()), MIB / 4 / 8);
}

#[test]
fn a_page_with_bad_memory_is_not_written_when_a_guest_moves_from_it() {
    let (bench, vms) = machine();
    let id = guest(&vms, "a", MIB / 4);
    mark(bench, &vms, id);
    let bad = pfn(&vms, id, 7);
    bench.mm.poison(bad).unwrap();
    assert_ne!(pfn(&vms, id, 7), bad);
    let left = words(bad.get() * PAGE, PAGE);
    assert!(left.into_iter().all(|at| bench.mm.machine().mmu().peek(at) == marker(id.number())));
    // Of the rest of its block, which is not scrubbed before it leaves, nothing is left.
    bench.mm.offline(bench.mm.block_at(PhysAddr::new(bad.get() * PAGE))).unwrap();
    assert_eq!(marked(bench, id.number()), MIB / 4 / 8 + PAGE / 8);
    vms.verify().unwrap();
}

#[test]
fn registers_of_a_virtual_cpu_are_cleared_before_their_place_in_the_heap_is_free() {
    const ROUNDS: u64 = 0x5ec2_e75e_c2e7;
    let (_, vms) = machine();
    let id = guest(&vms, "a", MIB / 4);
    vms.start(id, ROUNDS, Misdeed::None, &[0]).unwrap();
    let place = vms.host.vcpu(VcpuId { vm: id, number: 0 }).unwrap();
    let mut vcpu = Box::new(MaybeUninit::new(*place.lock().take().unwrap()));
    // SAFETY: it was just made of a value.
    let registers = unsafe { vcpu.assume_init_ref() }.registers().unwrap();
    let (first, words) = ((&raw const *registers).cast::<u64>(), size_of_val(registers) / 8);
    let words = || {
        // SAFETY: the words are in the box, aligned, and the registers of this virtual CPU are words and nothing else;
        // after it is dropped they are what that wrote.
        (0..words).map(|at| unsafe { first.wrapping_add(at).read_volatile() }).collect::<Vec<_>>()
    };
    assert!(words().contains(&ROUNDS), "the rounds are in a register");
    // SAFETY: it holds a value, which is not used any more.
    unsafe { vcpu.assume_init_drop() };
    assert!(words().iter().all(|word| *word == 0), "{:x?}", words());
}
