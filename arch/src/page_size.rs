//! The page size that an image is built for, on an architecture with several.
//!
//! The environment variable `HOTMEM_PAGE_SIZE` names it when the image is built: `4K`, `16K` or `64K`.

/// Log2 of the page size that `name` stands for, or `default` without a name; 0 if `name` is not a page size.
pub(crate) const fn page_shift(name: Option<&str>, default: u32) -> u32 {
    let Some(name) = name else { return default };
    match name.as_bytes() {
        b"4K" => 12,
        b"16K" => 14,
        b"64K" => 16,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_size_has_a_name() {
        let names = [None, Some("4K"), Some("16K"), Some("64K"), Some("32K")];
        assert_eq!(names.map(|name| page_shift(name, 12)), [12, 12, 14, 16, 0]);
    }
}
