//! The label storage area of an NVDIMM, as byte code reads it: by `_LSI` and `_LSR` (ACPI 6.5, 6.5.10), or, on older machines, by
//! `_DSM` functions of the device's own interface (Intel, NVDIMM DSM Interface 1.6, functions 4 and 5).

use hotmem_aml::{Arg, NodeId, Value};

use super::error::LabelError;
use super::label::{Area, PIECE};
use crate::hardware::Hardware;
use crate::source::AcpiSource;
use crate::table::le;

/// The interface 4309AC30-0D11-11E4-9191-0800200C9A66, and the revision of it that is used.
const INTERFACE: [u8; 16] = [
    0x30, 0xac, 0x09, 0x43, 0x11, 0x0d, 0xe4, 0x11, 0x91, 0x91, 0x08, 0x00, 0x20, 0x0c, 0x9a, 0x66,
];
const REVISION: u64 = 1;
/// Functions of it: which ones there are, the size of the area, and bytes of the area.
const FUNCTIONS: u64 = 0;
const SIZE: u64 = 4;
const DATA: u64 = 5;

/// The status of a function that the device does not support.
const NOT_SUPPORTED: u64 = 1;
/// Bytes that a call reads at least.
const LEAST: usize = 64;

/// How the area is read.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// By this `_LSR`.
    Method(NodeId),
    /// By this `_DSM`.
    Interface(NodeId),
}

/// The area of one NVDIMM.
#[derive(Debug)]
pub(super) struct Storage<'a, H> {
    source: &'a mut AcpiSource<H>,
    way: Option<Way>,
    size: u32,
    /// Bytes that are transferred at once.
    most: usize,
}

impl<'a, H: Hardware> Storage<'a, H> {
    /// Finds the area of the NVDIMM whose device is `device`. One with no method for it has none; one with some of them has one
    /// that cannot be read.
    ///
    /// # Errors
    ///
    /// [`LabelError`] if its size cannot be read.
    pub(super) fn find(source: &'a mut AcpiSource<H>, device: NodeId) -> Result<Self, LabelError> {
        let child = |name| source.aml.child(device, name);
        let (info, read, own) = (child("_LSI"), child("_LSR"), child("_DSM"));
        let mut found = Self { source, way: None, size: 0, most: 0 };
        match (info, read, own) {
            (Some(info), Some(read), _) => match found.evaluate("_LSI", info, &[]) {
                Ok(value) => {
                    let sizes = sizes(value)?;
                    found.way = Some(Way::Method(read));
                    found.set_size(sizes);
                }
                Err(error) => {
                    let lacks = own.is_some_and(|own| found.lacks_area(own));
                    return if lacks { Ok(found) } else { Err(error) };
                }
            },
            (_, _, Some(own)) if found.has_functions(own)? => {
                found.way = Some(Way::Interface(own));
                let sizes = found.function(own, SIZE, &[], |bytes| {
                    Some((le(bytes, 4, 4)? as u32, le(bytes, 8, 4)?))
                })?;
                found.set_size(sizes);
            }
            (Some(_), None, _) => return Err(LabelError::Missing("_LSR")),
            (None, Some(_), _) => return Err(LabelError::Missing("_LSI")),
            _ => {}
        }
        Ok(found)
    }

    fn set_size(&mut self, (size, most): (u32, u64)) {
        self.size = size;
        // One that transfers less fails by name: reading it would take minutes.
        self.most = usize::try_from(most).unwrap_or(PIECE).clamp(LEAST, PIECE);
    }

    fn evaluate(
        &mut self,
        name: &'static str,
        method: NodeId,
        args: &[Arg<'_>],
    ) -> Result<Value<'_>, LabelError> {
        let (aml, mut host) = self.source.interpreter();
        let value = aml.evaluate(&mut host, method, args);
        value.map_err(|error| LabelError::Method(name, error))
    }

