//! The files that a machine is booted with, in one archive: cpio in the format `newc` (Linux,
//! `Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! ```text
//!   "070701", 13 numbers of 8 hexadecimal digits | name, 0 | to 4 bytes | content | to 4 bytes | next file
//! ```

/// Bytes of a header.
const HEADER: usize = 110;
/// The name behind the last file.
const TRAILER: &[u8] = b"TRAILER!!!";

/// The number with this index in a header.
fn number(header: &[u8], index: usize) -> Option<usize> {
    let digits = header.get(6 + 8 * index..)?.get(..8)?;
    digits.iter().try_fold(0, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(value << 4 | digit as usize)
    })
}

/// Takes the first file off an archive: its name, its content, and the rest.
fn first(archive: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let header = archive.get(..HEADER)?;
    if !header.starts_with(b"070701") && !header.starts_with(b"070702") {
        return None;
    }
    let (size, name_bytes) = (number(header, 6)?, number(header, 11)?);
    let name_end = HEADER.checked_add(name_bytes)?;
    let (_, name) = archive.get(HEADER..name_end)?.split_last()?;
    let begin = name_end.checked_next_multiple_of(4)?;
    let end = begin.checked_add(size)?;
    let rest = end.checked_next_multiple_of(4)?;
    Some((name, archive.get(begin..end)?, archive.get(rest..).unwrap_or_default()))
}

/// The content of the file `name`; `None` if the archive has none, or is broken before it.
pub fn find<'a>(mut archive: &'a [u8], name: &str) -> Option<&'a [u8]> {
    loop {
        let (found, content, rest) = first(archive)?;
        if found == name.as_bytes() {
            return Some(content);
        }
        if found == TRAILER {
            return None;
        }
        archive = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotmem::testing::Random;

    /// An archive of these files, as cpio writes it.
    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, content) in files.iter().chain([&("TRAILER!!!", [].as_slice())]) {
            let mut numbers = [0; 13];
            (numbers[6], numbers[11]) = (content.len(), name.len() + 1);
            out.extend(b"070701");
            numbers.iter().for_each(|number| out.extend(format!("{number:08X}").bytes()));
            out.extend(name.bytes().chain([0]));
            out.resize(out.len().next_multiple_of(4), 0);
            out.extend(*content);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }

    #[test]
    fn a_file_is_found_by_its_whole_name() {
        let archive = archive(&[("kernel", b"abcde"), ("initrd", &[7; 4096]), ("init", b"")]);
        assert_eq!(find(&archive, "kernel"), Some(b"abcde".as_slice()));
        assert_eq!(find(&archive, "initrd"), Some([7; 4096].as_slice()));
        assert_eq!(find(&archive, "init"), Some(b"".as_slice()));
        assert_eq!(find(&archive, "kern"), None);
        assert_eq!(find(b"an ELF or anything else", "kernel"), None);
    }

    #[test]
    fn no_damage_to_an_archive_causes_a_panic_or_content_from_elsewhere() {
        let good = archive(&[("kernel", &[1; 600]), ("initrd", &[2; 900])]);
        let mut random = Random::new(3);
        for _ in 0..50_000 {
            let mut bad = good.clone();
            bad.truncate(random.below(good.len() as u64 + 1) as usize);
            for _ in 0..random.below(4) {
                if !bad.is_empty() {
                    let at = random.below(bad.len() as u64) as usize;
                    bad[at] = *random.pick(b"0123456789abcdefF\0\xff");
                }
            }
            for name in ["kernel", "initrd"] {
                assert!(find(&bad, name).is_none_or(|content| content.len() <= bad.len()));
            }
        }
    }
}
