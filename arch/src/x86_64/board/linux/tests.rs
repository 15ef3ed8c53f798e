//! A kernel is placed as the protocol says, and a bad image is refused.

extern crate std;

use super::*;
use hotmem_paging::testing::Random;
use std::vec;
use std::vec::Vec;

const MIB: u64 = 1 << 20;

/// A bzImage with one setup sector and a body of 4 KiB, which prefers 16 MiB and needs 1 MiB there.
fn image() -> Vec<u8> {
    let mut image = vec![0; 1024 + 4096];
    image[SETUP_SECTORS] = 1;
    image[PARAGRAPHS..][..4].copy_from_slice(&256_u32.to_le_bytes());
    image[HEADER_LENGTH] = 0x6a;
    image[MAGIC..][..4].copy_from_slice(b"HdrS");
    image[VERSION..][..2].copy_from_slice(&0x20f_u16.to_le_bytes());
    image[LOAD_FLAGS] = LOADED_HIGH;
    image[MORE_LOAD_FLAGS] = 0x7f;
    image[LAST_OF_DISK..][..4].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    image[LONGEST_COMMAND_LINE..][..4].copy_from_slice(&0x7ff_u32.to_le_bytes());
    image[PREFERRED..][..8].copy_from_slice(&(16 * MIB).to_le_bytes());
    image[NEEDED..][..4].copy_from_slice(&(MIB as u32).to_le_bytes());
    image[1024..].fill(0x90);
    image
}

/// The memory of a guest with a kernel in it.
fn placed(
    image: &[u8],
    disk: &[u8],
    line: &[&[u8]],
    bytes: u64,
) -> Result<(Vec<u8>, KernelStart), NoKernel> {
    let mut memory = vec![0; bytes as usize];
    let start = place(&Kernel::of(image)?, disk, line, (bytes, 1), &mut |at, bytes| {
        let slot = memory.get_mut(at.get() as usize..).and_then(|rest| rest.get_mut(..bytes.len()));
        slot.ok_or(NoKernel("outside"))?.copy_from_slice(bytes);
        Ok(())
    })?;
    Ok((memory, start))
}

