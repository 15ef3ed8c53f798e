//! The allocator's wing: only its caches, and what keeps a range out of them.

#[path = "../../src/alloc/class.rs"]
pub(crate) mod class;
#[path = "../../src/alloc/closing.rs"]
pub(crate) mod closing;
#[path = "../../src/alloc/links.rs"]
pub(crate) mod links;
#[path = "../../src/alloc/list.rs"]
pub(crate) mod list;
