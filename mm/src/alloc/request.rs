//! Requests to the allocator.

use crate::addr::{Order, Pfn};
use crate::alloc::node::NodeId;
use crate::alloc::owners::{ManagerId, User};
use crate::alloc::zone::ZoneKind;
use crate::memmap::page::Owner;

/// A request for `1 << order` pages, naturally aligned. An [`Order`] alone is a request for any node and zone that
/// the owner may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub(crate) order: Order,
    /// The order that the first page is aligned to: at least the size.
    pub(crate) align: Order,
    pub(crate) private: u64,
    node: Option<NodeId>,
    movable_zone: bool,
    /// The owner if the extent is unmovable, and the manager that knows its name.
    pub(crate) user: (Owner, Option<ManagerId>),
    /// The frame that it must end by.
    pub(crate) below: Option<Pfn>,
    /// Whether movable memory may use the floor of a system zone.
    pub(crate) uses_floor: bool,
    /// Whether each page's descriptor has the kernel's part, and not only the head's.
    pub(crate) meta_of_each: bool,
    /// Whether all bytes are zero.
    pub(crate) zeroed: bool,
}

impl From<Order> for Request {
    fn from(order: Order) -> Self {
        Self {
            order,
            align: order,
            private: 0,
            node: None,
            movable_zone: false,
            user: (Owner::Kernel, None),
            below: None,
            uses_floor: false,
            meta_of_each: false,
            zeroed: false,
        }
    }
}

impl Request {
    /// The request for the target of a migration, with metadata of each page if the source has that. It may use the
    /// floor of a system zone: the migration frees as much movable memory as it takes, and memory that
    /// `explain_offline` counts as room must be usable.
    pub(crate) fn for_move(order: Order, meta_of_each: bool) -> Self {
        Self { uses_floor: true, meta_of_each, ..order.into() }
    }

    /// Memory of `node` only.
    #[must_use]
    pub const fn on(self, node: NodeId) -> Self {
        Self { node: Some(node), ..self }
    }

    /// The first page is aligned to `align`, if that is more than the size.
    #[must_use]
    pub fn aligned(self, align: Order) -> Self {
        Self { align: align.max(self.order), ..self }
    }

    /// The extent has the owner's word `private`, 0 otherwise: see [`Mm::private`](crate::Mm::private).
    #[must_use]
    pub const fn with_private(self, private: u64) -> Self {
        Self { private, ..self }
    }

    /// Each page has the kernel's metadata, and not only the first: see [`Meta`](crate::Meta). This costs a store
    /// for each page, with no zone locked if there are many.
    #[must_use]
    pub const fn with_meta_of_each(self) -> Self {
        Self { meta_of_each: true, ..self }
    }

    /// All bytes are zero. Single pages of any node and zone come from those that
    /// [`Mm::zero_ahead`](crate::Mm::zero_ahead) cleared on this CPU, as long as there are any; others are cleared
    /// before the allocation returns, with no lock held.
    #[must_use]
    pub const fn zeroed(self) -> Self {
        Self { zeroed: true, ..self }
    }

    /// Memory that ends by the frame `below`, for a device that cannot address more. The extents up to there are
    /// searched one by one, with no lock held. If other CPUs take what is found, again and again, it fails.
    #[must_use]
    pub const fn below(self, below: Pfn) -> Self {
        Self { below: Some(below), ..self }
    }

    /// Allocated for `user`, whose name then appears in obstacles and refusals, if the memory is unmovable. Movable
    /// memory has the name of its owner.
    #[must_use]
    pub const fn named(self, user: &User) -> Self {
        Self { user: (Owner::Named(user.id()), Some(user.manager())), ..self }
    }

    /// Memory of movable zones only, from which no unmovable memory is allocated.
    #[must_use]
    pub const fn in_movable_zone(self) -> Self {
        Self { movable_zone: true, ..self }
    }

    /// Whether the request accepts any extent of the size.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.is_cacheable() && self.node.is_none() && !self.movable_zone
    }

    /// Whether the request accepts any zeroed page.
    pub(crate) fn is_plain_page_of_zeroes(&self) -> bool {
        self.order == Order::ZERO && self.zeroed && Self { zeroed: false, ..*self }.is_plain()
    }

    /// Whether the request accepts any extent of the size in the right zone.
    #[inline]
    pub(crate) fn is_cacheable(&self) -> bool {
        self.align == self.order && self.below.is_none() && !self.uses_floor && !self.zeroed
    }

    /// Whether the request accepts memory of a node's zone.
    pub(crate) fn takes(self, node: NodeId, kind: ZoneKind) -> bool {
        self.node.is_none_or(|wanted| wanted == node)
            && (!self.movable_zone || kind == ZoneKind::Movable)
    }
}
