/*
 * Firmware that asks for the kernel's features, and reports in which order the methods were called:
 * 1 _OSC (capabilities, revision), 2 _INI, 3 _PIC (model, 0).
 */
DefinitionBlock ("", "DSDT", 2, "HOTMEM", "GREETS", 1)
{
    External (NOPE, IntObj)
    OperationRegion (BREG, SystemMemory, 0xD0000000, 0x18)
    Field (BREG, DWordAcc, NoLock, Preserve) { SL, 32, EV, 32, ST, 32 }
    Method (SAYS, 3, Serialized) { SL = Arg0 EV = Arg1 ST = Arg2 }
    Method (\_PIC, 1)
    {
        SAYS (3, Arg0, 0)
#ifdef BROKEN
        SAYS (3, NOPE, 0)
#endif
    }
    Scope (\_SB)
    {
        Method (_INI) { SAYS (2, 0, 0) }
        Method (_OSC, 4, Serialized)
        {
            CreateDWordField (Arg3, 0, STAT)
            CreateDWordField (Arg3, 4, CAPS)
#ifdef WIDE
            // As for a host bridge
            CreateDWordField (Arg3, 8, CTRL)
            Local0 = CTRL
            Local1 = 3
#else
            Local1 = 2
#endif
            If (Arg0 == ToUUID ("0811b06e-4a27-44f9-8d60-3cbbc22e7b48") && Arg2 == Local1 && STAT == 0)
            {
                SAYS (1, CAPS, Arg1)
            }
#ifdef BROKEN
            SAYS (1, NOPE, 0)
#endif
            STAT = 0x10
            Return (Arg3)
        }
    }
}
