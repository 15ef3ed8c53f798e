//! What is made wrong in kernel/vm: moves of guests' memory.

use crate::mutants::mutant::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        what: "memory of a guest is moved without a flush",
        file: "kernel/vm/src/space.rs",
        from: "        if let Err(error) = gather.conclude(cleared) {",
        to: "        core::mem::forget(gather);\n        if let Err(error) = cleared {",
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
        what: "memory that moves is found absent",
        file: "kernel/vm/src/space.rs",
        from: "if moving { Found::Moving } else { Found::Nothing }",
        to: "if moving { Found::Nothing } else { Found::Nothing }",
        suite: "-p hotmem-vm --lib",
        test: "memory_is_found_as_moving_while_it_moves_and_no_other_is",
    },
];
