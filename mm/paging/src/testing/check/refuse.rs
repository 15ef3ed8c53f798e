//! Requests that a mapper refuses in any state.

use super::super::std::vec::Vec;
use super::{Check, MapperRig};
use crate::addr::{Address, AddressRange, PhysAddr, Space};
use crate::{MapError, Mapper, Mapping, Translation};

impl<R: MapperRig<I>, I: Space> Check<'_, R, I> {
    /// Makes invalid requests, and an empty one.
    pub(super) fn refuse(&mut self) {
        self.refuse_the_same();
        self.refuse_pieces_of_pages();
        self.refuse_what_no_entry_names();

        let nothing = Mapping { len: 0, ..self.wish() };
        assert_eq!(self.map(&nothing), Ok(()), "nothing is mapped");
        let mut gather = self.gather();
        let unmapped = self.mapper("unmap").unmap(AddressRange::default(), &mut gather);
        assert_eq!(gather.conclude(unmapped), Ok(()), "nothing is unmapped");
        self.last = "after a map that was refused";
    }

    /// A leaf that exists is not mapped again.
    fn refuse_the_same(&mut self) {
        let leaves: Vec<_> = self.model.leaves().copied().collect();
        if leaves.is_empty() {
            return;
        }
        let Translation { virt, phys, len, attr } = *self.random.pick(&leaves);
        let same = self.map(&Mapping { virt, phys, len, attr, max_leaf: len });
        let why = "the translation that is there already is mapped";
        assert_eq!(same, Err(MapError::AlreadyMapped { at: virt }), "{why}");
    }

    fn refuse_pieces_of_pages(&mut self) {
        let (mapping, half) = (self.wish(), self.model.page() / 2);
        for wrong in [
            Mapping { virt: mapping.virt.add(half), ..mapping },
            Mapping { phys: mapping.phys.add(half), ..mapping },
            Mapping { len: mapping.len - half, ..mapping },
        ] {
            let Mapping { virt, phys, len, .. } = wrong;
            let result = self.map(&wrong);
            assert_eq!(result, Err(MapError::Misaligned { virt, phys, len }), "not whole pages");
        }
    }

    fn refuse_what_no_entry_names(&mut self) {
        let (mapping, page) = (self.wish(), self.model.page());
        let top = u64::MAX - (page - 1);
        for wrong in [
            Mapping { phys: PhysAddr::new(1 << 63), len: page, ..mapping },
            Mapping { phys: PhysAddr::new(top), len: page, ..mapping },
            Mapping { phys: PhysAddr::new(top), len: 2 * page, ..mapping },
            Mapping { virt: Address::new(top), len: 2 * page, ..mapping },
        ] {
            let Mapping { virt, phys, len, .. } = wrong;
            let result = self.map(&wrong);
            let right = matches!(result, Err(MapError::BeyondFormat { .. }));
            assert!(right, "{len:#x} bytes at {virt} to {phys}, which no entry names: {result:?}");
        }
    }
}
