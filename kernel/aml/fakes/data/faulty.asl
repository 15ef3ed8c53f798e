/*
 * Faults that tables of real machines have, between definitions that are needed. ACPICA loads around
 * them; so does the evaluator.
 */
DefinitionBlock ("", "DSDT", 2, "HOTMEM", "FAULTY", 1)
{
    External (\_SB.NONE, DeviceObj)
    External (\GONE, IntObj)
    Name (FRST, 1)
    /* A device that this model of the machine does not have. */
    Device (\_SB.NONE.CHLD)
    {
        Name (\INNR, 2)
    }
    Device (\_SB.MEM0)
    {
        Name (_HID, EisaId ("PNP0C80"))
        Name (_STA, 0x0B)
        Method (TEST) { Return (0x42) }
    }
    /* A region at an address that another table should have defined, and its field. */
    OperationRegion (NVSR, SystemMemory, \GONE, 0x10)
    Field (NVSR, ByteAcc, NoLock, Preserve) { NVS0, 8 }
    /* A condition on it. */
    If (\GONE == 1)
    {
        Name (COND, 3)
    }
    Else
    {
        Name (OTHE, 4)
    }
    /* A field that does not fit its buffer. */
    Name (BUFF, Buffer (4) { 1, 2, 3, 4 })
    Name (SIXT, 16)
    CreateDWordField (BUFF, SIXT, PAST)
    CreateByteField (BUFF, 1, FITS)
    Method (LAST) { Return (FITS) }
    Method (USES) { Return (NVS0) }
}
