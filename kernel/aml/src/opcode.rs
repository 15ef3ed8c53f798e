//! The opcodes of AML (ACPI 6.5, table 20.2). Extended ones are `0x5Bxx`.

/// Defines the constants and the table of their names.
macro_rules! opcodes {
    ($($name:ident = $code:literal),* $(,)?) => {
        $(pub(crate) const $name: u16 = $code;)*

        /// The name of an opcode, for messages.
        pub(crate) const fn name(code: u16) -> Option<&'static str> {
            match code {
                $($code => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

opcodes! {
    ZERO = 0x00, ONE = 0x01, ALIAS = 0x06, NAME = 0x08, BYTE = 0x0A, WORD = 0x0B, DWORD = 0x0C,
    STRING = 0x0D, QWORD = 0x0E, SCOPE = 0x10, BUFFER = 0x11, PACKAGE = 0x12, VAR_PACKAGE = 0x13,
    METHOD = 0x14, EXTERNAL = 0x15, LOCAL0 = 0x60, LOCAL7 = 0x67, ARG0 = 0x68, ARG6 = 0x6E,
    STORE = 0x70, REF_OF = 0x71, ADD = 0x72, CONCAT = 0x73, SUBTRACT = 0x74, INCREMENT = 0x75,
    DECREMENT = 0x76, MULTIPLY = 0x77, DIVIDE = 0x78, SHIFT_LEFT = 0x79, SHIFT_RIGHT = 0x7A,
    AND = 0x7B, NAND = 0x7C, OR = 0x7D, NOR = 0x7E, XOR = 0x7F, NOT = 0x80,
    FIND_SET_LEFT_BIT = 0x81, FIND_SET_RIGHT_BIT = 0x82, DEREF_OF = 0x83, CONCAT_RES = 0x84,
    MOD = 0x85, NOTIFY = 0x86, SIZE_OF = 0x87, INDEX = 0x88, MATCH = 0x89,
    CREATE_DWORD_FIELD = 0x8A, CREATE_WORD_FIELD = 0x8B, CREATE_BYTE_FIELD = 0x8C,
    CREATE_BIT_FIELD = 0x8D, OBJECT_TYPE = 0x8E, CREATE_QWORD_FIELD = 0x8F, LAND = 0x90,
    LOR = 0x91, LNOT = 0x92, LEQUAL = 0x93, LGREATER = 0x94, LLESS = 0x95, TO_BUFFER = 0x96,
    TO_DECIMAL_STRING = 0x97, TO_HEX_STRING = 0x98, TO_INTEGER = 0x99, TO_STRING = 0x9C,
    COPY_OBJECT = 0x9D, MID = 0x9E, CONTINUE = 0x9F, IF = 0xA0, ELSE = 0xA1, WHILE = 0xA2,
    NOOP = 0xA3, RETURN = 0xA4, BREAK = 0xA5, BREAK_POINT = 0xCC, ONES = 0xFF,
    MUTEX = 0x5B01, EVENT = 0x5B02, COND_REF_OF = 0x5B12, CREATE_FIELD = 0x5B13,
    LOAD_TABLE = 0x5B1F, LOAD = 0x5B20, STALL = 0x5B21, SLEEP = 0x5B22, ACQUIRE = 0x5B23,
    SIGNAL = 0x5B24, WAIT = 0x5B25, RESET = 0x5B26, RELEASE = 0x5B27, FROM_BCD = 0x5B28,
    TO_BCD = 0x5B29, UNLOAD = 0x5B2A, REVISION = 0x5B30, DEBUG = 0x5B31, FATAL = 0x5B32,
    TIMER = 0x5B33, REGION = 0x5B80, FIELD = 0x5B81, DEVICE = 0x5B82, PROCESSOR = 0x5B83,
    POWER_RESOURCE = 0x5B84, THERMAL_ZONE = 0x5B85, INDEX_FIELD = 0x5B86, BANK_FIELD = 0x5B87,
    DATA_REGION = 0x5B88,
}

/// The first byte of every extended opcode.
pub(crate) const EXTENDED: u8 = 0x5B;
