//! The allocator's wing, as far as its caches agree with who empties them.

#[path = "../../src/alloc/class.rs"]
pub(crate) mod class;
#[path = "../../src/alloc/closing.rs"]
pub(crate) mod closing;
#[path = "../../src/alloc/links.rs"]
pub(crate) mod links;
#[path = "../../src/alloc/list.rs"]
pub(crate) mod list;
