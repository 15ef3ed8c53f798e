//! The allocator's wing: only its caches, what keeps a range out of them, and gauges of free memory.

#[path = "../../src/alloc/class.rs"]
pub(crate) mod class;
#[path = "../../src/alloc/closing.rs"]
pub(crate) mod closing;
#[path = "../../src/alloc/gauge.rs"]
pub(crate) mod gauge;
#[path = "../../src/alloc/links.rs"]
pub(crate) mod links;
#[path = "../../src/alloc/list.rs"]
pub(crate) mod list;
