/*
 * Every kind of event that a machine can have: general-purpose events, some of which only wake it, block
 * devices, generic event devices; and some that are described but not there.
 */
DefinitionBlock ("", "DSDT", 2, "HOTMEM", "EVENTS", 1)
{
    Scope (\_SB)
    {
        Device (MEM0)
        {
            Name (_HID, EisaId ("PNP0C80"))
            Name (HERE, 0)
            Method (_STA) { Return (HERE) }
            Name (_CRS, ResourceTemplate () { Memory32Fixed (ReadWrite, 0x04000000, 0x100000) })
            Method (COME) { HERE = 15 Notify (MEM0, 1) }
        }
        Device (GPB0)
        {
            Name (_HID, "ACPI0006")
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x700, 0x700, 1, 2)
                Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive) { 20 }
            })
            Method (_L01) { \_SB.MEM0.COME () }
            Method (_E02) { }
            // No register has so many
            Method (_L08) { }
        }
        // Registers of an odd length; not there; shares the interrupt of the first
        Device (GPB1)
        {
            Name (_HID, "ACPI0006")
            Name (_CRS, ResourceTemplate () { IO (Decode16, 0x710, 0x710, 1, 3) })
            Method (_L00) { }
        }
        Device (GPB2)
        {
            Name (_HID, "ACPI0006")
            Name (_STA, 0)
            Name (_CRS, ResourceTemplate () { IO (Decode16, 0x720, 0x720, 1, 2) })
            Method (_L00) { }
        }
        Device (GPB3)
        {
            Name (_HID, "ACPI0006")
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadWrite, 0xD0009000, 2)
                Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive) { 20 }
            })
            Method (_L00) { }
        }
        Device (GED0)
        {
            Name (_HID, "ACPI0013")
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate () { Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive) { 41 } })
            Method (_EVT, 1) { }
        }
        Device (GED1)
        {
            Name (_HID, "ACPI0013")
            Name (_UID, 1)
            Name (_CRS, ResourceTemplate () { Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 42 } })
            Method (_E2A) { \_SB.MEM0.COME () }
        }
        Device (GED2)
        {
            Name (_HID, "ACPI0013")
            Name (_UID, 2)
            Name (_STA, 0)
            Name (_CRS, ResourceTemplate () { Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 77 } })
            Method (_EVT, 1) { }
        }
        Device (GONE)
        {
            Name (_HID, "ACPI0004")
            Name (_STA, 0)
            Device (GED3)
            {
                Name (_HID, "ACPI0013")
                Name (_UID, 3)
                Name (_CRS, ResourceTemplate () { Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 78 } })
                Method (_EVT, 1) { }
            }
        }
        Device (PWRB) { Name (_HID, EisaId ("PNP0C0C")) Name (_PRW, Package () { 0x1C, 4 }) }
        Device (SLPB)
        {
            Name (_HID, EisaId ("PNP0C0E"))
            Method (_PRW) { Return (Package () { Package () { \_SB.GPB0, 2 }, 4 }) }
        }
        Device (ODDW) { Name (_HID, EisaId ("PNP0C0D")) Name (SEVN, 7) Method (_PRW) { Return (SEVN) } }
    }
    Scope (\_GPE)
    {
        Method (_L03) { \_SB.MEM0.COME () }
        Method (_L1C) { }
    }
}
