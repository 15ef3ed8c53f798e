//! The nodes of CPUs, and the distances of nodes.

use super::tree::{FIRST, Tree, board};
use crate::board::Cpu;
use hotmem::NodeId;

fn node(raw: u32) -> NodeId {
    NodeId::new(raw).unwrap()
}

/// A tree with these reference points, memory and CPUs with these lists, and a table with these rows.
fn tree(points: &[u32], memory: &[&[u32]], cpus: &[(u32, &[u32])], rows: &[u32]) -> Vec<u8> {
    let mut tree = Tree::default();
    tree.begin("").begin("rtas");
    tree.cells("ibm,associativity-reference-points", points).end();
    for (index, list) in memory.iter().enumerate() {
        tree.begin(&format!("memory@{index}0000000")).bytes("device_type", b"memory\0");
        tree.cells("reg", &[0, (index as u32) << 28, 0, 1 << 28]);
        tree.cells("ibm,associativity", list).end();
    }
    tree.begin("cpus");
    for (server, list) in cpus {
        tree.begin(&format!("PowerPC,POWER9@{server:x}")).bytes("device_type", b"cpu\0");
        tree.cells("ibm,ppc-interrupt-server#s", &[*server, server + 1]);
        tree.cells("ibm,associativity", list).end();
    }
    tree.end().begin("ibm,dynamic-reconfiguration-memory");
    tree.cells("ibm,lmb-size", &[0, 1 << 28]);
    tree.cells("ibm,associativity-lookup-arrays", rows);
    tree.cells("ibm,dynamic-memory-v2", &[1, 1, 0, 0x4000_0000, FIRST, 0, 0]);
    tree.end().end().finish()
}

/// As QEMU describes nodes 0 and 2 that are near, and 1 and 3; CPUs have an entry more. Node 3 has no memory yet.
fn four_nodes(points: &[u32]) -> Vec<u8> {
    let memory: [&[u32]; 3] = [&[4, 0, 0, 0, 0], &[4, 0, 1, 1, 1], &[4, 0, 0, 0, 2]];
    let cpus: [(u32, &[u32]); 2] = [(0, &[5, 0, 0, 0, 0, 0]), (8, &[5, 0, 1, 1, 1, 8])];
    tree(points, &memory, &cpus, &[2, 4, 0, 0, 0, 0, 0, 1, 1, 3])
}

#[test]
fn every_thread_is_on_the_node_of_its_core() {
    let cpu = |server, raw| Cpu { server, node: node(raw) };
    let cpus = board(&four_nodes(&[4, 3, 2, 1])).cpus;
    assert_eq!(cpus, [cpu(0, 0), cpu(1, 0), cpu(8, 1), cpu(9, 1)]);
    // Without a list, with one that is too short, or with a node that cannot be.
    let lists: [&[u32]; 3] = [&[], &[4, 0, 0, 0], &[4, 0, 0, 0, 128]];
    let cpus: Vec<_> = lists.iter().zip([4, 6, 8]).map(|(&list, server)| (server, list)).collect();
    let board = board(&tree(&[4, 3, 2, 1], &[], &cpus, &[]));
    assert!(board.cpus.len() == 6 && board.cpus.iter().all(|cpu| cpu.node == node(0)));
    assert_eq!(board.distances.nodes().count(), 0);
}

#[test]
fn a_distance_doubles_with_each_domain_that_nodes_do_not_share() {
    let between = |points: &[u32], from, to| {
        board(&four_nodes(points)).distances.between(node(from), node(to))
    };
    let points = [4, 3, 2, 1];
    assert_eq!([0, 1, 2, 3].map(|to| between(&points, 0, to)), [10, 80, 20, 80].map(Some));
    assert_eq!([0, 1, 2, 3].map(|to| between(&points, 3, to)), [80, 20, 80, 10].map(Some));
    // One that is not described.
    assert_eq!([between(&points, 0, 4), between(&points, 4, 4)], [None, None]);
    // Only the nodes themselves; and more points than can count.
    assert_eq!([between(&[4], 0, 1), between(&[4], 1, 1)], [Some(20), Some(10)]);
    let many = [4, 3, 2, 3, 2, 3, 2];
    assert_eq!(between(&many, 0, 1), Some(160));
}

#[test]
fn points_outside_of_the_lists_and_tables_that_do_not_fit_change_no_distance() {
    let between = |points: &[u32]| board(&four_nodes(points)).distances.between(node(0), node(1));
    assert_eq!(between(&[4, u32::MAX, 3]), Some(20));
    // The node is the length of the list then, the same for all.
    assert_eq!(between(&[0]), None);
    assert_eq!(between(&[]), None);
    let lists: [&[u32]; 2] = [&[4, 0, 0, 0, 0], &[4, 1, 1, 1, 1]];
    // No row, rows of no length, rows that are longer than the table, and half a row.
    for rows in [&[][..], &[1], &[9, 0, 1, 1], &[1, u32::MAX, 1], &[2, 4, 0, 0, 0, 5, 0, 0]] {
        let board = board(&tree(&[4, 3, 2, 1], &lists, &[], rows));
        assert_eq!(board.distances.between(node(0), node(1)), Some(160), "{rows:?}");
    }
    // The first of two descriptions counts.
    let lists: [&[u32]; 3] = [&[4, 0, 0, 0, 0], &[4, 0, 0, 0, 1], &[4, 0, 0, 1, 1]];
    let board = board(&tree(&[4, 3, 2, 1], &lists, &[], &[]));
    assert_eq!(board.distances.between(node(0), node(1)), Some(20));
}
