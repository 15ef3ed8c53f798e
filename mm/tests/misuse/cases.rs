//! Each function compiles with the lines of `right`, and with those of `wrong` has the error that is named.

use crate::addr::Pfn;
use crate::alloc::{Allocator, Waits};
use crate::machine::Machine;
use crate::memmap::whole::Whole;
use crate::paging::Mapper;

fn page_tables_need_a_guard<M: Machine>(allocator: &Allocator<M>) {
    let look = Waits::of(allocator).look();
    #[cfg(misuse = "right")]
    let memmap = look.seen();
    #[cfg(misuse = "wrong")]
    let memmap = &allocator.memmap;
    memmap.mapper().tlb(); //~ E0599
    drop(look);
}

fn the_turn_alone_does_not_give_the_page_tables<M: Machine>(allocator: &Allocator<M>) {
    #[cfg(misuse = "right")]
    let guard = allocator.operation().unwrap();
    #[cfg(misuse = "wrong")]
    let guard = allocator.take_turn().unwrap();
    guard.seen().mapper().tlb(); //~ E0599
}

fn what_was_seen_ends_with_its_guard<M: Machine>(allocator: &Allocator<M>, pfn: Pfn) {
    let operation = allocator.operation().unwrap();
    let memmap = operation.seen();
    #[cfg(misuse = "wrong")]
    drop(operation); //~ E0505
    memmap.section_at(pfn);
}

fn a_section_ends_with_the_look_up<M: Machine>(allocator: &Allocator<M>, pfn: Pfn) {
    let look_up = allocator.memmap.read(pfn);
    let here = look_up.here();
    #[cfg(misuse = "wrong")]
    drop(look_up); //~ E0505
    here.unwrap().page();
}

fn only_its_own_guard_shows_a_manager<M: Machine>(one: &Allocator<M>, other: &Allocator<M>) {
    let operation = one.operation().unwrap();
    #[cfg(misuse = "right")]
    let memmap = operation.seen();
    #[cfg(misuse = "wrong")]
    let memmap = Whole::vouched(&other.memmap); //~ E0133
    memmap.mapper();
    drop((operation, other.moment()));
}

fn a_look_up_does_not_show_all_memory<M: Machine>(allocator: &Allocator<M>, pfn: Pfn, other: Pfn) {
    #[cfg(misuse = "right")]
    let guard = allocator.operation().unwrap();
    #[cfg(misuse = "wrong")]
    let guard = allocator.memmap.read(pfn);
    guard.seen().section_at(other); //~ E0624
    drop(allocator.memmap.read(pfn));
}

fn a_look_up_takes_no_other_frame<M: Machine>(allocator: &Allocator<M>, pfn: Pfn, other: Pfn) {
    #[cfg(misuse = "right")]
    allocator.memmap.read(other).extent_head();
    #[cfg(misuse = "wrong")]
    allocator.memmap.read(pfn).extent_head(other); //~ E0061
    drop(allocator.memmap.read(pfn));
}
