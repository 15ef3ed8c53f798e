/*
 * Memory devices that are wrong in every way, and a few that are only unusual; below a bus that
 * asks to be looked at, and beside event methods that fail or notify nonsense.
 */
DefinitionBlock ("", "DSDT", 2, "HOTMEM", "ODD", 1)
{
    External (NOPE, IntObj)
    Scope (\_SB)
    {
        Device (D000) { Name (_HID, EisaId ("PNP0C80")) }
        Device (D001) { Name (_HID, EisaId ("PNP0C80")) Name (SEVN, 7) Method (_CRS) { Return (SEVN) } }
        // Cut off in the middle of its only descriptor
        Device (D002) { Name (_HID, EisaId ("PNP0C80")) Name (_CRS, Buffer () { 0x8A, 0x2B, 0x00, 0x00 }) }
        // One MiB that ends where it begins
        Device (D003)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Name (_CRS, Buffer () {
                0x8A, 0x2B, 0x00, 0x00, 0x0C, 0x03, 0, 0, 0, 0, 0, 0, 0, 0,
                0, 0, 0, 0x30, 0, 0, 0, 0,  0, 0, 0, 0x30, 0, 0, 0, 0,
                0, 0, 0, 0, 0, 0, 0, 0,     0, 0, 0x10, 0, 0, 0, 0, 0,  0x79, 0 })
        }
        // Past the end of the address space
        Device (D004)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Name (_CRS, Buffer () {
                0x8A, 0x2B, 0x00, 0x00, 0x0C, 0x03, 0, 0, 0, 0, 0, 0, 0, 0,
                0, 0, 0xF0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,  0xFF, 0xFF, 0x0F, 0, 0, 0, 0, 0,
                0, 0, 0, 0, 0, 0, 0, 0,     0, 0, 0x20, 0, 0, 0, 0, 0,  0x79, 0 })
        }
        Device (D005) { Name (_HID, EisaId ("PNP0C80")) Method (_STA) { Return (NOPE) } }
        Device (D006)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Method (_CRS, 0, Serialized) { Local0 = Buffer (2) { 0x79, 0 } While (One) { } Return (Local0) }
        }
        Device (D007)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Name (_CRS, ResourceTemplate () { IO (Decode16, 0x100, 0x100, 1, 1) })
        }
        Device (D008)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Name (_CRS, ResourceTemplate () { Memory32Fixed (ReadWrite, 0x30000000, 0x100000) })
            Method (_PXM) { Return (NOPE) }
        }
        // Nine ranges with holes between them
        Device (D009)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadWrite, 0x30000000, 0x100000)
                Memory32Fixed (ReadWrite, 0x30200000, 0x100000)
                Memory32Fixed (ReadWrite, 0x30400000, 0x100000)
                Memory32Fixed (ReadWrite, 0x30600000, 0x100000)
                Memory32Fixed (ReadWrite, 0x30800000, 0x100000)
                Memory32Fixed (ReadWrite, 0x30A00000, 0x100000)
                Memory32Fixed (ReadWrite, 0x30C00000, 0x100000)
                Memory32Fixed (ReadWrite, 0x30E00000, 0x100000)
                Memory32Fixed (ReadWrite, 0x31000000, 0x100000)
            })
        }
        // There, but turned off
        Device (D00A)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Name (_STA, 0x09)
            Name (_CRS, ResourceTemplate () { Memory32Fixed (ReadWrite, 0x30000000, 0x100000) })
        }
        // Unusual: no _STA, _PXM, _OST or _EJ0; three descriptors that are two ranges
        Device (D00B)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadWrite, 0x04000000, 0x100000)
                Memory32Fixed (ReadWrite, 0x04100000, 0x100000)
                IO (Decode16, 0x100, 0x100, 1, 1)
                Memory32Fixed (ReadWrite, 0x05000000, 0x200000)
            })
        }
        // Firmware's own memory, none of it RAM
        Device (D00D)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadOnly, 0x08000000, 0x100000)
                QWordMemory (ResourceConsumer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite, 0,
                    0x08100000, 0x081FFFFF, 0, 0x100000, , , , AddressRangeReserved, TypeStatic)
                QWordMemory (ResourceConsumer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite, 0,
                    0x08200000, 0x082FFFFF, 0, 0x100000, , , , AddressRangeACPI, TypeStatic)
                DWordMemory (ResourceConsumer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite, 0,
                    0x08300000, 0x083FFFFF, 0, 0x100000, , , , AddressRangeNVS, TypeStatic)
            })
        }
        // RAM behind firmware's own memory; a translation that only a bridge can have
        Device (D00E)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadOnly, 0x08000000, 0x100000)
                QWordMemory (ResourceConsumer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite, 0,
                    0x09000000, 0x090FFFFF, 0x1000000000, 0x100000)
            })
        }
        Device (BUSX)
        {
            Name (_HID, EisaId ("PNP0A05"))
            Name (HERE, 0)
            Device (D00C)
            {
                Name (_HID, EisaId ("PNP0C80"))
                Method (_STA) { Return (HERE) }
                Name (_CRS, ResourceTemplate () { Memory32Fixed (ReadWrite, 0x06000000, 0x100000) })
                Name (_PXM, 5)
            }
        }
    }
    Scope (\_GPE)
    {
        Method (_L05) { \_SB.BUSX.HERE = 0x0F Notify (\_SB.BUSX, 0) }
        Method (_L06) { Notify (\_SB.D00B, 0x80) Notify (\_SB.D00B, 0xFFFFFFFF) Notify (\_SB.BUSX, 0x80) }
        // A device check of a container: a device below it has come
        Method (_L08) { \_SB.BUSX.HERE = 0x0F Notify (\_SB.BUSX, 1) }
        Method (_L07) { Notify (\_SB.D00B, 3) \_SB.BUSX.HERE = NOPE }
    }
}
