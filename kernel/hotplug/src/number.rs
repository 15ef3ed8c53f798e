//! Numbers as people type them: `4096`, `0x1000`, `128M`.

/// A whole number: decimal, or hexadecimal after `0x`. `None` for anything else, or past 64 bits.
pub fn parse(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // `from_str_radix` would take a sign.
    let plain = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if plain { u64::from_str_radix(digits, radix).ok() } else { None }
}

/// A number of bytes: [`parse`]'s, or decimal with a unit of `K`, `M`, `G` or `T` (powers of 1024).
pub fn parse_size(text: &str) -> Option<u64> {
    let unit = match text.as_bytes().last()?.to_ascii_uppercase() {
        b'K' => 10,
        b'M' => 20,
        b'G' => 30,
        b'T' => 40,
        _ => return parse(text),
    };
    let count = parse(text.get(..text.len() - 1)?)?;
    count.checked_mul(1 << unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        assert_eq!(parse("0"), Some(0));
        assert_eq!(parse("18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse("0xFFFFFFFFFFFFFFFF"), Some(u64::MAX));
        for bad in ["", "0x", "-1", "+1", "1 ", "12z", "0xg", "18446744073709551616", "ä"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_take_binary_units() {
        assert_eq!(parse_size("128M"), Some(128 << 20));
        assert_eq!(parse_size("2g"), Some(2 << 30));
        assert_eq!(parse_size("0x100000000"), Some(1 << 32));
        for bad in ["", "M", "1X", "16777216T", "1Mi", "-1M", "ä"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