fn number(memory: &[u8], at: u64, length: usize) -> u64 {
    let bytes = &memory[at as usize..][..length];
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[test]
fn a_kernel_finds_what_the_boot_protocol_promises() {
    let disk = [7; 5000];
    let (memory, start) = placed(&image(), &disk, &[b"one ", b"two"], 32 * MIB).unwrap();
    assert_eq!(start.entry.get(), 16 * MIB + 0x200);
    let params = start.arguments[0];
    let param = |at, length| number(&memory, params + at, length);
    assert_eq!(param(0x202, 4), 0x5372_6448, "HdrS");
    assert_eq!([param(0x1ef, 1), param(0x210, 1), param(0x211, 1)], [0, 0xff, 1]);
    assert_eq!(&memory[param(0x228, 4) as usize..][..8], b"one two\0");
    let (disk_at, disk_bytes) = (param(0x218, 4), param(0x21c, 4));
    assert_eq!((disk_at, disk_bytes), (32 * MIB - 8192, 5000));
    assert_eq!(&memory[disk_at as usize..][..5000], disk);
    assert_eq!(&memory[param(0x70, 8) as usize..][..8], b"RSD PTR ");
    assert_eq!(&memory[16 << 20..][..4096], [0x90; 4096]);
    // The protocol: segments 10h and 18h, and tables in which everything is where it is.
    assert_eq!(number(&memory, GDT + 0x10, 8), 0x00af_9b00_0000_ffff);
    assert_eq!(number(&memory, GDT + 0x18, 8), 0x00cf_9300_0000_ffff);
    assert_eq!(number(&memory, TABLES, 8) & !0xfff, TABLES_BELOW);
    for gib in 0..4 {
        assert_eq!(number(&memory, TABLES_BELOW + gib * 8, 8), gib << 30 | 0xe3);
    }
}

#[test]
fn the_map_of_memory_has_no_controllers_and_no_tables_in_it() {
    let map = |bytes| regions(bytes).collect::<Vec<_>>();
    let low = [(0, 0x9_f000, USABLE), (0x9_f000, 0x10_0000, RESERVED)];
    assert_eq!(map(32 * MIB), [&low[..], &[(0x10_0000, 32 * MIB, USABLE)]].concat());
    let high = [
        (0x10_0000, 0xfec0_0000, USABLE),
        (0xfec0_0000, 1 << 32, RESERVED),
        (1 << 32, 5 << 30, USABLE),
    ];
    assert_eq!(map(5 << 30), [&low[..], &high].concat());
}

#[test]
fn an_image_that_is_no_kernel_for_this_board_is_refused_by_name() {
    let refused = |change: fn(&mut Vec<u8>)| {
        let mut bad = image();
        change(&mut bad);
        placed(&bad, &[], &[], 32 * MIB).map(drop).unwrap_err().0
    };
    let lacks = "the kernel is not a bzImage: it lacks the setup header";
    assert_eq!(refused(|image| image.clear()), lacks);
    assert_eq!(refused(|image| image[MAGIC] = b'h'), lacks);
    let old = "the boot protocol of the kernel is older than 2.12";
    assert_eq!(refused(|image| image[VERSION] = 0xb), old);
    let entry = "the kernel has no 64-bit entry";
    assert_eq!(refused(|image| image[MORE_LOAD_FLAGS] = 0x7e), entry);
    assert_eq!(refused(|image| image[LOAD_FLAGS] = 0), entry);
    let short = "the kernel is shorter than its header says";
    assert_eq!(refused(|image| image.truncate(5119)), short);
    assert_eq!(refused(|image| image[HEADER_LENGTH] = 0x20), short);
    assert_eq!(refused(|image| image[PARAGRAPHS + 1] = 0), short, "without an entry");
    let asks = "the kernel asks for memory that guests do not have";
    assert_eq!(refused(|image| image[PREFERRED + 3] = 0), asks);
    assert_eq!(refused(|image| image[PREFERRED + 7] = 0xff), asks);
    let room = "the kernel does not fit the guest's memory";
    assert_eq!(refused(|image| image[NEEDED + 3] = 1), room);
}

#[test]
fn a_disk_or_a_command_line_that_does_not_fit_is_refused() {
    let disk = vec![0; 15 << 20];
    assert!(placed(&image(), &disk, &[], 32 * MIB).is_ok());
    let refused = placed(&image(), &[&disk[..], &[0]].concat(), &[], 32 * MIB);
    let why = "the initial RAM disk does not fit beside the kernel";
    assert_eq!(refused.map(drop), Err(NoKernel(why)));
    let long = [b'x'; 0x7ff];
    assert!(placed(&image(), &[], &[&long], 32 * MIB).is_ok());
    let refused = placed(&image(), &[], &[&long, b"y"], 32 * MIB);
    let why = "the command line is longer than the kernel allows";
    assert_eq!(refused.map(drop), Err(NoKernel(why)));
}

#[test]
fn any_header_is_placed_inside_the_memory_or_refused() {
    let mut random = Random::new(17);
    let mut refused = 0;
    for _ in 0..20_000 {
        let mut bad = image();
        bad.truncate(random.below(bad.len() as u64 * 4) as usize);
        for _ in 0..=random.below(3) {
            let at = HEADER + random.below((HEADER_END - HEADER) as u64) as usize;
            if let Some(byte) = bad.get_mut(at) {
                *byte = random.bits() as u8;
            }
        }
        let placed = Kernel::of(&bad).and_then(|kernel| {
            place(&kernel, &[1; 4097], &[b"quiet"], (18 * MIB, 1), &mut |at, bytes| {
                assert!(at.get() + bytes.len() as u64 <= 18 * MIB, "{at:?}");
                Ok(())
            })
        });
        refused += u32::from(placed.is_err());
    }
    assert!((1000..20_000).contains(&refused), "{refused}");
}

#[test]
fn numbers_have_as_many_digits_as_they_need() {
    for number in [0, 7, 10, 1_000_000, u64::MAX] {
        assert_eq!(Decimal::new(number).digits(), std::format!("{number}").as_bytes());
    }
}
