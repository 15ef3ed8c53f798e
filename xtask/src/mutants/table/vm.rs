//! What is made wrong in kernel/vm: moves of guests' memory.

use crate::mutants::mutant::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        what: "memory of a guest is moved without a flush",
        file: "kernel/vm/src/space.rs",
        from: "        note(&mut self.moving, &mut self.runs, run);\n        if let Err(error) = gather.conclude(cleared) {",
        to: "        note(&mut self.moving, &mut self.runs, run);\n        core::mem::forget(gather);\n        if let Err(error) = cleared {",
        suite: "-p hotmem-vm --lib",
        test: "an_extent_is_copied_after_its_leaf_was_cleared_and_flushed",
    },
    Mutant {
        what: "the leaf of memory that moves stays",
        file: "kernel/vm/src/space.rs",
        from: "                    cleared = cleared.and(self.tables.unmap(run, &mut gather));\n",
        to: "",
        suite: "-p hotmem-vm --lib",
        test: "a_page_that_is_mapped_again_while_it_moves_is_not_freed",
    },
    Mutant {
        what: "pages that moved are counted where they were",
        file: "kernel/vm/src/space.rs",
        from: "        self.pages_held.remove(from, pages * M::PAGE_BYTES);\n",
        to: "",
        suite: "-p hotmem-vm --lib",
        test: "a_page_that_is_mapped_again_while_it_moves_is_not_freed",
    },
    Mutant {
        what: "a leaf stays marked as moving",
        file: "kernel/vm/src/space.rs",
        from: "            self.take_back(moves.clone());\n        }\n        self.runs = 0;",
        to: "            self.take_back(moves.clone());\n        }",
        suite: "-p hotmem-vm --lib",
        test: "a_page_that_is_mapped_again_while_it_moves_is_not_freed",
    },
    Mutant {
        what: "a stop that begins inside a batch of moves does not count as one by moves",
        file: "kernel/vm/src/stops.rs",
        from: "!self.batches.is_multiple_of(2) || ",
        to: "",
        suite: "-p hotmem-vm --lib",
        test: "a_stop_that_begins_or_ends_inside_a_batch_of_another_cpu_is_one_by_moves",
    },
    Mutant {
        what: "a stop while an extent is copied ahead does not count as one by moves",
        file: "kernel/vm/src/pages.rs",
        from: "self.0.in_a_batch(|| self.copy_part(one, pages))",
        to: "self.copy_part(one, pages)",
        suite: "-p hotmem-vm --lib",
        test: "a_guest_that_waits_for_any_part_of_a_move_is_stopped_by_it",
    },
    Mutant {
        what: "memory that moves is found absent",
        file: "kernel/vm/src/space.rs",
        from: "if moving { Found::Moving } else { Found::Nothing }",
        to: "if moving { Found::Nothing } else { Found::Nothing }",
        suite: "-p hotmem-vm --lib",
        test: "memory_is_found_as_moving_while_it_moves_and_no_other_is",
    },
    Mutant {
        what: "a page that a guest stored to after its copy is not copied again",
        file: "kernel/vm/src/ahead.rs",
        from: "        (first..first + leaf.len() / M::PAGE_BYTES).for_each(|page| self.differ.add(page));",
        to: "        let _ = first;",
        suite: "-p hotmem-vm --lib",
        test: "a_page_that_is_stored_to_after_its_copy_is_copied_again_and_the_pause_is_short",
    },
    Mutant {
        what: "marks of a guest's stores are taken back without a flush",
        file: "kernel/vm/src/space.rs",
        from: "        gather.conclude(unmarked)\n",
        to: "        core::mem::forget(gather);\n        unmarked\n",
        suite: "-p hotmem-vm --lib",
        test: "the_guest_accesses_an_extent_until_the_last_pages_are_copied_and_its_copy_after_that",
    },
    Mutant {
        what: "the last pages of an extent are copied without a flush",
        file: "kernel/vm/src/space.rs",
        from: "        note(&mut self.moving, &mut self.runs, range);\n        if let Err(error) = gather.conclude(cleared) {",
        to: "        note(&mut self.moving, &mut self.runs, range);\n        core::mem::forget(gather);\n        if let Err(error) = cleared {",
        suite: "-p hotmem-vm --lib",
        test: "at_the_last_copy_the_guest_has_neither_the_extent_nor_its_copy",
    },
    Mutant {
        what: "an extent is mapped before its last pages are copied",
        file: "kernel/vm/src/pages.rs",
        from: "        ahead.copy::<M, P>(self.0.mm, one, u64::MAX);
        let moves = core::slice::from_ref(one);
        self.for_each_guest(moves, |space, number| space.map_batch(of(moves, number)));
",
        to: "        let moves = core::slice::from_ref(one);
        self.for_each_guest(moves, |space, number| space.map_batch(of(moves, number)));
        ahead.copy::<M, P>(self.0.mm, one, u64::MAX);
",
        suite: "-p hotmem-vm --lib",
        test: "at_the_last_copy_the_guest_has_neither_the_extent_nor_its_copy",
    },
    Mutant {
        what: "the copy of an extent stays when its guest ends half-way",
        file: "kernel/vm/src/pages.rs",
        from: "        if self.0.scrubs() {
            one.refuse();
",
        to: "        if false {
            one.refuse();
",
        suite: "-p hotmem-vm --lib",
        test: "a_guest_that_ends_at_any_step_leaves_nothing_and_the_offline_goes_on",
    },
];
