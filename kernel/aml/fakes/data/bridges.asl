/*
 * Bridges to PCI: of another segment, of another bus, one that is not there, and that of bus 0.
 */
DefinitionBlock ("", "DSDT", 2, "HOTMEM", "BRIDGES", 1)
{
    External (NOPE, IntObj)
    Scope (\_SB)
    {
        Device (PCIA)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_SEG, 1)
            Name (_CRS, ResourceTemplate ()
            {
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                    0, 0x1000, 0x1FFF, 0, 0x1000)
            })
        }
        Device (PCIB)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Method (_BBN) { Return (0x40) }
            Name (_PRT, Package () { Package () { 0x0003FFFF, 1, Zero, 99 } })
        }
        Device (PCIC)
        {
            Name (_HID, EisaId ("PNP0A03"))
            Name (_STA, 0)
            Name (_PRT, Package () { Package () { 0x0003FFFF, 1, Zero, 98 } })
        }
        Device (MORE)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x04D0, 0x04D0, 1, 2)
                Memory32Fixed (ReadWrite, 0xB0000000, 0x10000000)
                QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                    0, 0x4010000000, 0x401FFFFFFF, 0, 0x10000000)
            })
        }
        Device (BRD)
        {
            Name (_HID, EisaId ("PNP0C01"))
#ifdef SHORT
            Name (_CRS, Buffer () { 0x87, 0x17, 0x00, 0x00 })
#else
            Name (_CRS, ResourceTemplate () { Memory32Fixed (ReadWrite, 0xFED00000, 0x1000) })
#endif
        }
        Device (PCI0)
        {
#ifdef OLD
            Name (_HID, EisaId ("PNP0A03"))
#else
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Name (_SEG, 0)
            Name (_BBN, 0)
#endif
            Method (_CRS)
            {
#ifdef BROKEN
                Local0 = NOPE
#endif
#ifdef NUMBER
                Local1 = 7
                If (One) { Return (Local1) }
#endif
#ifdef CUT
                // A descriptor that says that it is longer than the buffer
                If (One) { Return (Buffer () { 0x87, 0x17, 0x00, 0x00 }) }
#endif
                Return (ResourceTemplate ()
                {
#ifdef BESIDE
                    WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0x3F, 0, 0x40)
#else
                    WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0xFF, 0, 0x100)
#endif
                    DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                        0, 0x10000000, 0x3EFEFFFF, 0, 0x2EFF0000)
                    DWordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                        0, 0, 0xFFFF, 0x3EFF0000, 0x10000)
                    // At another address on the bus
                    QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                        0, 0x100000000, 0x1FFFFFFFF, 0x4000000000, 0x100000000)
                    QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                        0, 0x8000000000, 0xFFFFFFFFFF, 0, 0x8000000000)
                    // Registers of the bridge itself
                    Memory32Fixed (ReadWrite, 0x50000000, 0x10000)
                    Memory32 (ReadWrite, 0x51000000, 0x5100FFFF, 1, 0x10000)
                    DWordMemory (ResourceConsumer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                        0, 0x52000000, 0x52FFFFFF, 0, 0x1000000)
                    // One that firmware closed
                    QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                        0, 0, 0, 0, 0, , , NONE)
                })
            }
            Method (_PRT) { Return (ROWS) }
            Name (ROWS, Package ()
            {
                Package () { 0x0003FFFF, 0, LNKA, 0 },
                Package () { 0x0003FFFF, 1, LNKB, 1 },
                Package () { 0x0003FFFF, 2, Zero, 42 },
                Package () { 0x0003FFFF, 3, LNKC, 0 },
                // No source at all, and one function instead of all
                Package () { 0x0004FFFF, 0, "LNKA", 0 },
                Package () { 0x00050002, 0, LNKA, 0 },
                Package () { 0x0006FFFF, 0, LNKA, 1 },
                Package () { 0x0007FFFF },
                Package () { 0x001FFFFF, 0, LNKA, 0 },
                Package () { 0x0008FFFF, 0, LNKD, 0 },
                Package () { 0x0008FFFF, 1, LNKE, 0 },
                Package () { 0x0008FFFF, 2, LNKF, 0 },
                Package () { 0x0008FFFF, 3, LNKG, 0 },
            })
            // Not enabled, whatever its resources are; not there; connected to no interrupt; with a status that fails
            Device (LNKD)
            {
                Name (_HID, EisaId ("PNP0C0F"))
                Name (_STA, 9)
                Name (_CRS, ResourceTemplate ()
                {
                    Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive) { 38 }
                })
            }
            Device (LNKE)
            {
                Name (_HID, EisaId ("PNP0C0F"))
                Name (_STA, 0)
                Name (_CRS, ResourceTemplate ()
                {
                    Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive) { 39 }
                })
            }
            Device (LNKF)
            {
                Name (_HID, EisaId ("PNP0C0F"))
                Name (_CRS, ResourceTemplate ()
                {
                    Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive) { 0 }
                })
            }
            Device (LNKG)
            {
                Name (_HID, EisaId ("PNP0C0F"))
                Method (_STA) { Return (NOPE) }
                Name (_CRS, ResourceTemplate ()
                {
                    Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive) { 40 }
                })
            }
            Device (LNKA)
            {
                Name (_HID, EisaId ("PNP0C0F"))
                Name (_CRS, ResourceTemplate ()
                {
                    Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive) { 35 }
                })
            }
            Device (LNKB)
            {
                Name (_HID, EisaId ("PNP0C0F"))
                Method (_CRS)
                {
                    Return (ResourceTemplate ()
                    {
                        Memory32Fixed (ReadWrite, 0x1000, 0x1000)
                        Interrupt (ResourceConsumer, Level, ActiveLow, Shared) { 36, 37 }
                    })
                }
            }
            // Without resources
            Device (LNKC) { Name (_HID, EisaId ("PNP0C0F")) }
        }
    }
}
