//! The payload for the interpreter.

use super::interpreter::{Op, instruction};
use crate::contract::{Misdeed, PAYLOAD_DONE, PAYLOAD_ROUND};

/// The registers: the first four are the arguments and the operands of calls.
const NUMBER: u8 = 0;
const A1: u8 = 1;
const A2: u8 = 2;
const A3: u8 = 3;
const A4: u8 = 4;
const MEMORY: u8 = 5;
const END: u8 = 6;
const ROUNDS: u8 = 7;
const ROUND: u8 = 8;
const WRONG: u8 = 9;
const SUM: u8 = 10;
const GAP: u8 = 11;
const LAST: u8 = 12;
const AT: u8 = 13;
const WORD: u8 = 14;
const SCRATCH: u8 = 15;
const MISDEED: u8 = 16;

/// The factors of a word: (address + round * second) * first.
const FIRST: i32 = 0x79b9_7f4b;
const SECOND: i32 = 0x1234_567b;

const fn three(op: Op, a: u8, b: u8, c: u8) -> u64 {
    instruction(op, [a, b, c], 0)
}

const fn with(op: Op, a: u8, b: u8, immediate: i32) -> u64 {
    instruction(op, [a, b, 0], immediate)
}

/// The word for the address in `AT`, in `WORD`: five instructions.
const fn word(index: usize) -> u64 {
    match index {
        0 => with(Op::Set, SCRATCH, 0, SECOND),
        1 => three(Op::Multiply, WORD, ROUND, SCRATCH),
        2 => three(Op::Add, WORD, WORD, AT),
        3 => with(Op::Set, SCRATCH, 0, FIRST),
        _ => three(Op::Multiply, WORD, WORD, SCRATCH),
    }
}

/// The counter, and the largest gap: three instructions.
const fn gap(index: usize) -> u64 {
    match index {
        0 => with(Op::Time, SCRATCH, 0, 0),
        1 => three(Op::Subtract, NUMBER, SCRATCH, LAST),
        _ => three(Op::Larger, GAP, GAP, NUMBER),
    }
}

/// The instructions.
const PROGRAM: [u64; 83] = [
    with(Op::AddTo, MEMORY, 0, 0),
    three(Op::Add, END, 0, A1),
    with(Op::AddTo, ROUNDS, A2, 0),
    with(Op::AddTo, MISDEED, A3, 0),
    with(Op::Set, ROUND, 0, 0),
    with(Op::Set, WRONG, 0, 0),
    with(Op::Set, SUM, 0, 0),
    with(Op::Set, GAP, 0, 0),
    // 8: search.
    with(Op::Set, SCRATCH, 0, Misdeed::Search as i32),
    with(Op::JumpUnlike, MISDEED, SCRATCH, 9),
    with(Op::Set, MISDEED, 0, Misdeed::None as i32),
    with(Op::AddTo, AT, MEMORY, 64),
    with(Op::Load, A1, AT, 0),
    with(Op::AddTo, WRONG, WRONG, 1),
    with(Op::JumpUnlike, A1, MISDEED, 2),
    with(Op::AddTo, WRONG, WRONG, -1),
    with(Op::AddTo, AT, AT, 8),
    with(Op::JumpBelow, AT, END, -5),
    with(Op::Time, LAST, 0, 0),
    // 19: a round.
    with(Op::AddTo, ROUND, ROUND, 1),
    with(Op::AddTo, AT, MEMORY, 0),
    // 21: write.
    word(0),
    word(1),
    word(2),
    word(3),
    word(4),
    with(Op::Store, WORD, AT, 0),
    gap(0),
    gap(1),
    gap(2),
    with(Op::AddTo, LAST, SCRATCH, 0),
    with(Op::AddTo, AT, AT, 8),
    with(Op::JumpBelow, AT, END, -11),
    with(Op::AddTo, AT, MEMORY, 0),
    // 34: read.
    word(0),
    word(1),
    word(2),
    word(3),
    word(4),
    with(Op::Load, A1, AT, 0),
    // Jumps are on inequality only: count the word as wrong, and take that back if it is right.
    with(Op::AddTo, WRONG, WRONG, 1),
    with(Op::JumpUnlike, A1, WORD, 2),
    with(Op::AddTo, WRONG, WRONG, -1),
    three(Op::Rotate, SUM, SUM, 0),
    three(Op::Add, SUM, SUM, A1),
    gap(0),
    gap(1),
    gap(2),
    with(Op::AddTo, LAST, SCRATCH, 0),
    with(Op::AddTo, AT, AT, 8),
    with(Op::JumpBelow, AT, END, -16),
    // 51: report.
    with(Op::Set, NUMBER, 0, PAYLOAD_ROUND as i32),
    with(Op::AddTo, A1, ROUND, 0),
    with(Op::AddTo, A2, WRONG, 0),
    with(Op::AddTo, A3, SUM, 0),
    with(Op::AddTo, A4, GAP, 0),
    with(Op::Call, 0, 0, 0),
    with(Op::Set, SCRATCH, 0, Misdeed::None as i32),
    with(Op::JumpUnlike, MISDEED, SCRATCH, 10),
    with(Op::JumpUnlike, ROUND, ROUNDS, -40),
    with(Op::Set, NUMBER, 0, PAYLOAD_DONE as i32),
    with(Op::AddTo, A1, ROUND, 0),
    with(Op::AddTo, A2, WRONG, 0),
    with(Op::AddTo, A3, SUM, 0),
    with(Op::AddTo, A4, GAP, 0),
    with(Op::Call, 0, 0, 0),
    with(Op::Wait, 0, 0, 0),
    with(Op::JumpUnlike, ROUND, NUMBER, -1),
    // 68: misdeeds.
    with(Op::Set, SCRATCH, 0, Misdeed::Store as i32),
    with(Op::JumpUnlike, MISDEED, SCRATCH, 2),
    with(Op::Store, 0, END, 0),
    with(Op::Set, SCRATCH, 0, Misdeed::Firmware as i32),
    with(Op::JumpUnlike, MISDEED, SCRATCH, 2),
    with(Op::Firmware, 0, 0, 0),
    with(Op::Set, SCRATCH, 0, Misdeed::Call as i32),
    with(Op::JumpUnlike, MISDEED, SCRATCH, 3),
    with(Op::Set, NUMBER, 0, 0xbad),
    with(Op::Call, 0, 0, 0),
    with(Op::Set, SCRATCH, 0, Misdeed::Jump as i32),
    with(Op::JumpUnlike, MISDEED, SCRATCH, 2),
    with(Op::JumpTo, 0, END, 0),
    with(Op::Wait, 0, 0, 0),
    with(Op::JumpUnlike, ROUND, END, -1),
];

/// The program, as bytes.
pub(super) static BYTES: [u8; PROGRAM.len() * 8] = {
    let mut bytes = [0; PROGRAM.len() * 8];
    let mut at = 0;
    while at < bytes.len() {
        bytes[at] = PROGRAM[at / 8].to_ne_bytes()[at % 8];
        at += 1;
    }
    bytes
};
