/*
 * Every operator of AML once and at its edges. Each method without arguments below \OPS gives
 * one value, which the suite compares with what ACPICA gives for the same table.
 *
 * Compiled twice: NARROW makes integers 32 bits wide.
 */
#ifdef NARROW
DefinitionBlock ("", "DSDT", 1, "HOTMEM", "OPERATOR", 1)
#else
DefinitionBlock ("", "DSDT", 2, "HOTMEM", "OPERATOR", 1)
#endif
{
    Name (\INTG, 5)
    Name (\STRG, "abc")
    Name (\BUFF, Buffer (6) { 1, 2, 3, 4, 5, 6 })
    Name (\EMPT, Buffer (0) { })
    Name (\PACK, Package (4) { 1, "two", Buffer () { 3 }, Package () { 4, 5 } })
    Name (\FWRD, Package () { \LATR, \OPS.ADD1, \STRG })
    Name (\LATR, 0x77)
    Name (\BIGI, 0xFFFFFFFFFFFFFFFF)
    Alias (\INTG, \ALIA)
    Event (\EVNT)
    Mutex (\MTX0, 0)
    Mutex (\MTX3, 3)

    OperationRegion (\FLAT, SystemMemory, 0x10000000, 0x100)
    Field (\FLAT, ByteAcc, NoLock, Preserve)
    {
        FB0, 8, FB1, 4, FB2, 12, Offset (0x10), FBW, 64, FBX, 96, , 3, FBY, 7, FBZ, 29,
    }
    Field (\FLAT, DWordAcc, NoLock, WriteAsZeros)
    {
        Offset (0x40), FD0, 32, FD1, 5, FD2, 27, FD3, 48, FD4, 16
    }
    Field (\FLAT, WordAcc, NoLock, WriteAsOnes)
    {
        Offset (0x60), FW0, 3, FW1, 20, FW2, 9
    }
    Field (\FLAT, QWordAcc, NoLock, Preserve)
    {
        Offset (0x80), FQ0, 20, FQ1, 44, AccessAs (ByteAcc), FQ2, 8
    }
    OperationRegion (\IDXR, SystemIO, 0x70, 0x10)
    Field (\IDXR, ByteAcc, NoLock, Preserve) { IDX0, 8, DAT0, 8, Offset (8), BNK0, 2 }
    IndexField (IDX0, DAT0, ByteAcc, NoLock, Preserve)
    {
        Offset (4), IF0, 8, IF1, 4, IF2, 4
    }
    BankField (\FLAT, BNK0, 2, ByteAcc, NoLock, Preserve)
    {
        Offset (0xC0), BF0, 8, BF1, 16
    }

    Method (\ARGS, 7) { Return (Arg0 + Arg1 + Arg2 + Arg3 + Arg4 + Arg5 + Arg6) }
    Method (\NONE) { }
    Method (\BYRF, 1) { Arg0 = 0x99 }
    Method (\ELEM, 1) { Arg0 [1] = 0x88 }
    Method (\RECU, 1) { If (Arg0 == 0) { Return (0) } Return (Arg0 + RECU (Arg0 - 1)) }

    Scope (\) { Device (\OPS) { Name (_HID, "HOTM0001") } }
    Scope (\OPS)
    {
        // Arithmetic, with and without overflow
        Method (ADD1) { Return (0xFFFFFFFF + 2) }
        Method (ADD2) { Return (BIGI + 1) }
        Method (SUB1) { Return (3 - 5) }
        Method (MUL1) { Return (0x12345678 * 0x9ABCDEF) }
        Method (DIV1) { Return (100 / 7) }
        Method (DIV2) { Divide (100, 7, Local0, Local1) Return (Local0 * 1000 + Local1) }
        Method (MOD1) { Return (100 % 7) }
        Method (SHL1) { Return (1 << 31) }
        Method (SHL2) { Return (1 << 32) }
        Method (SHL3) { Return (3 << 63) }
        Method (SHR1) { Return (0x80000000 >> 31) }
        Method (SHR2) { Return (BIGI >> 60) }
        Method (SHR3) { Return (1 >> 64) }
        Method (AND1) { Return (0xF0F0 & 0xFF00) }
        Method (OR01) { Return (0xF0F0 | 0x0F00) }
        Method (XOR1) { Return (0xF0F0 ^ 0xFF00) }
        Method (NAN1) { NAnd (0xF0F0, 0xFF00, Local0) Return (Local0) }
        Method (NOR1) { NOr (0xF0F0, 0xFF00, Local0) Return (Local0) }
        Method (NOT1) { Return (~0xF0F0) }
        Method (INC1) { Local0 = 0xFFFFFFFF Local0++ Return (Local0) }
        Method (DEC1) { Local0 = 0 Local0-- Return (Local0) }
        Method (INC2) { INTG = 5 INTG++ ALIA++ Return (INTG) }
        Method (FSL1) { FindSetLeftBit (0x00F0, Local0) Return (Local0) }
        Method (FSL2) { FindSetLeftBit (0, Local0) Return (Local0) }
        Method (FSR1) { FindSetRightBit (0x00F0, Local0) Return (Local0) }
        Method (FSR2) { FindSetRightBit (0, Local0) Return (Local0) }
        Method (BCD1) { FromBCD (0x1234, Local0) Return (Local0) }
        Method (BCD2) { ToBCD (1234, Local0) Return (Local0) }
        Method (ONE1) { Return (Ones) }

        // Comparison and logic
        Method (LEQ1) { Return (5 == 5) }
        Method (LEQ2) { Return ("abc" == "abd") }
        Method (LEQ3) { Return (Buffer () { 1, 2 } == Buffer () { 1, 2 }) }
        Method (LEQ4) { Return (0x10 == "10") }
        Method (LEQ5) { Return (0x0201 == Buffer () { 1, 2 }) }
        Method (LGT1) { Return ("b" > "abc") }
        Method (LGT2) { Return (BIGI > 1) }
        Method (LLT1) { Return (Buffer () { 1, 2 } < Buffer () { 1, 2, 0 }) }
        Method (LLT2) { Return ("abc" < "abcd") }
        Method (LNE1) { Return (1 != 2) }
        Method (LLE1) { Return (2 <= 2) }
        Method (LGE1) { Return (1 >= 2) }
        Method (LAN1) { Return (5 && 0) }
        Method (LOR1) { Return (5 || 0) }
        Method (LNO1) { Return (!5) }

        // Conversions that are asked for
        Method (TIN1) { Return (ToInteger ("0x1F")) }
        Method (TIN2) { Return (ToInteger ("31")) }
        Method (TIN3) { Return (ToInteger (Buffer () { 1, 2, 3, 4, 5, 6, 7, 8 })) }
        Method (TIN4) { Return (ToInteger (Buffer () { 1, 2, 3 })) }
        Method (TIN5) { Return (ToInteger (" \t\v\f\n\r 123")) }
        Method (TIN6) { Local0 = " \t\v 1F" Return (Local0 + 1) }
        Method (TBU1) { Return (ToBuffer (0x12345678)) }
        Method (TBU2) { Return (ToBuffer ("abc")) }
        Method (TBU3) { Return (ToBuffer (BUFF)) }
        Method (THX1) { Return (ToHexString (0xABC)) }
        Method (THX2) { Return (ToHexString (Buffer () { 1, 0xAB })) }
        Method (THX3) { Return (ToHexString ("abc")) }
        Method (TDC1) { Return (ToDecimalString (1234)) }
        Method (TDC2) { Return (ToDecimalString (Buffer () { 1, 200 })) }
        Method (TDC3) { Return (ToDecimalString (0)) }
        Method (TST1) { Return (ToString (Buffer () { 0x41, 0x42, 0, 0x43 })) }
        Method (TST2) { Return (ToString (Buffer () { 0x41, 0x42, 0x43 }, 2)) }

        // Conversions that happen on the way
        Method (CNV1) { Return ("10" + 1) }
        Method (CNV2) { Return (Buffer () { 5 } + 1) }
        Method (CNV3) { Return ("0x10" + 1) }
        Method (CNV4) { INTG = "2F" Local0 = INTG INTG = 5 Return (Local0) }
        Method (CNV5) { STRG = 0x2F Local0 = STRG STRG = "abc" Return (Local0) }
        Method (CNV6) { Name (B, Buffer (3) { }) B = 0x01020304 Return (B) }
        Method (CNV7) { Name (B, Buffer (6) { 9, 9, 9, 9, 9, 9 }) B = "ab" Return (B) }
        Method (CNV8) { STRG = Buffer () { 1, 0x2F } Local0 = STRG STRG = "abc" Return (Local0) }
        Method (CNV9) { EMPT = Buffer () { 7, 8 } Return (EMPT) }
        Method (CNVA) { Return ("zz" + 1) }

        // Strings, buffers and packages as wholes
        Method (CAT1) { Return (Concatenate ("abc", "def")) }
        Method (CAT2) { Return (Concatenate (0x1234, 0x5678)) }
        Method (CAT3) { Return (Concatenate (Buffer () { 1 }, Buffer () { 2, 3 })) }
        Method (CAT4) { Return (Concatenate ("abc", 0x1F)) }
        Method (CAT5) { Return (Concatenate (Buffer () { 1 }, "ab")) }
        Method (CAT6) { Return (Concatenate ("abc", Buffer () { 1, 0xAB })) }
        Method (CAT7) { Return (ConcatenateResTemplate (
            ResourceTemplate () { IO (Decode16, 0x10, 0x10, 1, 4) },
            ResourceTemplate () { Memory32Fixed (ReadWrite, 0x1000, 0x1000) })) }
        // Nothing, and something
        Method (CAT8) { Return (ConcatenateResTemplate (
            Buffer (Zero) {}, ResourceTemplate () { IO (Decode16, 0x10, 0x10, 1, 4) })) }
        Method (CAT9) { Return (ConcatenateResTemplate (Buffer (Zero) {}, Buffer (Zero) {})) }
        Method (MID1) { Return (Mid ("abcdef", 2, 3)) }
        Method (MID2) { Return (Mid (BUFF, 4, 10)) }
        Method (MID3) { Return (Mid ("abc", 5, 1)) }
        Method (SIZ1) { Return (SizeOf (STRG)) }
        Method (SIZ2) { Return (SizeOf (BUFF)) }
        Method (SIZ3) { Return (SizeOf (PACK)) }
        Method (SIZ4) { Local0 = Buffer (9) { } Return (SizeOf (Local0)) }
        Method (SIZ5) { Local0 = 7 Return (SizeOf (Local0)) }
        Method (SIZ6) { Local0 = "four" Local1 = RefOf (Local0) Return (SizeOf (Local1)) }
        Method (MAT1) { Return (Match (Package () { 1, 5, 9, 12 }, MGT, 4, MLT, 10, 0)) }
        Method (MAT2) { Return (Match (Package () { 1, 5, 9, 12 }, MEQ, 4, MTR, 0, 0)) }
        Method (MAT3) { Return (Match (Package () { 1, 5, 9, 12 }, MGE, 5, MLE, 12, 2)) }
        Method (PKG1) { Local0 = Package (3) { 1, "x" } Return (DerefOf (Local0 [1])) }
        Method (PKA1, 0, Serialized)
        {
            // Names that end with the method, as those of label methods of QEMU's NVDIMMs
            Local0 = Buffer () { 1, 2, 3, 4, 5, 6, 7, 8 }
            CreateDWordField (Local0, 0, PKF1)
            CreateField (Local0, 32, 24, PKF2)
            Name (PKF3, Buffer (Zero) { })
            ToBuffer (PKF2, PKF3)
            Name (PKF4, 9)
            Return (Package () { PKF1, PKF2, PKF3, PKF4 })
        }
        Method (PKA2) { Return (Package () { FB0, INTG, PACK }) }
        Method (PKA3, 0, Serialized) { Name (PKI1, 5) Local0 = Package () { PKI1 } PKI1 = 6 Return (DerefOf (Local0 [0])) }
        Method (PKA4) { Local0 = Package () { \OPS, ADD1 } Return (ObjectType (DerefOf (Local0 [0]))) }
        Method (PKG2) { Local0 = Package (Add (1, 2)) { 7, 8, 9 } Return (SizeOf (Local0)) }
        Method (PKG3) { Return (DerefOf (FWRD [0])) }
        Method (PKG4) { Return (DerefOf (DerefOf (PACK [3]) [1])) }
        Method (PKG5) { Local0 = PACK Local0 [0] = 0x55 Return (DerefOf (PACK [0])) }

        // References
        Method (IDX1) { Return (DerefOf (BUFF [3])) }
        Method (IDX2) { Local0 = BUFF Local0 [0] = 0xEE Return (Local0) }
        Method (IDX3) { Return (DerefOf (Index ("abc", 1))) }
        Method (IDX4) { Name (S, "abc") S [1] = 0x41 Return (S) }
        Method (REF1) { Local0 = 1 Local1 = RefOf (Local0) Return (DerefOf (Local1)) }
        Method (REF2) { Local0 = 1 BYRF (RefOf (Local0)) Return (Local0) }
        Method (REF3) { INTG = 5 BYRF (RefOf (INTG)) Local0 = INTG INTG = 5 Return (Local0) }
        Method (REF4) { Local0 = Buffer () { 1, 2, 3 } ELEM (Local0) Return (Local0) }
        Method (REF5) { Local0 = Package () { 1, 2 } ELEM (Local0) Return (DerefOf (Local0 [1])) }
        Method (REF6) { Local0 = "\\LATR" Return (DerefOf (Local0)) }
        Method (REF7) { Local0 = 1 BYRF (Local0) Return (Local0) }
        Method (CRO1) { Return (CondRefOf (\NOPE, Local0)) }
        Method (CRO2) { If (CondRefOf (\LATR, Local0)) { Return (DerefOf (Local0)) } Return (0) }
        Method (TYP1) { Return (ObjectType (INTG)) }
        Method (TYP2) { Return (ObjectType (STRG)) }
        Method (TYP3) { Return (ObjectType (BUFF)) }
        Method (TYP4) { Return (ObjectType (PACK)) }
        Method (TYP5) { Return (ObjectType (FB0)) }
        Method (TYP6) { Return (ObjectType (\OPS)) }
        Method (TYP7) { Return (ObjectType (EVNT)) }
        Method (TYP8) { Return (ObjectType (ADD1)) }
        Method (TYP9) { Return (ObjectType (MTX0)) }
        Method (TYPA) { Return (ObjectType (FLAT)) }
        Method (TYPB) { CreateByteField (BUFF, 0, XX) Return (ObjectType (XX)) }
        Method (TYPC) { Return (ObjectType (Local0)) }
        Method (COP1) { Name (X, 1) CopyObject ("str", X) Return (X) }
        Method (COP2) { Local0 = "s" CopyObject (Local0, Local1) Return (Local1) }

        // Buffer fields
        Method (BFL1) { Local0 = BUFF CreateDWordField (Local0, 1, X) Return (X) }
        Method (BFL2) { Local0 = BUFF CreateWordField (Local0, 1, X) X = 0xABCD Return (Local0) }
        Method (BFL3) { Local0 = Buffer (9) { } CreateQWordField (Local0, 1, X) X = 0x1122334455667788 Return (Local0) }
        Method (BFL4) { Local0 = BUFF CreateBitField (Local0, 9, X) Return (X) }
        Method (BFL5) { Local0 = BUFF CreateField (Local0, 3, 13, X) X = 0x1FFF Return (Local0) }
        Method (BFL6) { Local0 = BUFF CreateField (Local0, 4, 40, X) Return (X) }
        Method (BFL7) { Local0 = Buffer (12) { } CreateField (Local0, 5, 80, X) X = Buffer () { 0xFF, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xAA } Return (Local0) }
        Method (BFL8) { Local0 = Buffer (4) { 0, 0, 0, 0x10 } CreateDWordField (Local0, 0, X) Return (X < 1) }

        // Fields in registers; each leaves its registers behind for the next
        Method (FLD0) { FB0 = 0xA5 FB1 = 0x3 FB2 = 0x7FF Return (FB0 << 16 | FB1 << 12 | FB2) }
        Method (FLD1) { FBW = 0x1122334455667788 Return (FBW) }
        Method (FLD2) { FBX = Buffer () { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 } Return (FBX) }
        Method (FLD3) { FBY = 0x55 FBZ = 0x12345678 Return (FBZ) }
        Method (FLD4) { Return (FBY) }
        Method (FLD5) { FD0 = 0x89ABCDEF FD1 = 0x1F Return (FD2) }
        Method (FLD6) { FD2 = 0x7FFFFFF Return (FD1) }
        Method (FLD7) { FD3 = 0x0102030405 FD4 = 0xBEEF Return (FD3) }
        Method (FLD8) { FW0 = 2 Return (FW1) }
        Method (FLD9) { FW1 = 0 Return (FW2) }
        Method (FLDA) { FQ0 = 0xFEDCB FQ1 = 0x12345678 Return (FQ0) }
        Method (FLDB) { FQ2 = 0x5A Return (FQ1) }
        Method (FLDC) { IF0 = 0x3C IF1 = 5 Return (DAT0) }
        Method (FLDD) { IF2 = 9 Return (IDX0) }
        Method (FLDE) { BF0 = 0x77 Return (BNK0) }
        Method (FLDF) { BF1 = 0x1234 Return (BF1) }
        Method (FLDG) { FB0 = "12" Return (FB0) }
        Method (FLDH) { FBX = 7 Return (FBX) }

        // Control flow
        Method (IFE1) { If (0) { Return (1) } ElseIf (1) { Return (2) } Else { Return (3) } }
        Method (IFE2) { If (0) { Return (1) } Else { If (0) { Return (2) } Else { Return (3) } } }
        Method (WHL1) { Local0 = 0 While (Local0 < 10) { Local0++ } Return (Local0) }
        Method (WHL2) { Local0 = 0 While (1) { Local0++ If (Local0 == 5) { Break } } Return (Local0) }
        Method (WHL3)
        {
            Local0 = 0
            Local1 = 0
            While (Local0 < 10)
            {
                Local0++
                If (Local0 & 1) { Continue }
                Local1 += Local0
            }
            Return (Local1)
        }
        Method (WHL4) { Local1 = 0 For (Local0 = 0, Local0 < 4, Local0++) { While (1) { Local1++ Break } } Return (Local1) }
        Method (SWI1) { Local0 = 3 Switch (ToInteger (Local0)) { Case (1) { Return (1) } Case (3) { Return (33) } Default { Return (9) } } }
        Method (CAL1) { Return (ARGS (1, 2, 3, 4, 5, 6, 7)) }
        Method (CAL2) { Return (ARGS (ARGS (1, 1, 1, 1, 1, 1, 1), 2, 3, 4, 5, 6, 7)) }
        Method (CAL3) { Return (RECU (5)) }
        Method (CAL4) { NONE () Return (4) }
        Method (NAM1) { Name (LOCN, 8) Return (LOCN + ^^INTG) }
        Method (NAM2) { Return (NAM1 () + NAM1 ()) }
        Method (SCP1) { Return (^ADD1 ()) }
        Method (SYN1) { Acquire (MTX0, 0xFFFF) Acquire (MTX3, 0xFFFF) Release (MTX3) Release (MTX0) Return (1) }
        Method (SYN2) { Acquire (MTX0, 0xFFFF) Acquire (MTX0, 0xFFFF) Release (MTX0) Release (MTX0) Return (2) }
        Method (SYN3) { Signal (EVNT) Return (Wait (EVNT, 10)) }
        Method (SYN4) { Return (Wait (EVNT, 10)) }
        Method (SLP1) { Stall (10) Sleep (1) Return (1) }
        Method (OSI1) { Return (_OSI ("No such system")) }
        Method (UUI1) { Return (ToUUID ("33db4d5b-1ff7-401c-9657-7441c03dd766")) }
        Method (RES1) { Return (ResourceTemplate () {
            QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite, 0, 0x100000000, 0x13FFFFFFF, 0, 0x40000000)
            Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive) { 43 } }) }

        // What has to fail, and leave the next one alone
        Method (ERR1) { Return (1 / 0) }
        Method (ERR2) { Return (DerefOf (BUFF [6])) }
        Method (ERR3) { Release (MTX0) Return (1) }
        Method (ERR4) { Acquire (MTX3, 0xFFFF) Acquire (MTX0, 0xFFFF) Return (1) }
        Method (ERR5) { If (INTG == 999) { Local3 = 1 } Return (Local3 + 1) }
        Method (ERR6) { Local0 = PACK Return (Local0 + 1) }
        Method (ERR7) { CreateDWordField (BUFF, 4, XXXX) Return (1) }
        Method (ERR9) { FromBCD (0xABC, Local0) Return (Local0) }
        Method (LAST) { Acquire (MTX0, 0xFFFF) Release (MTX0) Return (0x900D) }
    }
}