    /// Calls a function of the interface; `read` gets its output, which begins with a status.
    fn function<T>(
        &mut self,
        own: NodeId,
        number: u64,
        input: &[Arg<'_>],
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, LabelError> {
        let value = self.evaluate("_DSM", own, &call(number, input))?;
        let bytes = value.buffer().ok_or(LabelError::Value("_DSM"))?;
        match le(bytes, 0, 4) {
            Some(0) => read(bytes).ok_or(LabelError::Value("_DSM")),
            Some(status) => Err(LabelError::Status("_DSM", status)),
            None => Err(LabelError::Value("_DSM")),
        }
    }

    /// Whether the device says that it does not support the area: QEMU's `_LSI` fails then, for an NVDIMM without labels.
    fn lacks_area(&mut self, own: NodeId) -> bool {
        let output = self.evaluate("_DSM", own, &call(SIZE, &[]));
        let status = output.ok().and_then(|value| le(value.buffer()?, 0, 4));
        status == Some(NOT_SUPPORTED)
    }

    /// Whether the interface has the functions about the area: both, or neither.
    fn has_functions(&mut self, own: NodeId) -> Result<bool, LabelError> {
        let value = self.evaluate("_DSM", own, &call(FUNCTIONS, &[]))?;
        let bits = value.buffer().and_then(|bytes| bytes.first().copied());
        let bits = bits.ok_or(LabelError::Value("_DSM"))?;
        match [SIZE, DATA].map(|function| bits & 1 << function != 0) {
            [true, true] => Ok(true),
            [false, false] => Ok(false),
            [_, _] => Err(LabelError::Missing("a function of _DSM")),
        }
    }

    /// Reads at most so many bytes as are transferred at once.
    fn read_piece(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), LabelError> {
        let wanted = bytes.len() as u32;
        match self.way {
            None => Err(LabelError::Value("_LSR")),
            Some(Way::Method(read)) => {
                let args = [Arg::Integer(offset.into()), Arg::Integer(wanted.into())];
                let Value::Package(list) = self.evaluate("_LSR", read, &args)? else {
                    return Err(LabelError::Value("_LSR"));
                };
                match list.get(0).and_then(|status| status.integer()) {
                    Some(0) => copy(list.get(1).and_then(|value| value.buffer()), bytes)
                        .ok_or(LabelError::Value("_LSR")),
                    Some(status) => Err(LabelError::Status("_LSR", status)),
                    None => Err(LabelError::Value("_LSR")),
                }
            }
            Some(Way::Interface(own)) => {
                let [a, b, c, d] = offset.to_le_bytes();
                let [e, f, g, h] = wanted.to_le_bytes();
                let input = [a, b, c, d, e, f, g, h];
                self.function(own, DATA, &[Arg::Buffer(&input)], |output| {
                    copy(output.get(4..), bytes)
                })
            }
        }
    }
}

impl<H: Hardware> Area for Storage<'_, H> {
    fn size(&self) -> u32 {
        self.size
    }

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), LabelError> {
        let mut at = offset;
        for piece in bytes.chunks_mut(self.most) {
            self.read_piece(at, piece)?;
            at = at.saturating_add(piece.len() as u32);
        }
        Ok(())
    }
}

/// The arguments of a function of the interface.
const fn call<'a>(number: u64, input: &'a [Arg<'a>]) -> [Arg<'a>; 4] {
    [Arg::Buffer(&INTERFACE), Arg::Integer(REVISION), Arg::Integer(number), Arg::Package(input)]
}

/// The size of the area, and the bytes that are transferred at once, of what `_LSI` returned.
fn sizes(value: Value<'_>) -> Result<(u32, u64), LabelError> {
    let wrong = LabelError::Value("_LSI");
    let Value::Package(list) = value else { return Err(wrong) };
    let number = |index| list.get(index).and_then(|value| value.integer()).ok_or(wrong);
    match number(0)? {
        0 => Ok((u32::try_from(number(1)?).map_err(|_| wrong)?, number(2)?)),
        status => Err(LabelError::Status("_LSI", status)),
    }
}

/// Fills `bytes` with the start of what was read, if that is long enough.
fn copy(read: Option<&[u8]>, bytes: &mut [u8]) -> Option<()> {
    bytes.copy_from_slice(read?.get(..bytes.len())?);
    Some(())
}
