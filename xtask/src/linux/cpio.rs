//! Archives in the format `newc` of cpio, which Linux reads as a file system and the kernel as its module.

/// What a name in an archive stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry<'a> {
    Folder,
    /// A character device, by its numbers.
    Device(u32, u32),
    Program(&'a [u8]),
    File(&'a [u8]),
}

/// The name behind the last entry.
const TRAILER: &str = "TRAILER!!!";

/// The archive with these entries.
pub(super) fn archive(entries: &[(&str, Entry<'_>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, entry) in entries {
        push(&mut out, name, *entry);
    }
    push(&mut out, TRAILER, Entry::File(&[]));
    out
}

fn push(out: &mut Vec<u8>, name: &str, entry: Entry<'_>) {
    let (mode, device, content) = match entry {
        Entry::Folder => (0o40_755, (0, 0), &[][..]),
        Entry::Device(major, minor) => (0o20_600, (major, minor), &[][..]),
        Entry::Program(content) => (0o100_755, (0, 0), content),
        Entry::File(content) => (0o100_644, (0, 0), content),
    };
    let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
    let name_bytes = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
    // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check.
    let numbers = [0, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_bytes, 0];
    out.extend_from_slice(b"070701");
    for number in numbers {
        out.extend_from_slice(format!("{number:08X}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    align(out);
    out.extend_from_slice(content);
    align(out);
}

/// Zeroes up to a multiple of four bytes.
pub(super) fn align(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::process::Command;

    #[test]
    fn an_archive_has_the_headers_names_and_contents_of_its_entries() {
        let archive = archive(&[("dev/kmsg", Entry::Device(1, 11)), ("a", Entry::File(b"12345"))]);
        let text = String::from_utf8_lossy(&archive);
        assert!(text.starts_with("0707010000000000002180"), "{text}");
        // The device's numbers, the length of its name, no checksum; then the name.
        assert!(text.contains("000000010000000B0000000900000000dev/kmsg\0"), "{text}");
        assert!(text.contains("0000000200000000a\0"), "{text}");
        assert!(
            text.contains("12345\0\0\x00070701") && text.ends_with("TRAILER!!!\0\0\0\0"),
            "{text}"
        );
        assert!(archive.len().is_multiple_of(4));
    }

    #[test]
    fn the_cpio_of_the_system_reads_it() {
        let Some(cpio) = crate::tool::find("cpio") else { return };
        let dir = Scratch::new().unwrap();
        let file = dir.path().join("a.cpio");
        let entries = [("bin", Entry::Folder), ("bin/init", Entry::Program(b"#!"))];
        std::fs::write(&file, archive(&entries)).unwrap();
        let input = std::fs::File::open(&file).unwrap();
        let output = Command::new(cpio).arg("-itv").stdin(input).output().unwrap();
        let list = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && list.contains("-rwxr-xr-x"), "{list}");
        assert!(list.contains(" bin/init"), "{list}");
    }
}
