/*
 * A memory hotplug controller that has nothing in common with QEMU's but what ACPI asks for:
 * other names, in another place of the tree, registers in memory, in another order, as bytes
 * and words, flags at other bits, and another event. The DSDT's integers have 32 bits.
 *
 *   +0x00 flags: 4 enabled, 5 inserting, 6 removing, 7 eject      +0x08 slot
 *   +0x0C OST event    +0x10 OST status    +0x18 node    +0x20 length    +0x28 address
 */
DefinitionBlock ("", "DSDT", 1, "HOTMEM", "MOVED", 1)
{
    Scope (\_SB)
    {
        Device (BRDG)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Device (DIMC)
            {
                Name (_HID, "HOTM0002")
                OperationRegion (REGS, SystemMemory, 0xFEDD0000, 0x30)
                Field (REGS, DWordAcc, NoLock, Preserve)
                {
                    Offset (0x08), SLOT, 32, OEVT, 32, OSTS, 32,
                    Offset (0x18), NODE, 32,
                    Offset (0x20), LENL, 32, LENH, 32, ADRL, 32, ADRH, 32
                }
                Field (REGS, ByteAcc, NoLock, WriteAsZeros)
                {
                    , 4, ENAB, 1, INSR, 1, REMV, 1, EJCT, 1
                }
                Mutex (GATE, 1)
                Name (CNT, 4)

                // The device to notify is looked up in a package instead of a chain of comparisons
                Name (TELL, Package () { STK0, STK1, STK2, ^^STK3 })
                Method (LOOK, 0, Serialized, 1)
                {
                    Local7 = CNT
                    Acquire (GATE, 0x1000)
                    While (Local7)
                    {
                        Local7--
                        SLOT = Local7
                        If (!(INSR || REMV)) { Continue }
                        Local1 = INSR
                        If (Local1) { Local2 = DerefOf (TELL [Local7]) Notify (Local2, 1) INSR = 1 }
                        Else { Local2 = DerefOf (TELL [Local7]) Notify (Local2, 3) REMV = 1 }
                    }
                    Release (GATE)
                }
                Method (RNGE, 1, Serialized)
                {
                    Name (RBUF, ResourceTemplate ()
                    {
                        QWordMemory (ResourceConsumer, PosDecode, MinFixed, MaxFixed, Cacheable,
                            ReadWrite, 0, 0, 0xFFFE, 0, 0xFFFF)
                    })
                    Acquire (GATE, 0xFFFF)
                    SLOT = Arg0
                    CreateField (RBUF, 14 * 8, 32, BASL)
                    CreateField (RBUF, 18 * 8, 32, BASH)
                    CreateDWordField (RBUF, 22, LSTL)
                    CreateDWordField (RBUF, 26, LSTH)
                    CreateDWordField (RBUF, 38, SIZL)
                    CreateDWordField (RBUF, 42, SIZH)
                    BASL = ADRL
                    BASH = ADRH
                    SIZL = ^LENL
                    SIZH = ^LENH
                    Release (GATE)
                    // last = address + (length - 1), with borrow and carry by hand
                    Local0 = SIZL
                    Local1 = SIZH
                    If (Local0 == 0) { Local1-- }
                    Local0--
                    Local2 = ADRL
                    LSTL = Local0 + Local2
                    LSTH = Local1 + ADRH
                    If (LSTL < Local2) { LSTH++ }
                    Return (RBUF)
                }
                Method (HERE, 1, Serialized)
                {
                    Acquire (GATE, 0xFFFF)
                    SLOT = Arg0
                    Local0 = ENAB * 0x0F
                    Release (GATE)
                    Return (Local0)
                }
                Method (NEAR, 1, Serialized)
                {
                    SLOT = Arg0
                    Return (NODE)
                }
                Method (GONE, 1, Serialized) { SLOT = Arg0 EJCT = 1 }
                Method (TOLD, 3, Serialized)
                {
                    SLOT = Arg0
                    OEVT = Arg1
                    OSTS = Arg2
                }
                Device (STK0)
                {
                    Name (_HID, EisaId ("PNP0C80"))
                    Name (_UID, 0)
                    Method (_STA) { Return (HERE (_UID)) }
                    Method (_CRS) { Return (RNGE (_UID)) }
                    Method (_PXM) { Return (NEAR (_UID)) }
                    Method (_EJ0, 1) { GONE (_UID) }
                    Method (_OST, 3) { TOLD (_UID, Arg0, Arg1) }
                }
                Device (STK1)
                {
                    Name (_HID, "PNP0C80")
                    Name (_UID, 1)
                    Method (_STA) { Return (HERE (_UID)) }
                    Method (_CRS) { Return (RNGE (_UID)) }
                    Method (_PXM) { Return (NEAR (_UID)) }
                    Method (_EJ0, 1) { GONE (_UID) }
                    Method (_OST, 3) { TOLD (_UID, Arg0, Arg1) }
                }
                Device (STK2)
                {
                    Method (_HID) { Return ("HOTM0003") }
                    Name (_CID, Package () { "HOTM0004", EisaId ("PNP0C80") })
                    Name (_UID, 2)
                    Method (_STA) { Return (HERE (_UID)) }
                    Method (_CRS) { Return (RNGE (_UID)) }
                    Method (_PXM) { Return (NEAR (_UID)) }
                    Method (_EJ0, 1) { GONE (_UID) }
                    Method (_OST, 3) { TOLD (_UID, Arg0, Arg1) }
                }
            }
        }
        // One that is not below its controller
        Device (STK3)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Name (_UID, 3)
            Method (_STA) { Return (^^BRDG.DIMC.HERE (_UID)) }
            Method (_CRS) { Return (^^BRDG.DIMC.RNGE (_UID)) }
            Method (_PXM) { Return (^^BRDG.DIMC.NEAR (_UID)) }
            Method (_EJ0, 1) { \_SB.BRDG.DIMC.GONE (_UID) }
            Method (_OST, 3) { \_SB.BRDG.DIMC.TOLD (_UID, Arg0, Arg1) }
        }
    }
    Scope (\_GPE)
    {
        Method (_L00) { }
        Method (_L1B) { \_SB.BRDG.DIMC.LOOK () }
    }
}
