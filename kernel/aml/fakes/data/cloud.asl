/*
 * In the manner of cloud-hypervisor's x86_64: hardware-reduced, a Generic Event Device whose
 * event method asks one register what happened and calls a scan, a container that owns the
 * registers as its own resource, memory above 4 GiB, slots named by decimal digits, and a scan
 * that passes the slot to a method which notifies. Registers lie above 4 GiB.
 */
DefinitionBlock ("", "DSDT", 6, "HOTMEM", "CLOUD", 1)
{
    Scope (\_SB)
    {
        Device (MBRD)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_UID, Zero)
        }
        Device (GEC)
        {
            Name (_HID, "ACPI0013")
            Name (_UID, Zero)
            Name (_CRS, ResourceTemplate ()
            {
                Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 5 }
            })
            OperationRegion (GST, SystemMemory, 0xE80001000, 1)
            Field (GST, ByteAcc, NoLock, WriteAsZeros) { WHAT, 8 }
            Method (SCAN, 0, Serialized)
            {
                Local0 = WHAT
                If ((Local0 & 1) == 1) { \_SB.PRCS.PSCN () }
                If ((Local0 & 2) == 2) { \_SB.MEMS.MSCN () }
                If ((Local0 & 4) == 4) { Notify (\_SB.MBRD, 1) }
            }
            Method (_EVT, 1, Serialized) { SCAN () }
        }
        Device (PRCS)
        {
            Name (_HID, "ACPI0010")
            Name (_CID, EisaId ("PNP0A05"))
            Method (PSCN, 0, Serialized) { }
        }
        Device (MEMS)
        {
            Name (_HID, EisaId ("PNP0A06"))
            Name (_UID, "Memory Hotplug Controller")
            Mutex (MLCK, 0)
            Name (_CRS, ResourceTemplate ()
            {
                QWordMemory (ResourceConsumer, PosDecode, MinFixed, MaxFixed, Cacheable,
                    ReadWrite, 0, 0xE80000000, 0xE80000017, 0, 0x18)
            })
            OperationRegion (MREG, SystemMemory, 0xE80000000, 0x18)
            Field (MREG, DWordAcc, NoLock, Preserve)
            {
                BASL, 32, BASH, 32, SIZL, 32, SIZH, 32, PROX, 32
            }
            Field (MREG, DWordAcc, NoLock, Preserve) { MSEL, 32, MEVT, 32, MRES, 32 }
            Field (MREG, ByteAcc, NoLock, WriteAsZeros)
            {
                Offset (0x14), MENA, 1, MINS, 1, MREM, 1, MEJT, 1
            }
            Method (MSCN, 0, Serialized)
            {
                Acquire (MLCK, 0xFFFF)
                Local0 = 0
                While (Local0 < 3)
                {
                    MSEL = Local0
                    If (MINS == One)
                    {
                        MINS = One
                        MTFY (Local0, One)
                    }
                    If (MREM == One)
                    {
                        MREM = One
                        MTFY (Local0, 3)
                    }
                    Local0 += 1
                }
                Release (MLCK)
            }
            Method (MTFY, 2, Serialized)
            {
                If (Arg0 == 0) { Notify (M000, Arg1) }
                If (Arg0 == 1) { Notify (M001, Arg1) }
                If (Arg0 == 2) { Notify (M002, Arg1) }
            }
            Method (MSTA, 1, Serialized)
            {
                Acquire (MLCK, 0xFFFF)
                Local0 = Zero
                MSEL = Arg0
                If (MENA == One) { Local0 = 0xF }
                Release (MLCK)
                Return (Local0)
            }
            Method (MCRS, 1, Serialized)
            {
                Acquire (MLCK, 0xFFFF)
                MSEL = Arg0
                Name (MR64, ResourceTemplate ()
                {
                    QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable,
                        ReadWrite, 0, 0, 0xFFFFFFFFFFFFFFFE, 0, 0xFFFFFFFFFFFFFFFF)
                })
                CreateQWordField (MR64, 14, MINM)
                CreateDWordField (MR64, 14, MINL)
                CreateDWordField (MR64, 18, MINH)
                CreateQWordField (MR64, 22, MAXM)
                CreateQWordField (MR64, 38, LENM)
                CreateDWordField (MR64, 38, LENL)
                CreateDWordField (MR64, 42, LENH)
                MINL = BASL
                MINH = BASH
                LENL = SIZL
                LENH = SIZH
                MAXM = MINM + LENM - One
                Release (MLCK)
                Return (MR64)
            }
            Method (MEJ0, 1, Serialized)
            {
                Acquire (MLCK, 0xFFFF)
                MSEL = Arg0
                MEJT = One
                Release (MLCK)
            }
            Method (MOST, 3, Serialized)
            {
                Acquire (MLCK, 0xFFFF)
                MSEL = Arg0
                MEVT = Arg1
                MRES = Arg2
                Release (MLCK)
            }
            Method (MPXM, 1, Serialized) { MSEL = Arg0 Return (PROX) }
            Device (M000)
            {
                Name (_HID, EisaId ("PNP0C80"))
                Name (_UID, 0)
                Method (_STA) { Return (MSTA (_UID)) }
                Method (_CRS) { Return (MCRS (_UID)) }
                Method (_PXM) { Return (MPXM (_UID)) }
                Method (_EJ0, 1) { MEJ0 (_UID) }
                Method (_OST, 3) { MOST (_UID, Arg0, Arg1) }
            }
            Device (M001)
            {
                Name (_HID, EisaId ("PNP0C80"))
                Name (_UID, 1)
                Method (_STA) { Return (MSTA (_UID)) }
                Method (_CRS) { Return (MCRS (_UID)) }
                Method (_PXM) { Return (MPXM (_UID)) }
                Method (_EJ0, 1) { MEJ0 (_UID) }
                Method (_OST, 3) { MOST (_UID, Arg0, Arg1) }
            }
            Device (M002)
            {
                Name (_HID, EisaId ("PNP0C80"))
                Name (_UID, 2)
                Method (_STA) { Return (MSTA (_UID)) }
                Method (_CRS) { Return (MCRS (_UID)) }
                Method (_PXM) { Return (MPXM (_UID)) }
                Method (_EJ0, 1) { MEJ0 (_UID) }
                Method (_OST, 3) { MOST (_UID, Arg0, Arg1) }
            }
        }
    }
}
