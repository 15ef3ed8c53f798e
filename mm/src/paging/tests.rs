//! The walker on formats of our own; the storms also run on the real ones, in `hotmem-arch`.

use crate::testing::{OddPte, TinyPte, check_format, fail_each_allocation, storm};

#[test]
fn the_test_formats_keep_the_laws() {
    check_format::<TinyPte>(1);
    check_format::<OddPte>(2);
}

#[test]
fn a_storm_over_small_tables_agrees_with_the_model() {
    for seed in 0..8 {
        storm::<TinyPte>(seed, 250);
    }
}

#[test]
fn a_storm_over_uneven_tables_agrees_with_the_model() {
    for seed in 0..8 {
        storm::<OddPte>(seed, 150);
    }
}

#[test]
fn a_mapping_that_runs_out_of_frames_leaves_no_trace() {
    for seed in 0..4 {
        fail_each_allocation::<TinyPte>(seed, 60);
        fail_each_allocation::<OddPte>(seed, 60);
    }
}
