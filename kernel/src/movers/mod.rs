//! Owners of movable pages: what a kernel has that can go elsewhere when a DIMM is to be pulled.
//!
//! ```text
//!   pool     handle --> page            pages that users hold by handles, and that may be pinned
//!   cache    (object, page) --> page    copies of objects, written back to the store they come from
//!   store    object --> pages           kernel memory: it stays where it is
//! ```
//!
//! Nobody outside an owner knows a page by its number, so the owner alone has to follow its move.

// UNSAFETY: reads and writes pages that an owner holds, through the linear map.
#![expect(unsafe_code)]

mod cache;
mod pool;
#[cfg(test)]
mod tests;

pub use cache::{Cache, CacheError, CacheStatus};
pub use pool::{Pool, PoolError, PoolStatus};

use hotmem::{Machine, Mm, Order, Pfn};

/// Copies whole pages, which both belong to one owner.
fn copy_pages<M: Machine>(mm: &Mm<M>, from: Pfn, to: Pfn, order: Order) {
    for page in 0..order.pages() {
        let source = mm.machine().pointer(M::address(from.add(page)));
        let target = mm.machine().pointer(M::address(to.add(page)));
        // SAFETY: two different pages of RAM that the allocator gave the calling owner, which holds its
        // lock: nobody else refers to either.
        unsafe { target.copy_from_nonoverlapping(source, M::PAGE_BYTES as usize) };
    }
}

/// Clears a page that belongs to the caller.
fn clear_page<M: Machine>(mm: &Mm<M>, pfn: Pfn) {
    let page = mm.machine().pointer(M::address(pfn));
    // SAFETY: a page of RAM that the allocator gave the calling owner; nobody else refers to it.
    unsafe { page.write_bytes(0, M::PAGE_BYTES as usize) };
}

/// Reads a byte of a page that belongs to the caller.
fn load<M: Machine>(mm: &Mm<M>, pfn: Pfn, offset: u64) -> u8 {
    let page = mm.machine().pointer(M::address(pfn));
    // SAFETY: inside a page of RAM that the allocator gave the calling owner: the offset is cut to it.
    let byte = unsafe { page.add((offset % M::PAGE_BYTES) as usize) };
    // SAFETY: as above; nobody else writes it.
    unsafe { byte.read() }
}

/// Writes a byte of a page that belongs to the caller.
fn store<M: Machine>(mm: &Mm<M>, pfn: Pfn, offset: u64, value: u8) {
    let page = mm.machine().pointer(M::address(pfn));
    // SAFETY: inside a page of RAM that the allocator gave the calling owner: the offset is cut to it.
    let byte = unsafe { page.add((offset % M::PAGE_BYTES) as usize) };
    // SAFETY: as above; nobody else refers to it.
    unsafe { byte.write(value) };
}
