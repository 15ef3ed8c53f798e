/*
 * Memory devices in containers. Registers as QEMU has them, in memory. The slots of reports by _OST:
 * 0 to 4 are devices, 100 to 103 containers, 200 is an _EJ0 of a device in a container.
 */
DefinitionBlock ("", "DSDT", 2, "HOTMEM", "BOXES", 1)
{
    OperationRegion (BREG, SystemMemory, 0xD0000000, 0x18)
    Field (BREG, DWordAcc, NoLock, Preserve) { BL, 32, BH, 32, LL, 32, LH, 32, PX, 32 }
    Field (BREG, DWordAcc, NoLock, Preserve) { SL, 32, EV, 32, ST, 32 }
    Field (BREG, ByteAcc, NoLock, WriteAsZeros) { Offset (0x14), EN, 1, IN, 1, RM, 1, EJ, 1 }
    Method (HERE, 1, Serialized) { SL = Arg0 If (EN) { Return (15) } Return (0) }
    Method (SAYS, 3, Serialized) { SL = Arg0 EV = Arg1 ST = Arg2 }
    Method (LETS, 1, Serialized) { SL = Arg0 EJ = 1 }
    Method (RNGE, 1, Serialized)
    {
        Local0 = ResourceTemplate ()
        {
            QWordMemory (ResourceConsumer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,
                0, 0, 0xFFFE, 0, 0xFFFF)
        }
        CreateQWordField (Local0, 14, MIN)
        CreateQWordField (Local0, 22, MAX)
        CreateQWordField (Local0, 38, LEN)
        SL = Arg0
        MIN = BH << 32 | BL
        LEN = LH << 32 | LL
        MAX = MIN + LEN - 1
        Return (Local0)
    }
    Scope (\_SB)
    {
        Device (PWRB) { Name (_HID, EisaId ("PNP0C0C")) }
        Device (BOX0)
        {
            Name (_HID, "ACPI0004")
            Name (_UID, 0)
            Name (_PXM, 3)
            Method (_EJ0, 1) { LETS (0) LETS (1) LETS (2) }
            Method (_OST, 3) { SAYS (100, Arg0, Arg1) }
            Device (MEM0)
            {
                Name (_HID, EisaId ("PNP0C80"))
                Method (_STA) { Return (HERE (0)) }
                Method (_CRS) { Return (RNGE (0)) }
                Method (_EJ0, 1) { SAYS (200, 0, 0) }
                Method (_OST, 3) { SAYS (0, Arg0, Arg1) }
            }
            Device (MEM1)
            {
                Name (_HID, EisaId ("PNP0C80"))
                Method (_STA) { Return (HERE (1)) }
                Method (_CRS) { Return (RNGE (1)) }
            }
            // Says for the device in it whether it is there
            Device (INNR)
            {
                Name (_HID, "ACPI0004")
                Name (_UID, 1)
                Method (_STA) { Return (HERE (2)) }
                Device (MEM2)
                {
                    Name (_HID, EisaId ("PNP0C80"))
                    Method (_CRS) { Return (RNGE (2)) }
                }
            }
        }
        // Has no way out
        Device (BOX1)
        {
            Name (_HID, EisaId ("PNP0A05"))
            Method (_OST, 3) { SAYS (101, Arg0, Arg1) }
            Device (MEM3)
            {
                Name (_HID, EisaId ("PNP0C80"))
                Method (_STA) { Return (HERE (3)) }
                Method (_CRS) { Return (RNGE (3)) }
                Name (_PXM, 200)
                Method (_EJ0, 1) { LETS (3) }
                Method (_OST, 3) { SAYS (3, Arg0, Arg1) }
            }
        }
        // Has a processor, too
        Device (BOX2)
        {
            Name (_HID, "ACPI0004")
            Name (_UID, 2)
            Method (_EJ0, 1) { LETS (4) }
            Method (_OST, 3) { SAYS (102, Arg0, Arg1) }
            Device (CPU0) { Name (_HID, "ACPI0007") Name (_UID, 0) }
            Device (MEM4)
            {
                Name (_HID, EisaId ("PNP0C80"))
                Method (_STA) { Return (HERE (4)) }
                Method (_CRS) { Return (RNGE (4)) }
            }
        }
        // Has nothing
        Device (BOX3)
        {
            Name (_HID, "ACPI0004")
            Name (_UID, 3)
            Method (_EJ0, 1) { SAYS (200, 0, 0) }
            Method (_OST, 3) { SAYS (103, Arg0, Arg1) }
        }
    }
    Scope (\_GPE)
    {
        Method (_L00) { Notify (\_SB.BOX0, 0) }
        Method (_L01) { Notify (\_SB.BOX0, 1) }
        Method (_L03) { Notify (\_SB.BOX0, 3) }
        // One device; and something that has no memory
        Method (_L05) { Notify (\_SB.BOX0.MEM0, 0) }
        Method (_L06) { Notify (\_SB.BOX0.MEM0, 1) }
        Method (_L07) { Notify (\_SB.BOX0.MEM0, 3) }
        Method (_L08) { Notify (\_SB.BOX2.CPU0, 1) }
        Method (_L09) { Notify (\_SB.BOX0.INNR, 3) }
        Method (_L0A) { Notify (\_SB.PWRB, 2) Notify (\_SB.BOX0, 0x80) }
        Method (_L0B) { Notify (\_SB.PWRB, 0x80) }
        Method (_L11) { Notify (\_SB.BOX1, 1) }
        Method (_L13) { Notify (\_SB.BOX1, 3) }
        Method (_L14) { Notify (\_SB.BOX1.MEM3, 1) }
        Method (_L21) { Notify (\_SB.BOX2, 1) }
        Method (_L23) { Notify (\_SB.BOX2, 3) }
        Method (_L33) { Notify (\_SB.BOX3, 3) }
        // Everything at once, the eject of a device too
        Method (_L04) { Notify (\_SB.BOX0, 3) Notify (\_SB.BOX0.MEM0, 3) Notify (\_SB.BOX0, 1) }
    }
}
