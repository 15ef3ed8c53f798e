/*
 * A PC with two memory slots, whose general-purpose event 3 tells of them. Registers as QEMU has them.
 */
DefinitionBlock ("", "DSDT", 2, "HOTMEM", "HOSTPC", 1)
{
    Scope (\_GPE) { Method (_E03) { \_SB.BANK.POLL () } }
    // What the mainboard keeps for itself: configuration space of PCI, and what a wrong table says is some
    Device (\_SB.BRD)
    {
        Name (_HID, EisaId ("PNP0C02"))
        Name (_CRS, ResourceTemplate ()
        {
            Memory32Fixed (ReadWrite, 0xB0000000, 0x04000000)
            Memory32Fixed (ReadWrite, 0x00000000, 0x00200000)
        })
    }
    Device (\_SB.BANK)
    {
        Name (_HID, EisaId ("PNP0A06"))
        OperationRegion (BREG, SystemIO, 0x0A00, 0x18)
        Field (BREG, DWordAcc, NoLock, Preserve) { BL, 32, BH, 32, LL, 32, LH, 32, PX, 32 }
        Field (BREG, DWordAcc, NoLock, Preserve) { SL, 32, EV, 32, ST, 32 }
        Field (BREG, ByteAcc, NoLock, WriteAsZeros) { Offset (0x14), EN, 1, IN, 1, RM, 1, EJ, 1 }
        Mutex (LK, 0)
        Method (POLL, 0, Serialized)
        {
            Acquire (LK, 0xFFFF)
            For (Local0 = 0, Local0 < 2, Local0++)
            {
                SL = Local0
                If (IN) { TELL (Local0, 1) IN = 1 }
                ElseIf (RM) { TELL (Local0, 3) RM = 1 }
            }
            Release (LK)
        }
        Method (TELL, 2)
        {
            Switch (Arg0)
            {
                Case (0) { Notify (DIM0, Arg1) }
                Case (1) { Notify (DIM1, Arg1) }
            }
        }
        Method (RNGE, 1, Serialized)
        {
            Local0 = ResourceTemplate ()
            {
                QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable,
                    ReadWrite, 0, 0, 0xFFFE, 0, 0xFFFF)
            }
            CreateQWordField (Local0, 14, MIN)
            CreateQWordField (Local0, 22, MAX)
            CreateQWordField (Local0, 38, LEN)
            Acquire (LK, 0xFFFF)
            SL = Arg0
            MIN = BH << 32 | BL
            LEN = LH << 32 | LL
            Release (LK)
            MAX = MIN + LEN - 1
            Return (Local0)
        }
        Device (DIM0)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Name (_UID, "0")
            Method (_STA, 0, Serialized) { SL = 0 If (EN) { Return (15) } Return (0) }
            Method (_CRS) { Return (RNGE (0)) }
            Method (_PXM, 0, Serialized) { SL = 0 Return (PX) }
            Method (_EJ0, 1, Serialized) { SL = 0 EJ = 1 }
            Method (_OST, 3, Serialized) { SL = 0 EV = Arg0 ST = Arg1 }
        }
        Device (DIM1)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Name (_UID, "1")
            Method (_STA, 0, Serialized) { SL = 1 If (EN) { Return (15) } Return (0) }
            Method (_CRS) { Return (RNGE (1)) }
            Method (_PXM, 0, Serialized) { SL = 1 Return (PX) }
            Method (_EJ0, 1, Serialized) { SL = 1 EJ = 1 }
            Method (_OST, 3, Serialized) { SL = 1 EV = Arg0 ST = Arg1 }
        }
    }
}
