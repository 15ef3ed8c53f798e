//! The kernel's requests, and the responses.

use crate::boot::{BootInfo, MOST};
use crate::cpus::Cpu;
use crate::elf::Kernel;
use crate::memory::Memory;
use limine::request::{ExecutableAddressRequest, HhdmRequest, MemoryMapRequest};
use limine::request::{MpRequest, RsdpRequest, StackSizeRequest};

/// The revision of the protocol that is spoken here.
const REVISION: u64 = 3;
/// The first two words of the kernel's wish for a revision.
const BASE: [u64; 2] = [0xf956_2b2d_5c95_a6c8, 0x6a7b_3849_4453_6bdc];
/// What stands before the requests, and behind them.
const START: [u64; 4] =
    [0xf6b8_f4b3_9de7_d1ae, 0xfab9_1a69_40fc_b9cf, 0x785c_6ed0_15d3_e316, 0x181e_920a_7852_b9d9];
const END: [u64; 2] = [0xadc0_e053_1bb1_0d03, 0x9572_709f_3176_4c62];
/// The words of a request: its name, a revision, and the place for the response.
const NAME: usize = 4;
const RESPONSE: usize = 5;
/// Bytes of a stack, if the kernel does not say.
const STACK: u64 = 64 << 10;

/// Kinds of memory.
const USABLE: u64 = 0;
const LOADER: u64 = 5;
const KERNEL: u64 = 6;

/// What the kernel may ask for.
pub struct Facts<'f> {
    pub boot: &'f BootInfo,
    pub id: u32,
    pub cpus: &'static [Cpu],
    pub file: &'static [u8],
}

/// The words of the image that have requests: between the marks.
fn between(words: &mut [u64]) -> &mut [u64] {
    let start = words.windows(START.len()).rposition(|window| window == START);
    let end = words.windows(END.len()).position(|window| window == END);
    let (start, end) = (start.expect("a mark before the requests"), end.expect("one behind them"));
    &mut words[start + START.len()..end]
}

/// Where `words` have a request of that name.
fn find(words: &[u64], name: &[u64; 4]) -> Option<usize> {
    words.windows(NAME).position(|window| window == name)
}

/// The bytes that a stack is to have, by a request in the image.
pub fn stack_size(image: &mut [u64]) -> u64 {
    let words = between(image);
    let request = find(words, StackSizeRequest::new().id());
    request.map_or(STACK, |at| words[at + RESPONSE + 1].max(STACK).next_multiple_of(4096))
}

/// Writes the responses into the kernel's image. Nothing is allocated afterwards.
pub fn respond(kernel: &Kernel, facts: Facts<'_>, memory: &mut Memory) {
    let words = between(kernel.words());
    let base = words.windows(2).position(|window| window == BASE).expect("a revision");
    assert!(words[base + 2] == REVISION, "the kernel wants revision {}", words[base + 2]);
    (words[base + 1], words[base + 2]) = (REVISION, 0);

    let mut respond = |memory: &mut Memory, name: &[u64; 4], response: &[u64]| {
        let Some(at) = find(words, name) else { return };
        let place = memory.words(response.len());
        place.copy_from_slice(response);
        words[at + RESPONSE] = memory.high(place);
    };
    let offset = memory.offset;
    respond(memory, HhdmRequest::new().id(), &[0, offset]);
    respond(memory, RsdpRequest::new().id(), &[0, facts.boot.rsdp.as_u64()]);
    respond(memory, ExecutableAddressRequest::new().id(), &[0, kernel.phys, kernel.virt]);
    respond(memory, StackSizeRequest::new().id(), &[0]);
    let list = memory.words(facts.cpus.len());
    for (slot, cpu) in list.iter_mut().zip(facts.cpus) {
        *slot = memory.high(cpu);
    }
    let flags = u64::from(facts.id) << 32;
    let response = [0, flags, list.len() as u64, memory.high(list)];
    respond(memory, MpRequest::new().id(), &response);

    let (entries, list) = (memory.words(3 * PIECES), memory.words(PIECES));
    let place = memory.words(3);
    let (start, end) = (facts.boot.first_free, memory.end());
    let file = facts.file.as_ptr() as u64;
    let low = 1 << 20;
    // What is used, ascending. All below 1 MiB is firmware's and this program's.
    let used = [
        (0, low, LOADER),
        (low, kernel.phys, LOADER),
        (kernel.phys, kernel.phys + kernel.bytes, KERNEL),
        (kernel.phys + kernel.bytes, end, LOADER),
        (file, (file + facts.file.len() as u64).next_multiple_of(4096), KERNEL),
    ];
    assert!(start <= kernel.phys && end <= file, "the kernel's file is behind all else");
    let mut count = 0;
    let mut add = |from: u64, to: u64, kind: u64| {
        if from < to {
            entries[3 * count..][..3].copy_from_slice(&[from, to - from, kind]);
            list[count] = offset + (&raw const entries[3 * count]) as u64;
            count += 1;
        }
    };
    for &(at, len) in &facts.boot.ram[..facts.boot.ranges] {
        let (mut at, end) = (at.next_multiple_of(4096), (at + len) & !4095);
        for (from, to, kind) in used {
            let (from, to) = (from.clamp(at, end), to.clamp(at, end));
            if from < to {
                add(at, from, USABLE);
                add(from, to, kind);
                at = to;
            }
        }
        add(at, end, USABLE);
    }
    place.copy_from_slice(&[0, count as u64, memory.high(list)]);
    let at = find(words, MemoryMapRequest::new().id()).expect("a request for the memory map");
    words[at + RESPONSE] = memory.high(place);
}

/// Entries of the memory map at most: each range of RAM, cut by what is used.
const PIECES: usize = 12 + MOST;
