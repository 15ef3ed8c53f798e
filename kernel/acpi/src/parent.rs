//! Devices that have memory devices below them: containers (ACPI0004), buses, whatever firmware puts
//! around memory. Firmware may announce one as a whole, or request its eject.

use alloc::vec::Vec;
use core::ops::Range;

use hotmem_aml::NodeId;
use hotmem_hotplug::Outcome;

use super::lists::push;
use super::pending::{Pending, Wanted};

/// The identifier of a container (ACPI 6.5, 9.12).
pub(super) const CONTAINER: &str = "ACPI0004";

/// A device around memory devices, and what is pending for it.
#[derive(Clone, Debug)]
pub(super) struct Parent {
    pub(super) node: NodeId,
    /// The memory devices below it, at any depth: they follow one another in the order of the tables.
    pub(super) members: Range<u16>,
    pub(super) pending: Pending,
}

/// A request about a parent that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub(super) parent: usize,
    pub(super) node: NodeId,
    pub(super) wanted: Wanted,
    pub(super) since: Option<u64>,
    /// The members: all of them, and those that are still to come.
    pub(super) first: u16,
    pub(super) next: u16,
    pub(super) end: u16,
    /// The member that the driver is at.
    pub(super) current: Option<u16>,
    /// The worst that happened.
    pub(super) worst: Outcome,
    /// The container's `_EJ0` was run.
    pub(super) ejected: bool,
    /// The container is not there any more, so there is nothing to eject.
    pub(super) absent: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Parents(Vec<Parent>);

impl Parents {
    /// Takes note that memory device `index` is below a node, or that the node is a container and the
    /// next memory device will have that index. Only while setting up; `false` if the heap is full.
    pub(super) fn push(&mut self, node: NodeId, members: Range<u16>) -> bool {
        if let Some(known) = self.0.iter_mut().rev().find(|parent| parent.node == node) {
            known.members.end = known.members.end.max(members.end);
            return true;
        }
        push(&mut self.0, Parent { node, members, pending: Pending::default() }).is_ok()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Parent> {
        self.0.get_mut(index)
    }

    /// The one that a node is.
    pub(super) fn of_node(&mut self, node: NodeId) -> Option<&mut Parent> {
        self.0.iter_mut().find(|parent| parent.node == node)
    }

    pub(super) fn any_pending(&self) -> bool {
        self.0.iter().any(|parent| parent.pending.is_any())
    }

    /// Takes the next thing that is pending.
    pub(super) fn take(&mut self) -> Option<(usize, Wanted, Option<u64>)> {
        let mut found = self.0.iter_mut().enumerate();
        found.find_map(|(index, parent)| {
            let (wanted, since) = parent.pending.take()?;
            Some((index, wanted, since))
        })
    }
}
