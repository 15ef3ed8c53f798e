/*
 * Takes the lock that firmware shares with the system, when it starts.
 */
DefinitionBlock ("", "DSDT", 2, "HOTMEM", "LOCKED", 1)
{
    Method (\_SB._INI)
    {
        Acquire (\_GL, 0xFFFF)
        Release (\_GL)
    }
}
