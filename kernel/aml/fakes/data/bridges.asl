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
                Return (ResourceTemplate ()
                {
                    WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0xFF, 0, 0x100)
                    DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                        0, 0x10000000, 0x3EFEFFFF, 0, 0x2EFF0000)
                    DWordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                        0, 0, 0xFFFF, 0x3EFF0000, 0x10000)
                    // At another address on the bus
                    QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                        0, 0x100000000, 0x1FFFFFFFF, 0x4000000000, 0x100000000)
                    QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                        0, 0x8000000000, 0xFFFFFFFFFF, 0, 0x8000000000)
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
            })
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
