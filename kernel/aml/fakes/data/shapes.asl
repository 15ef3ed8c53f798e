/*
 * Memory devices in the shapes that are legal and not QEMU's: each says its memory, its kind or its
 * presence in another way. The first eight come one MiB at a time from 64 MiB on.
 */
DefinitionBlock ("", "DSDT", 2, "HOTMEM", "SHAPES", 1)
{
    Name (LATE, 0)
    Scope (\_SB)
    {
        Method (_OST, 3, Serialized) { TOLD = Arg1 }
        Name (TOLD, 0xFF)
        Device (M000)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Name (_CRS, ResourceTemplate ()
            {
                DWordMemory (ResourceConsumer, PosDecode, MinFixed, MaxFixed, Prefetchable, ReadWrite, 0,
                    0x04000000, 0x040FFFFF, 0, 0x100000)
            })
        }
        Device (M001)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Name (_CRS, ResourceTemplate ()
            {
                ExtendedMemory (ResourceConsumer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite, 0,
                    0x04100000, 0x041FFFFF, 0, 0x100000, 0x08)
            })
        }
        Device (M002)
        {
            Name (IDEN, "pnp0c80")
            Method (_HID) { Return (IDEN) }
            Name (_CRS, ResourceTemplate () { Memory32 (ReadWrite, 0x04200000, 0x042FFFFF, 1, 0x100000) })
        }
        // Known by what it is compatible with, in a list
        Device (M003)
        {
            Name (_HID, "ACME0001")
            Name (_CID, Package () { "ACME0002", EisaId ("PNP0C80") })
            Name (_CRS, ResourceTemplate () { Memory32Fixed (ReadWrite, 0x04300000, 0x100000) })
        }
        // _STA has more bits set than are checked
        Device (M004)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Name (_STA, 0x1F)
            Name (_CRS, ResourceTemplate () { Memory32Fixed (ReadWrite, 0x04400000, 0x100000) })
        }
        // Below a bus that is not present, and works
        Device (BUSY)
        {
            Name (_HID, EisaId ("PNP0A05"))
            Name (_STA, 0x08)
            Device (M005)
            {
                Name (_HID, EisaId ("PNP0C80"))
                Name (_CRS, ResourceTemplate () { Memory32Fixed (ReadWrite, 0x04500000, 0x100000) })
            }
        }
        // Is plugged later, and the root of all devices is notified
        Device (M006)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Method (_STA) { If (LATE) { Return (15) } Return (0) }
            Name (_CRS, ResourceTemplate () { Memory32Fixed (ReadWrite, 0x04600000, 0x100000) })
        }
        // Says nothing of any use
        Device (M007)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Name (TEXT, "yes")
            Method (_STA) { Return (TEXT) }
            Name (_CRS, ResourceTemplate () { Memory32Fixed (ReadWrite, 0x04700000, 0x100000) })
        }
    }
    Scope (\_GPE)
    {
        Method (_L02) { LATE = 1 Notify (\_SB, 0) }
    }
}
