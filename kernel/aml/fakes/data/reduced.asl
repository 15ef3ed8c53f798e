/*
 * A hardware-reduced machine: no GPE block, but a Generic Event Device with two interrupts.
 * Registers as QEMU has them, in memory.
 */
DefinitionBlock ("", "DSDT", 2, "HOTMEM", "REDUCED", 1)
{
    Device (\_SB.EVTS)
    {
        Name (_HID, "ACPI0013")
        Name (_UID, Zero)
        Name (_CRS, ResourceTemplate ()
        {
            Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 41 }
            Interrupt (ResourceConsumer, Level, ActiveLow, Exclusive) { 42 }
        })
        OperationRegion (WHAT, SystemMemory, 0xD0008000, 4)
        Field (WHAT, DWordAcc, NoLock, WriteAsZeros) { EVTB, 32 }
#ifdef INDIRECT
        Method (SCAN, 0, Serialized) { If (EVTB & 4) { \_SB.BANK.POLL () } }
#endif
        Method (_EVT, 1, Serialized)
        {
            Switch (ToInteger (Arg0))
            {
#ifdef INDIRECT
                Case (41) { SCAN () }
#else
                Case (41) { If (EVTB & 4) { \_SB.BANK.POLL () } }
#endif
                Case (42) { Notify (\_SB.EVTS, 0x80) }
            }
        }
    }
    Device (\_SB.BANK)
    {
        Name (_HID, EisaId ("PNP0A06"))
        OperationRegion (BREG, SystemMemory, 0xD0000000, 0x18)
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
                Case (0) { Notify (A000, Arg1) }
                Case (1) { Notify (A001, Arg1) }
            }
        }
        Method (CRS0, 1, Serialized)
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
        Device (A000)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Name (_UID, "0")
            Method (_STA, 0, Serialized) { SL = ToInteger (_UID) If (EN) { Return (15) } Return (0) }
            Method (_CRS) { Return (CRS0 (ToInteger (_UID))) }
            Method (_PXM, 0, Serialized) { SL = ToInteger (_UID) Return (PX) }
            Method (_EJ0, 1, Serialized) { SL = ToInteger (_UID) EJ = 1 }
            Method (_OST, 3, Serialized) { SL = ToInteger (_UID) EV = Arg0 ST = Arg1 }
        }
        Device (A001)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Name (_UID, "1")
            Method (_STA, 0, Serialized) { SL = ToInteger (_UID) If (EN) { Return (15) } Return (0) }
            Method (_CRS) { Return (CRS0 (ToInteger (_UID))) }
            Method (_PXM, 0, Serialized) { SL = ToInteger (_UID) Return (PX) }
            Method (_EJ0, 1, Serialized) { SL = ToInteger (_UID) EJ = 1 }
            Method (_OST, 3, Serialized) { SL = ToInteger (_UID) EV = Arg0 ST = Arg1 }
        }
    }
}
