//! What is made wrong in mm/paging: flushes, tables, undo, the shoot-down.

use crate::mutants::mutant::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        what: "tables are freed before the flush",
        file: "mm/paging/src/gather.rs",
        from: "        let flushed = self.tlb.flush(&self.cleared[..ranges]);\n        self.failed = self.failed.or(flushed.err());\n        for",
        to: "        let flushed: Result<(), NotFlushed> = Ok(());\n        for",
        suite: "-p hotmem-paging --lib",
        test: "nothing_is_freed_before_the_flush",
    },
    Mutant {
        what: "tables are freed though a CPU did not flush",
        file: "mm/paging/src/gather.rs",
        from: "            if flushed.is_ok() {",
        to: "            if true {",
        suite: "-p hotmem-paging --lib",
        test: "a_flush_that_fails_names_the_cpu_and_strands_the_tables",
    },
    Mutant {
        what: "a flush that failed is not reported",
        file: "mm/paging/src/gather.rs",
        from: "self.failed.map_or(Ok(()), Err)",
        to: "Ok(())",
        suite: "-p hotmem-paging --lib",
        test: "a_flush_that_fails_names_the_cpu_and_strands_the_tables",
    },
    Mutant {
        what: "the hull of two ranges ends with the first",
        file: "mm/paging/src/gather.rs",
        from: "gap(a).checked_add(a.len())?.max(gap(b).checked_add(b.len())?)",
        to: "gap(a).checked_add(a.len())?",
        suite: "-p hotmem-paging --lib",
        test: "a_gather_that_is_full_flushes_before_it_frees",
    },
    Mutant {
        what: "an unmap cuts a leaf at its start",
        file: "mm/paging/src/unmap.rs",
        from: "let start = if starts_well { None } else { cut(range.start()) };",
        to: "let start = None;",
        suite: "-p hotmem-paging --lib",
        test: "a_live_leaf_is_never_split",
    },
    Mutant {
        what: "an unmap cuts a leaf at its end",
        file: "mm/paging/src/unmap.rs",
        from: "let end = if ends_well { None } else { cut(last) };",
        to: "let end = None;",
        suite: "-p hotmem-paging --lib",
        test: "a_live_leaf_is_never_split",
    },
    Mutant {
        what: "leaves are cleared without a flush",
        file: "mm/paging/src/unmap.rs",
        from: "        gather.cleared(cleared);\n        if detaches",
        to: "        if detaches",
        suite: "-p hotmem-paging --lib",
        test: "a_correct_mapper_passes_the_check",
    },
    Mutant {
        what: "an empty table is not freed",
        file: "mm/paging/src/unmap.rs",
        from: "            && slots::is_empty_but(slots, end - leaves..end)\n",
        to: "            && false\n",
        suite: "-p hotmem-paging --lib",
        test: "a_table_that_a_cpu_may_walk_is_not_freed",
    },
];
